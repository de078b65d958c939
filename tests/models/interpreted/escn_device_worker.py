"""One of several processes that share a molecule on interpreted Triton kernels.

Arguments: rank, number of processes, file where they meet. Run by escn_device_cases.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from ase.build import molecule
from torch import distributed

sys.path.insert(0, str(Path(__file__).parent))

from escn_device_cases import OPTIONS, backbone

from adatom.data.ase_convert import from_ase
from adatom.graph.links import ProcessLinks
from adatom.models.base import Execution
from adatom.models.contract_partition import evaluate_share
from adatom.models.contract_subject import Model
from adatom.models.energy_head import EnergyHead


def main() -> None:
    rank, size, store = sys.argv[1:]
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=int(rank), world_size=int(size)
    )
    # Of four workers on three atoms one has none.
    data = from_ase(molecule("H2O" if int(size) > 2 else "CH3OH"), dataset="default")
    data.charge = data.charge + 1
    for options in (OPTIONS[0], OPTIONS[1], OPTIONS[3]):
        model = Model(backbone(**options), EnergyHead(3, 4).double().requires_grad_(False))
        model.backbone.execution = Execution("general")
        expected = model.evaluate(data)
        for execution in (Execution("compiled"), Execution("compiled", 4, 0)):
            model.backbone.execution = execution
            assert model.backbone.unavailable("compiled") is None
            found, own = evaluate_share(model, data, ProcessLinks())
            same = {"atol": 1e-11, "rtol": 1e-10}
            torch.testing.assert_close(found.energies, expected.energies[own].detach(), **same)
            torch.testing.assert_close(found.forces, expected.forces[own], **same)
            torch.testing.assert_close(found.virial, expected.virial, **same)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
