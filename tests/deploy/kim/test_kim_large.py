"""Weights of 200 MB, and of 1 GB, become part of a model without hurting the compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from kim_systems import named_systems
from kim_toys import RawToy, description, direct

from adatom.deploy.kim.calculator import KimCalculator
from adatom.deploy.kim.portable_model import write_portable_model
from adatom.deploy.kim.scripted_model import save_torchscript

pytestmark = pytest.mark.slow

INSTALL = """
import resource, sys
from adatom.deploy.kim.model_install import install_model
install_model(sys.argv[1], "environment")
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
"""


class Heavy(RawToy):
    """A potential that carries megabytes of noise."""

    def __init__(self, megabytes: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer(
            "ballast", torch.randint(2**62, (megabytes * 125_000,), generator=generator)
        )


@pytest.mark.parametrize(("megabytes", "memory"), [(200, 1e9), (1000, 4e9)])
def test_large_weights_install_in_a_minute(kim_driver, tmp_path, megabytes, memory):
    model = Heavy(megabytes)
    about = description(model, name=f"Heavy__MO_50000000{megabytes:04d}_000")
    network = save_torchscript(model, tmp_path / "heavy.pt")
    folder = write_portable_model(tmp_path / "heavy", about, network, provenance={})
    assert (folder / "model.pt").stat().st_size > megabytes * 1e6
    done = subprocess.run(
        [sys.executable, "-c", INSTALL, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # Time of processors: that of the clock depends on who else is working.
    seconds, resident = map(float, done.stdout.split())
    assert seconds < 60
    assert resident < memory
    atoms = named_systems()["one cell"]
    atoms.calc = KimCalculator(about.name)
    # The driver compared the checksum of what it unpacked.
    assert atoms.get_potential_energy() == pytest.approx(direct(model, atoms).energy, abs=1e-10)
