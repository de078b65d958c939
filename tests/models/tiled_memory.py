"""Print the edges of 4000 carbon atoms, and the peak memory of energy and forces in bytes."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

import torch
from ase.build import bulk

from adatom.data.atomic_data import AtomicData
from adatom.models.base import Execution, Neighborhood
from adatom.models.escn_md import eSCNMDBackbone
from adatom.nn import buffer_pool


def crystal(size: int) -> tuple[AtomicData, torch.Tensor]:
    """Return a cube of fcc carbon and its edge vectors."""
    atoms = bulk("C", "fcc", a=3.8, cubic=True) * (size, size, size)
    atoms.rattle(0.05, seed=1)
    data = AtomicData.from_ase(atoms).with_edges(6.0)
    return data, data.edges.vectors(data.pos, data.cell).float()


def call(model: eSCNMDBackbone, data: AtomicData, vectors: torch.Tensor) -> None:
    """Compute an energy and its gradient."""
    vectors.requires_grad_()
    edges = Neighborhood(*data.edges.index, vectors, data.edges.counts)
    scalars = model(data, [edges] * model.num_message_layers).scalars
    torch.autograd.grad(scalars.square().sum(), vectors)


def resident(name: str) -> int:
    """Read a memory size of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def main(mode: str, channels: int, layers: int) -> None:
    """Measure after a small call has loaded everything."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = eSCNMDBackbone(channels, 2, 2, layers, channels, channels, 32).requires_grad_(False)
    model.execution = Execution(mode, kept_bytes=0)
    call(model, *crystal(3))
    data, vectors = crystal(10)
    buffer_pool._idle.clear()  # the memory of a tile counts
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free must not hide what is taken
    Path("/proc/self/clear_refs").write_text("5")  # begins a new peak
    before = resident("VmRSS:")
    call(model, data, vectors)
    sys.stdout.write(f"{vectors.shape[0]} {resident('VmHWM:') - before}\n")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
