"""Turn a finished run of configs/default_potential.yaml into the potential that adatom ships.

Measures it on held-out structures, writes the model card, and puts both into the package:

    python scripts/publish_default_potential.py runs/default_potential --minimal si_report.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adatom import MLIPPredictUnit, load_potential, open_dataset, save_potential
from adatom.core.console import say
from adatom.core.files import atomic_write
from adatom.evaluate import Evaluation, evaluate

REPOSITORY = Path(__file__).resolve().parent.parent
TARGET = REPOSITORY / "src/adatom/checkpoint/pretrained/default.safetensors"
CARD = REPOSITORY / "docs/default-potential.md"
DATA = REPOSITORY.parent / "shared/data"
QM7X_KEYS = {"atomic_numbers": "z", "pos": "R", "energy": "E", "forces": "F"}


@dataclass(frozen=True)
class HeldOut:
    """Structures that were not trained on, and what others reach on them."""

    title: str
    dataset: str
    path: str
    index: str | None
    published: str


HELD_OUT = (
    HeldOut(
        "Cu (zuo2020, published test split)",
        "zuo2020",
        "zuo2020/Cu_test.extxyz.xz",
        None,
        "MTP 0.52 / 13.5, qSNAP 0.77 / 54.9, SNAP 0.75 / 82.9",
    ),
    HeldOut(
        "Mo (zuo2020, published test split)",
        "zuo2020",
        "zuo2020/Mo_test.extxyz.xz",
        None,
        "MTP 3.98 / 151, qSNAP 4.04 / 333, SNAP 9.25 / 376",
    ),
    HeldOut(
        "Si (zuo2020, published test split)",
        "zuo2020",
        "zuo2020/Si_test.extxyz.xz",
        None,
        "MTP 3.03 / 88.1, qSNAP 5.51 / 177, SNAP 8.06 / 205",
    ),
    HeldOut(
        "acetylacetone 300 K (published test set)",
        "acac",
        "acac/test_MD_300K.xyz",
        None,
        "MACE 0.06 / 5.1, NequIP 0.05 / 5.9, BOTNet 0.06 / 6.3",
    ),
    HeldOut(
        "acetylacetone 600 K (published test set)",
        "acac",
        "acac/test_MD_600K.xyz",
        None,
        "MACE 0.31 / 22.4, NequIP 0.40 / 27.8, BOTNet 0.41 / 29.8",
    ),
    HeldOut(
        "EC/EMC liquid (every fifth configuration, not trained on)",
        "ec_emc",
        "ec_emc_liquid/ECEMC.xyz.xz",
        "4::5",
        "none for this subset",
    ),
    HeldOut(
        "QM7-X sample (every tenth configuration, not trained on)",
        "qm7x",
        "qm7x_250/qm7x_250_small.npz",
        "1::10",
        "none for this subset",
    ),
)

HEAD = """# The potential that comes with adatom

