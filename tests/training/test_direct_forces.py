"""Potentials whose forces come from a head are trained, validated and used like others."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch import Trainer

from adatom.checkpoint.format import load_potential, save_potential
from adatom.models.escn_md import eSCNMDBackbone
from adatom.models.heads import Heads
from adatom.training.data_module import AtomisticDataModule
from adatom.training.module import S2EFLightningModule
from adatom.training.quiet import quiet_lightning

HEADS = {
    "energy": {"class_path": "EnergyHead", "init_args": {"num_channels": 8, "hidden_channels": 8}},
    "forces": {"class_path": "ForceHead", "init_args": {"num_channels": 8}},
}


def test_direct_forces_learn_without_second_derivatives(copper: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = eSCNMDBackbone(
        sphere_channels=8, hidden_channels=8, edge_channels=8, num_distance_basis=8, cutoff=4.0
    )
    module = S2EFLightningModule(backbone, Heads(HEADS), lr=0.01, ema_decay=0.5)
    data = AtomisticDataModule(str(copper), val_fraction=0.25, batch_size=6, check=False)
    options = {
        "inference_mode": False,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": tmp_path,
    }
    errors = []
    with quiet_lightning():
        for epochs in (1, 6):
            trainer = Trainer(**options, max_epochs=epochs, num_sanity_val_steps=0)
            trainer.fit(module, datamodule=data)
            errors.append(float(trainer.callback_metrics["val/forces_mae"]))
    assert errors[1] < errors[0]
    save_potential(module.average.module, tmp_path / "direct.safetensors")
    assert load_potential(tmp_path / "direct.safetensors").direct_properties == ["forces"]
    predicted = module.predict_step(next(iter(data.val_dataloader())), 0)
    assert set(predicted) == {"energy", "forces"}
