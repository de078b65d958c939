"""A driver that is built once, and collections of KIM that belong to the tests alone."""

from __future__ import annotations

import functools
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kim_models import Candidate, make_model, parameters
from torch import nn

from adatom.deploy.kim.description import ModelDescription
from adatom.deploy.kim.doctor import examine
from adatom.deploy.kim.driver_install import (
    SOURCES,
    install_driver,
    installed_driver,
    torch_folder,
)
from adatom.deploy.kim.items import install_item
from adatom.deploy.kim.model_install import install_model
from adatom.deploy.kim.portable_model import write_portable_model
from adatom.deploy.kim.scripted_model import save_torchscript

Install = Callable[..., str]


def need_kim() -> None:
    """Skip where portable models cannot be built."""
    missing = [each for each in examine() if each.blocks and each.what != "model driver"]
    if missing:
        ways = "; ".join(f"{each.what}: {each.fix}" for each in missing)
        pytest.skip(f"needs what OpenKIM needs, and misses {ways}")


def _digest() -> str:
    """Change whenever the driver would be another one."""
    found = hashlib.sha256(str(torch_folder()).encode())
    found.update((torch_folder() / "version.py").read_bytes())
    for path in sorted(SOURCES.iterdir()):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()[:16]


@pytest.fixture(scope="session")
def kim_driver(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Install the driver into a collection of the tests; the build is kept for the next run."""
    need_kim()
    built = Path(request.config.cache.mkdir(f"kim-driver-{_digest()}"))
    empty = tmp_path_factory.mktemp("kim")
    folders = {
        "KIM_API_MODEL_DRIVERS_DIR": built,
        "KIM_API_PORTABLE_MODELS_DIR": empty / "models",
        "KIM_API_SIMULATOR_MODELS_DIR": empty / "simulators",
    }
    with pytest.MonkeyPatch.context() as patch:
        for variable, folder in folders.items():
            folder.mkdir(exist_ok=True)
            patch.setenv(variable, str(folder))
        patch.setenv("KIM_API_CONFIGURATION_FILE", str(empty / "configuration"))
        # The log that KIM writes belongs to no repository.
        patch.chdir(empty)
        if installed_driver() is None:
            shutil.rmtree(built)
            built.mkdir()
            install_driver("environment")
        yield built


@pytest.fixture(scope="session")
def install(kim_driver: Path, tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Return a function that writes and installs a TorchScript model, and gives its name."""

    def install_toy(
        model: nn.Module,
        about: ModelDescription,
        change: Callable[[Path], None] | None = None,
    ) -> str:
        folder = tmp_path_factory.mktemp("model")
        network = save_torchscript(model, folder / "network.pt")
        target = write_portable_model(folder / about.name, about, network, provenance={})
        if change is None:
            install_model(target, "environment")
        else:
            # Past adatom's own checks: the driver has to see what is wrong.
            change(target)
            install_item(target, about.name, "environment")
        return about.name

    return install_toy


@pytest.fixture(scope="session")
def make_tested(
    kim_driver: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Candidate]:
    """Return a function that gives one of the models of acceptance tests, installed once."""

    @functools.cache
    def make(label: str) -> Candidate:
        return make_model(label, tmp_path_factory.mktemp(label))

    return make


@pytest.fixture(params=parameters())
def tested(request: pytest.FixtureRequest, make_tested: Callable[[str], Candidate]) -> Candidate:
    """Return every model, one after the other; those that take long only among slow tests."""
    return make_tested(request.param)
