"""One of the workers that share a system: ``python -m benchmarks.scaling_worker``."""

from __future__ import annotations

import gc
import json
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from adatom.checkpoint.format import load_potential
from adatom.data.ase_convert import from_ase
from adatom.inference.parallel.rank_engine import RankEngine
from adatom.inference.settings import inference_settings
from adatom.nn.buffer_pool import release_idle
from benchmarks.jobs import forget_peak, peak_memory, resident_memory
from benchmarks.structures import load_structure, moved

PROPERTIES = ("energy", "forces", "stress")


def main() -> None:
    """Compute some steps together with the other workers; write what was measured as JSON."""
    job = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{job['store']}", rank=job["rank"], world_size=job["workers"]
    )
    settings = inference_settings({"preset": "turbo", **job["settings"]})
    potential = load_potential(job["checkpoint"], dtype=torch.float32)
    potential.eval().requires_grad_(requires_grad=False)
    engine = RankEngine(potential, settings, "cpu", distributed.group.WORLD)
    atoms: Any = load_structure(job["structure"]) * tuple(job["repeat"])
    task = load_structure(job["structure"]).info["task"]

    def call(number: int, of: Any = atoms) -> tuple[float, float, dict[str, torch.Tensor]]:
        data = from_ase(moved(of, number), dataset=task, label_keys={})
        distributed.barrier()
        wall, cpu = time.perf_counter(), time.process_time()
        values = engine.predict(data, PROPERTIES)
        distributed.barrier()
        return time.perf_counter() - wall, time.process_time() - cpu, values

    # Experts are merged and kernels loaded on a few atoms, where one element is all there is.
    if len(set(atoms.numbers)) == 1:
        call(0, atoms[:4])
    release_idle()
    loaded = resident_memory()
    forget_peak()
    _, _, first = call(0)
    steps = [call(number + 1)[:2] for number in range(job["steps"])]
    statistics = engine.statistics()
    result = {
        "atoms": len(atoms),
        "wall": [wall for wall, _ in steps],
        "cpu": [cpu for _, cpu in steps],
        "loaded": loaded,
        "peak": peak_memory() - loaded,
        "energy": float(first["energy"][0]) if first else None,
        "largest": float(first["forces"].abs().max()) if first else None,
        "statistics": asdict(statistics) if statistics else None,
    }
    Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
    # Threads of gloo end with the last that holds the group, which must not be the interpreter.
    gc.collect()