A small eSCN-MD network with experts (UMA's architecture): a demonstration that needs no
download, not a general potential. It knows silicon, molybdenum and copper (task `zuo2020`,
PBE), acetylacetone (`acac`, PBE-D3/def2-SVP), liquid ethylene carbonate and ethyl methyl
carbonate (`ec_emc`, plane-wave DFT) and small organic molecules of H, C, N, O, S and Cl
(`qm7x`, PBE0+MBD), each at its own level of theory, and it refuses anything else. Stress
follows from the energy by differentiation and was never trained on. Cu and Mo stresses of the
source are shifted and the potential is not judged by them.
"""

DATA_NOTE = """## Data

From `shared/data`, where each set has its licence and citation: zuo2020 (BSD-3-Clause), acac
(MIT), ec_emc_liquid (MIT), qm7x_250 (CC-BY-4.0); every third structure of Cu, every fifth of
ec_emc and every second of qm7x. Of the sets that may be used for training, these were left
out: oc20_relaxations and ethanol_multifidelity to keep the training short,
xu_kitchin_adsorption (no forces), bo2_multifidelity (equilibrium curves of other elements),
charge_spin (not DFT). The files' SHA-256, the split and the recipe stand in the checkpoint:
`adatom models info default`.
"""


def main() -> None:
    """Measure, describe, publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run directory of the training")
    parser.add_argument("--minimal", type=Path, help="JSON of the evaluation of minimal.yaml")
    options = parser.parse_args()

    source = options.run / "best.safetensors"
    unit = MLIPPredictUnit.load(source)
    results = [(held, measure(unit, held)) for held in HELD_OUT]
    minimal = json.loads(options.minimal.read_text()) if options.minimal else None
    parameters = sum(p.numel() for p in unit.potential.parameters())
    card = model_card(results, minimal, parameters=parameters, run=options.run)

    potential = load_potential(source)
    potential.metadata |= {
        "title": "adatom's embedded potential: Si, Mo, Cu; small organic molecules",
        "licence": "MIT (weights); training data BSD-3-Clause, MIT and CC-BY-4.0, see model card",
        "recipe": (REPOSITORY / "configs/default_potential.yaml").read_text(),
        "trained_with": json.loads((options.run / "versions.json").read_text()),
        "scores": {held.title: result.to_json()["overall"] for held, result in results},
        "model_card": card,
    }
    save_potential(potential, TARGET)
    with atomic_write(CARD) as part:
        part.write_text(card, encoding="utf-8")
    say(f"Wrote {TARGET} ({TARGET.stat().st_size / 1e6:.2f} MB) and {CARD}.")


def measure(unit: MLIPPredictUnit, held: HeldOut) -> Evaluation:
    """Evaluate on one held-out set, in energy and forces."""
    systems = open_dataset(
        DATA / held.path,
        dataset=held.dataset,
        index=held.index,
        key_map=QM7X_KEYS if held.dataset == "qm7x" else None,
    )
    return evaluate(unit, list(systems), data=held.title)


def model_card(
    results: list[tuple[HeldOut, Evaluation]],
    minimal: dict[str, Any] | None,
    *,
    parameters: int,
    run: Path,
) -> str:
    """Write the model card as Markdown."""
    lines = [
        HEAD,
        "## Errors on structures that were not trained on\n",
        "Energy in meV per atom, forces in meV/Å per component. Element references alone (a",
        "linear model in the composition) are the baseline. Each published potential was fitted to",
        "one set; this one shares its weights between all of them, was trained for a short time,",
        "and is less accurate than they are nearly everywhere, most of all for copper and",
        "acetylacetone.\n",
        "| held-out set | structures | E MAE | E RMSE | F MAE | F RMSE | baseline E | published |",
        "|---|---|---|---|---|---|---|---|",
        *(row(held, result) for held, result in results),
        "\nPublished RMSE (energy / forces): the potentials of Zuo et al. 2020 re-evaluated on the",
        "same files, and Table 3 of Batatia et al. 2022 with energies divided by 15 atoms.\n",
        "## Recipe\n",
        "```sh",
        "adatom s2ef fit --config configs/default_potential.yaml",
        "python scripts/publish_default_potential.py runs/default_potential",
        "```\n",
        f"{parameters:,} parameters, float32, seed 1;",
        f"{training_time(run)}.",
        "The weights were made at commit 2a11756; initial weights (1e6231d) and validation split",
        "(1342730) changed after it, so repeating the recipe gives similar figures only.\n",
        DATA_NOTE,
    ]
    if minimal is not None:
        lines.append(minimal_section(minimal))
    return "\n".join(lines)


def training_time(run: Path) -> str:
    """Tell how long the training took, from the run's own account."""
    result = json.loads((run / "result.json").read_text())
    minutes = result["seconds_of_last_session"] / 60
    return f"{result['steps']} steps, {minutes:.0f} minutes on one core of a busy AMD EPYC machine"


def row(held: HeldOut, result: Evaluation) -> str:
    """Write one line of the table."""
    energy, forces = result.overall.energy_per_atom, result.overall.forces
    if energy is None or forces is None or result.baseline_rmse is None:
        raise ValueError(f"{held.title} lacks labels")
    cells = [
        held.title,
        str(result.num_structures),
        *(f"{1000 * value:.3g}" for value in (energy.mae, energy.rmse, forces.mae, forces.rmse)),
        f"{1000 * result.baseline_rmse:.3g}",
        held.published,
    ]
    return "| " + " | ".join(cells) + " |"


def minimal_section(numbers: dict[str, Any]) -> str:
    """Describe what the shortest configuration reaches."""
    energy = 1000 * numbers["overall"]["energy_per_atom"]["rmse"]
    forces = 1000 * numbers["overall"]["forces"]["rmse"]
    baseline = 1000 * numbers["baseline_rmse"]
    return f"""## What the shortest configuration reaches

Another potential, trained on silicon alone (zuo2020, published split) from `configs/minimal.yaml`:

```sh
adatom s2ef fit --config configs/minimal.yaml
adatom evaluate runs/minimal/best.safetensors examples/data/Si_test.extxyz.xz -o si.html
```

On the {numbers["num_structures"]} test structures its energy RMSE is {energy:.3g} meV/atom,
{baseline / energy:.3g} times better than element references alone ({baseline:.4g} meV/atom), and
its force RMSE {forces:.4g} meV/Å. Published on the same files: MTP 3.03 / 88.1, qSNAP 5.51 / 177,
SNAP 8.06 / 205.
"""


if __name__ == "__main__":
    main()
