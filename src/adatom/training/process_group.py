"""What connects the processes of a training, and its end."""

from __future__ import annotations

import atexit
import gc

from torch import distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

#: All that were made since the processes were connected.
_meshes: list[DeviceMesh] = []


def mesh_of_all(device_type: str) -> DeviceMesh:
    """Return the processes of the group as a mesh of one dimension, for shared out weights.

    Args:
        device_type: ``cpu`` or ``cuda``.
    """
    mesh = init_device_mesh(device_type, (distributed.get_world_size(),))
    _meshes.append(mesh)
    return mesh


def end_process_group_at_exit() -> None:
    """See to it that :func:`end_process_group` is called before the interpreter ends, once."""
    atexit.unregister(end_process_group)
    atexit.register(end_process_group)


def end_process_group() -> None:
    """Leave the process group and end its threads; does nothing if there is none.

    Threads of gloo release tensors, for which they need the interpreter. One that does so while
    the interpreter ends is stopped inside of a destructor, and the whole process aborts with
    "terminate called without an active exception". Only the destructor of a process group ends its
    threads (torch 2.13: ``shutdown`` does nothing for gloo), so that nothing may hold one any more:
    call this when the trainer and all that it has made are gone.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    distributed.destroy_process_group()
    while _meshes:
        # Caches of torch keep a mesh for ever, and since torch 2.13 a mesh keeps its groups.
        getattr(_meshes.pop(), "_pg_registry", {}).clear()
    # Trainer, strategy and module know each other: only the collector frees them.
    gc.collect()
