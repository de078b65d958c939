"""The torch.distributed group of the workers."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

#: Longer than any step. A worker that died is noticed at once, one that hangs by its pings; this is
#: for a network that is gone between workers only, while Ray still reaches each of them.
TIMEOUT = timedelta(minutes=30)


class Rendezvous:
    """The place where the workers meet: a store in the process of rank 0."""

    def __init__(self, node: str) -> None:
        # The system chooses a free port.
        self._store = dist.TCPStore(  # type: ignore[attr-defined]
            node, 0, is_master=True, wait_for_workers=False
        )
        self.address = (node, int(self._store.port))


def join(
    rank: int, size: int, address: tuple[str, int], device: torch.device, node: str
) -> dist.ProcessGroup:
    """Enter the group of all workers; returns once all are there.

    Args:
        rank: Of this worker.
        size: How many there are.
        address: Host and port of the store.
        device: Where this worker computes: NCCL connects GPUs, Gloo processors.
        node: Address of this node; traffic goes through its network interface.
    """
    interface = _interface_of(node)
    if interface is not None:
        # In this process, which belongs to the unit. Without it Gloo takes the address that the
        # host's name resolves to, which other nodes often cannot reach.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)
    store = dist.TCPStore(  # type: ignore[attr-defined]
        *address, is_master=False, timeout=TIMEOUT
    )
    backend = "nccl" if device.type == "cuda" else "gloo"
    options: dict[str, Any] = {"device_id": device} if device.type == "cuda" else {}
    dist.init_process_group(
        backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT, **options
    )
    group = dist.group.WORLD
    if group is None:
        raise RuntimeError("torch.distributed made no group")
    return group


def _interface_of(node: str) -> str | None:
    """Return the network interface with an address, where the system tells (Linux)."""
    try:
        import fcntl
    except ImportError:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = name[:15].encode().ljust(256, b"\0")
            try:
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
            except OSError:
                continue
            if socket.inet_ntoa(answer[20:24]) == node:
                return name
    return None


_SIOCGIFADDR = 0x8915
