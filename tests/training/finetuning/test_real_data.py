"""Fine-tuning of an official file on 50 real structures of a level of theory that is new to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from official_file import write_official

from adatom.checkpoint.format import load_potential
from adatom.training.data_source import DataSource
from adatom.training.finetuning.run import finetune
from adatom.training.finetuning.settings import FinetuningSettings

#: The embedded potential before its second stage: it never saw ethanol.
FIRST_STAGE = Path(__file__).resolve().parents[2] / "first_stage.safetensors"
#: Of the same network trained on the same 50 structures from nothing for 2250 steps (lr 2e-3,
#: 21 minutes on a busy core): eV/atom and eV/angstrom, mean absolute errors on test structures.
FROM_NOTHING = {"energy": 0.00734, "forces": 0.187}


@pytest.mark.slow
def test_low_rank_changes_with_replay(shared, tmp_path, capsys):
    write_official(load_potential(FIRST_STAGE), tmp_path / "official.pt")
    ethanol = shared / "data" / "ethanol_multifidelity" / "pbe_botnet"
    acac = shared / "data" / "acac"
    settings = FinetuningSettings(
        base=str(tmp_path / "official.pt"),
        data=[DataSource(path=str(ethanol / "train.xyz"), dataset="ethanol", index="::20")],
        like="acac",
        method="lora",
        replay=DataSource(path=str(acac / "train_300K.xyz"), dataset="acac"),
        test=DataSource(path=str(ethanol / "test_MD.xyz"), dataset="ethanol", index="::10"),
        base_test=DataSource(path=str(acac / "test_MD_300K.xyz"), dataset="acac", index="::10"),
        epochs=20,
        run_dir=str(tmp_path / "run"),
    )
    finetune(settings)
    percent = float(capsys.readouterr().err.split("parameters are trained, ")[1].split(" %")[0])
    assert percent < 5.0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    new = result["after"]["Test errors"]["ethanol"]
    assert new["energy"]["per_atom_mae"] < 0.5 * FROM_NOTHING["energy"]
    assert new["forces"]["mae"] < 0.5 * FROM_NOTHING["forces"]
    title = "Errors in the domain of the base"
    before, after = (result[when][title]["acac"] for when in ("before", "after"))
    assert after["energy"]["per_atom_mae"] < 1.1 * before["energy"]["per_atom_mae"]
    assert after["forces"]["mae"] < 1.1 * before["forces"]["mae"]
