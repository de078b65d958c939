"""Train a tiny eSCN-MD potential on a handful of real structures, in a few seconds.

Silicon (PBE) and acetylacetone (PBE-D3) are two levels of theory, so they become two tasks of one
potential. Run it with `python examples/train_small.py --output tiny.safetensors`. A real training
is the same with more of everything, and is resumed and logged by `adatom s2ef fit`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import lightning as L  # noqa: N812 (the name that Lightning's documentation uses)

from adatom import save_potential
from adatom.core.precision import seeded
from adatom.models.escn_md import eSCNMDBackbone
from adatom.training.data_module import AtomisticDataModule
from adatom.training.logging_callback import MetricsLogging
from adatom.training.module import S2EFLightningModule
from adatom.training.quiet import quiet_lightning
from adatom.training.sources import DataSource

DATA = Path(__file__).parent / "data"
#: Task (level of theory) to training file.
SETS = {"zuo2020": "silicon_train.extxyz", "acac": "acac_train.extxyz"}
LOSSES = {
    "energy": {"name": "per_atom_mae", "coefficient": 2.0},
    "forces": {"name": "l2norm", "coefficient": 10.0},
}


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("tiny.safetensors"))
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()

    sources: list[str | DataSource] = [
        DataSource(path=str(DATA / file), dataset=task) for task, file in SETS.items()
    ]
    data = AtomisticDataModule(train=sources, val_fraction=0.1, batch_size=4)
    with seeded(0), quiet_lightning():
        backbone = eSCNMDBackbone(
            sphere_channels=16,
            hidden_channels=16,
            edge_channels=16,
            num_distance_basis=16,
            num_layers=1,
            cutoff=4.5,
            dataset_list=list(SETS),
        )
        module = S2EFLightningModule(backbone, losses=LOSSES, lr=1e-2, ema_decay=0.9)
        trainer = L.Trainer(
            max_epochs=options.epochs,
            accelerator="cpu",
            callbacks=[MetricsLogging()],
            gradient_clip_val=100.0,
            num_sanity_val_steps=0,
            inference_mode=False,  # forces are derivatives, in validation too
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, datamodule=data)

    results = {name: float(value) for name, value in trainer.callback_metrics.items()}
    for task in SETS:
        energy = results[f"val/{task}/energy_per_atom_mae"]
        forces = results[f"val/{task}/forces_mae"]
        print(f"{task}: {1000 * energy:.1f} meV/atom, {forces:.3f} eV/angstrom (validation MAE)")
    save_potential(module.average.module, options.output)
    print(f"Wrote {options.output} ({options.output.stat().st_size / 1000:.0f} kB).")


if __name__ == "__main__":
    main()
