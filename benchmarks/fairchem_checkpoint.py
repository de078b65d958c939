"""Write an official-format checkpoint with random weights; runs in fairchem-core's environment.

``python -m benchmarks.fairchem_checkpoint SHAPE OUT TEMPLATE``: the settings of the template (an
official checkpoint) with the sizes of the shape. Forces are trained tasks; stress is computed on
request only, so that both kinds of call can be measured.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import hydra
import torch
from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint

from benchmarks.shapes import SHAPES


def model_config(template: dict[str, Any], shape: str) -> dict[str, Any]:
    """Return the template's settings with the sizes of ``shape``."""
    backbone = template["backbone"] | SHAPES[shape]
    backbone |= {"moe_dropout": 0.0, "regress_stress": False}
    return template | {"backbone": backbone, "model_id": f"BENCHMARK-{shape}"}


def shake(model: torch.nn.Module) -> None:
    """Move norms and biases away from one and zero, so that a mistake in them would show."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter), alpha=0.05)


def main(shape: str, out: str, template: str) -> None:
    """Build, randomize and save."""
    # Our own file: the template is part of this project's reference data.
    source = torch.load(template, weights_only=False)
    config = model_config(source.model_config, shape)
    torch.manual_seed(7)
    model = hydra.utils.instantiate(config)
    shake(model)
    weights = {f"module.{name}": value for name, value in model.state_dict().items()}
    weights["n_averaged"] = torch.tensor(1)
    tasks = [task for task in source.tasks_config if task["property"] != "stress"]
    # Inference reads the averaged weights only; a second copy would double the file.
    checkpoint = MLIPInferenceCheckpoint(
        model_config=config, model_state_dict={}, ema_state_dict=weights, tasks_config=tasks
    )
    temporary = Path(out).with_suffix(".partial")
    torch.save(checkpoint, temporary)
    temporary.rename(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
