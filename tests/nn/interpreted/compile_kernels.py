"""Compile every kernel to machine code of two GPUs; no GPU is needed. Run by a test."""

from __future__ import annotations

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from adatom.nn.layout import CoefficientLayout
from adatom.nn.triton_kernels import gate, returns, rotate, segments
from adatom.nn.triton_kernels.blocks import edge_blocks


def build(kernel, types, constants, capability):
    """Compile a kernel for arguments of the given types, and return the size of its code."""
    kinds = iter(types.split())
    names = [parameter.name for parameter in kernel.params]
    signature = {
        parameter.name: "constexpr" if parameter.is_constexpr else next(kinds)
        for parameter in kernel.params
    }
    values = {(names.index(name),): value for name, value in constants.items()}
    target = GPUTarget("cuda", capability, 32)
    built = triton.compile(ASTSource(kernel, signature, values), target=target)
    return len(built.asm["cubin"])


def main() -> None:
    for size, real, capability in (((2, 2, 128), "*fp32", 90), ((2, 1, 24), "*fp64", 80)):
        lmax, mmax, channels = size
        layout = CoefficientLayout(lmax, mmax)
        edges, block = edge_blocks(channels)
        weights = sum(layout.degrees_of_order(m) for m in range(mmax + 1)) * 2 * channels
        shared = {"LMAX": lmax, "MMAX": mmax, "ROWS": layout.edge_size, "EDGES": edges}
        shared["BLOCK"] = block
        turning = {**shared, "CHANNELS": channels, "WEIGHTS": weights}
        pairs, _ = rotate._turns(lmax, torch.float64, torch.device("cpu"))
        kernels = [
            (rotate._forward, "R *i64 R R R i32", turning),
            (
                rotate._backward,
                "R *i64 R R *i32 R R R R R i32",
                {**turning, "PAIRS": pairs.shape[0]},
            ),
            (gate._backward, "R R R i32", {**shared, "HIDDEN": channels}),
            (
                segments._sum,
                "R *i64 *i64 *i64 R i32",
                {"WIDTH": channels, "ADD": True, "BLOCK": 128},
            ),
        ]
        for m in range(mmax + 1):
            _, sizes = returns._launch(layout, channels, m)
            kernels += [
                (returns._forward, "R R *i64 *i64 R i32", {"M": m, **sizes}),
                (returns._backward, "R R *i64 *i64 R R R i32 i32", {"M": m, **sizes}),
            ]
        for kernel, types, constants in kernels:
            if not build(kernel, types.replace("R", real), constants, capability):
                raise RuntimeError(kernel.__name__)


if __name__ == "__main__":
    main()
