"""Turn a finished training into the potential that adatom ships.

Measures it, and the potential that it began from, on held-out structures, writes the model card,
and puts both into the package:

    python scripts/publish_default_potential.py runs/default_potential_all
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from adatom import MLIPPredictUnit, load_potential, open_dataset, save_potential
from adatom.core.console import say
from adatom.core.files import atomic_write
from adatom.evaluate import Evaluation, evaluate

REPOSITORY = Path(__file__).resolve().parent.parent
TARGET = REPOSITORY / "src/adatom/checkpoint/pretrained/default.safetensors"
CARD = REPOSITORY / "docs/default-potential.md"
CONFIGS = REPOSITORY / "configs"
RECIPE = ("default_potential.yaml", "default_potential_all.yaml")

HEAD = """# The potential that comes with adatom

A small eSCN-MD network with experts (UMA's architecture): a demonstration that needs no
download, not a general potential. One network serves twelve levels of theory, each a task with its own
element references, and refuses elements, charges and spins that a task never saw:

- `zuo2020`: silicon, molybdenum and copper, PBE;
- `acac`: acetylacetone, PBE-D3/def2-SVP;
- `ec_emc`: liquid ethylene carbonate and ethyl methyl carbonate, plane-wave DFT, with stress;
- `qm7x`: small molecules of H, C, N, O, S and Cl, PBE0+MBD;
- `oc20`: 15 relaxations of adsorbates on slabs, RPBE total energies;
- `ethanol_pbe`, `ethanol_b3lyp`: ethanol at two levels;
- `bo2_pbe`, `bo2_pbesol`, `bo2_lda`, `bo2_am05`: rutile-like oxides of Sn, Ir, Ru, Ti and V, with stress;
- `gfn2`: CH2 as singlet and triplet, Ag3 as anion and cation, GFN2-xTB (not DFT);
- `xu_kitchin`: adsorption energies (not total energies) on (111) surfaces, PBE; energies only.

Forces and stress are derivatives of the energy. `adatom models info default` lists which were trained;
those of `zuo2020` stresses, whose source has them shifted for Cu and Mo, and of `xu_kitchin` forces were not.
"""

DATA_NOTE = """## Data

From `shared/data`, where each set has its licence and citation: zuo2020 (BSD-3-Clause), acac, ec_emc_liquid,
ethanol at PBE, bo2_multifidelity, xu_kitchin_adsorption and the GFN2-xTB part of charge_spin (MIT), qm7x_250 and
oc20_relaxations (CC-BY-4.0), ethanol at B3LYP (Apache-2.0). The configurations say which structures of each.
The files' SHA-256, the split and the recipe stand in the checkpoint: `adatom models info default`.
"""


@dataclass(frozen=True)
class HeldOut:
    """Structures that were not trained on, and what others reach on them."""

    title: str
    source: dict[str, Any]
    published: str = ""
    leave_out: tuple[str, ...] = ()


def main() -> None:
    """Measure, describe, publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run directory of the second stage")
    parser.add_argument("--card", type=Path, default=CARD, help="where the model card goes")
    parser.add_argument("--dry", action="store_true", help="only write the card")
    options = parser.parse_args()

    source = options.run / "best.safetensors"
    first = yaml.safe_load((options.run / "config.yaml").read_text())["base"]
    listed = yaml.safe_load((CONFIGS / "default_potential_tests.yaml").read_text())
    sets = [HeldOut(**entry) for entry in listed]
    unit, earlier = MLIPPredictUnit.load(source), MLIPPredictUnit.load(first)
    results = [(held, measure(unit, held), measure_if_known(earlier, held)) for held in sets]
    card = model_card(results, unit, options.run)
    with atomic_write(options.card) as part:
        part.write_text(card, encoding="utf-8")
    say(f"Wrote {options.card}.")
    if not options.dry:
        publish(source, card, results, options.run)


def publish(
    source: Path,
    card: str,
    results: list[tuple[HeldOut, Evaluation, Evaluation | None]],
    run: Path,
) -> None:
    """Put the potential with its card into the package."""
    potential = load_potential(source)
    # What the first stage wrote about itself is told by the recipe.
    potential.metadata.pop("finetuning", None)
    potential.metadata |= {
        "name": "default",
        "title": "adatom's embedded potential: twelve levels of theory",
        "licence": "MIT (weights); training data BSD-3-Clause, MIT, Apache-2.0 and CC-BY-4.0, "
        "see model card",
        "recipe": {name: (CONFIGS / name).read_text() for name in RECIPE},
        "trained_with": json.loads((run / "versions.json").read_text()),
        "scores": {held.title: result.to_json()["overall"] for held, result, _ in results},
        "model_card": card,
    }
    save_potential(potential, TARGET)
    say(f"Wrote {TARGET} ({TARGET.stat().st_size / 1e6:.2f} MB).")


def measure(unit: MLIPPredictUnit, held: HeldOut) -> Evaluation:
    """Evaluate on one held-out set."""
    arguments = dict(held.source)
    path = (REPOSITORY / arguments.pop("path")).resolve()
    systems = list(open_dataset(path, **arguments))
    for system in systems:
        for name in held.leave_out:
            system.labels.pop(name, None)
    return evaluate(unit, systems, data=held.title)


def measure_if_known(unit: MLIPPredictUnit, held: HeldOut) -> Evaluation | None:
    """Evaluate an earlier potential, unless the set is of a task that it does not have."""
    if held.source["dataset"] not in unit.potential.datasets:
        return None
    return measure(unit, held)


def model_card(
    results: list[tuple[HeldOut, Evaluation, Evaluation | None]], unit: MLIPPredictUnit, run: Path
) -> str:
    """Write the model card as Markdown."""
    parameters = sum(p.numel() for p in unit.potential.parameters())
    lines = [
        HEAD,
        "## Errors on structures that were not trained on\n",
        "Energy in meV per atom, forces in meV/Å per component, stress in meV/Å³. Element references",
        "alone (a linear model in the composition) are the baseline. In brackets: RMSE of the potential",
        "that adatom came with before, trained on the first four tasks only. Each published potential was",
        "fitted to one set; this one shares its weights between all of them and was trained for a",
        "short time.\n",
        "| held-out set | structures | E MAE | E RMSE | F MAE | F RMSE | S MAE | baseline E | published |",
        "|---|---|---|---|---|---|---|---|---|",
        *(row(*result) for result in results),
        "\nPublished RMSE (energy / forces): the potentials of Zuo et al. 2020 re-evaluated on the",
        "same files, and Table 3 of Batatia et al. 2022 with energies divided by 15 atoms.\n",
        "## Recipe\n",
        "```sh",
        "adatom s2ef fit --config configs/default_potential.yaml",
        "python scripts/default_potential_data.py",
        "adatom finetune --config configs/default_potential_all.yaml",
        "python scripts/publish_default_potential.py runs/default_potential_all",
        "```\n",
        f"{parameters:,} parameters, float32. First stage: seed 1, 9451 steps, 80 minutes on one core of a",
        f"busy AMD EPYC machine (at commit 2a11756; initial weights and validation split changed after it,",
        f"so repeating it gives similar figures only). Second stage: seed 1, {training_time(run)}.\n",
        DATA_NOTE,
    ]
    return "\n".join(lines)


def training_time(run: Path) -> str:
    """Tell how long the training took, from the run's own account."""
    result = json.loads((run / "result.json").read_text())
    minutes = result["seconds_of_last_session"] / 60
    return f"{result['steps']} steps, {minutes:.0f} minutes on one core of the same machine"


def row(held: HeldOut, result: Evaluation, earlier: Evaluation | None) -> str:
    """Write one line of the table."""
    cells = [held.title, str(result.num_structures)]
    for name in ("energy_per_atom", "forces"):
        errors = getattr(result.overall, name)
        if errors is None:
            cells += ["–", "–"]
            continue
        before = None if earlier is None else getattr(earlier.overall, name)
        note = "" if before is None else f" ({1000 * before.rmse:.3g})"
        cells += [f"{1000 * errors.mae:.3g}", f"{1000 * errors.rmse:.3g}{note}"]
    stress = result.overall.stress
    cells.append("–" if stress is None else f"{1000 * stress.mae:.3g}")
    baseline = result.baseline_rmse
    cells.append("–" if baseline is None else f"{1000 * baseline:.3g}")
    return "| " + " | ".join([*cells, held.published or "–"]) + " |"


if __name__ == "__main__":
    main()
