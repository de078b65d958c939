"""What only merging and the comparison read does not stay in memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from ase.build import molecule

from adatom.checkpoint.format import load_potential, save_potential
from adatom.data.ase_convert import from_ase
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.models.escn_md import eSCNMDBackbone
from adatom.tasks.potential import Potential


def resident(path: Path) -> float:
    """Return the MB of a mapped file that are in memory."""
    inside, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total / 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("settings", ["default", "turbo"])
def test_experts_are_forgotten_after_merging(shared, tmp_path, settings):
    tiny = load_potential(shared / "reference" / "uma_tiny" / "tiny_uma.pt")
    arguments = {**tiny.backbone.init_args, "num_experts": 64, "hidden_channels": 64}
    large = Potential(eSCNMDBackbone(**arguments), tiny.head, tiny.tasks, tiny.domains)
    path = tmp_path / "large.safetensors"
    save_potential(large, path)
    size = path.stat().st_size / 2**20
    assert size > 8
    unit = MLIPPredictUnit.load(path, settings)
    atoms = molecule("H2O")
    atoms.info["spin"] = 1
    water = from_ase(atoms, dataset="omol", label_keys={})
    first = unit.predict([water])["energy"]
    assert resident(path) < 0.5 * size
    torch.testing.assert_close(unit.predict([water])["energy"], first, atol=1e-5, rtol=0)
