"""Make the official checkpoints of this folder, and the numbers that fairchem gets from them.

Needs fairchem-core 2.24.0: ``.venv-fairchem/bin/python tests/checkpoint/official/make.py``.
The files are written by that package from models with random weights. All numbers are float64.
Three things are changed while the reference numbers are computed:

- Wherever fairchem would round to float32 (the composition of a direct stress, the input of
  ``lin_emb``), it is kept from doing so: the default dtype is float64, and that input is cast.
- fairchem rolls each edge frame by a random angle. With ``act_type="s2"`` the result depends on
  it, because the grid is finite; there the angle is the one that makes the frame equal to ours,
  and it is differentiated. ``gauge_spread`` in the records is what the random angles do otherwise.
- Without a cell fairchem reports a stress for a volume of 1 cubic angstrom; it is not recorded.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import torch
from ase import Atoms
from ase.build import bulk
from fairchem.core.datasets.atomic_data import AtomicData, atomicdata_list_to_batch
from fairchem.core.models.base import HydraModel
from fairchem.core.models.uma import escn_md
from fairchem.core.units.mlip_unit import InferenceSettings, MLIPPredictUnit
from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint
from omegaconf import OmegaConf

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parents[2] / "src"))

from adatom.nn.wigner import edge_frames  # noqa: E402 - found through the line above

MOE = "fairchem.core.models.uma.escn_moe."
ESCN = "fairchem.core.models.uma.escn_md."
SINGLE = MOE + "DatasetSpecificSingleHeadWrapper"
EXPERTS = MOE + "DatasetSpecificMoEWrapper"
ELEMENTS = 20

SMALL = {
    "max_num_elements": ELEMENTS,
    "sphere_channels": 6,
    "hidden_channels": 8,
    "edge_channels": 5,
    "num_distance_basis": 6,
    "lmax": 2,
    "mmax": 2,
    "num_layers": 2,
    "cutoff": 4.5,
    "max_neighbors": 300,
    "norm_type": "rms_norm_sh",
    "act_type": "gate",
    "ff_type": "spectral",
    "chg_spin_emb_type": "rand_emb",
    "otf_graph": True,
    "direct_forces": False,
    "regress_forces": True,
    "regress_stress": True,
}
DIRECT = {"direct_forces": True, "regress_stress": False}


def wrapped(head: str, datasets: object, wrapper: str = SINGLE, **kwargs: object) -> dict:
    """Return the settings of a head inside a wrapper by dataset."""
    key = "dataset_mapping" if isinstance(datasets, dict) else "dataset_names"
    return {
        "module": wrapper,
        "head_cls": ESCN + head,
        key: datasets,
        "wrap_property": True,
        "head_kwargs": kwargs,
    }


SHARING = {"oc20": "oc20", "oc20_subset": "oc20", "omat": "omat", "omol": "omol"}

#: Name -> model_config without what all share.
MODELS: dict[str, dict] = {
    # As the direct eSEN releases: a dense backbone, one energy and one force head.
    "esen_direct": {
        "backbone": {"model": ESCN + "eSCNMDBackbone", **DIRECT, "dataset_list": ["omol"]},
        "heads": {
            "energy_head": wrapped("MLP_Energy_Head", ["omol"], wrap_property=False),
            "force_head": wrapped("Linear_Force_Head", ["omol"]),
        },
        "pass_through_head_outputs": True,
    },
    # Heads without wrappers, found by the names of their tasks; no dataset embedding.
    "direct_stress": {
        "backbone": {
            "model": "escnmd_backbone",
            **DIRECT,
            "lmax": 3,
            "mmax": 2,
            "norm_type": "layer_norm_sh",
            "use_dataset_embedding": False,
        },
        "heads": {
            "energy": {"module": ESCN + "Linear_Energy_Head", "reduce": "mean"},
            "forces": {"module": ESCN + "Linear_Force_Head"},
            "stress": {"module": ESCN + "MLP_Stress_Head", "reduce": "mean"},
        },
    },
    # Experts with the other norm of their coefficients; heads with one expert per dataset.
    "pnorm_direct": {
        "backbone": {
            "model": MOE + "eSCNMDMoeBackbone",
            **DIRECT,
            "sphere_channels": 4,
            "hidden_channels": 6,
            "num_experts": 2,
            "moe_expert_coefficient_norm": "pnorm",
            "use_composition_embedding": False,
            "dataset_mapping": SHARING,
            "model_version": 1.1,
        },
        "heads": {
            "energy_head": wrapped("MLP_Energy_Head", SHARING, EXPERTS, wrap_property=False),
            "force_head": wrapped("Linear_Force_Head", SHARING, EXPERTS),
            "stress_head": wrapped("MLP_Stress_Head", SHARING, EXPERTS, reduce="sum"),
        },
        "pass_through_head_outputs": True,
    },
    "s2_grid": {
        "backbone": {
            "model": "escnmd_backbone",
            "lmax": 3,
            "mmax": 2,
            "act_type": "s2",
            "ff_type": "grid",
            "norm_type": "layer_norm",
            "dataset_list": ["omat", "omol"],
        },
        "heads": {
            "efs": wrapped("MLP_EFS_Head", ["omat", "omol"], wrap_property=False),
        },
        "pass_through_head_outputs": True,
    },
    "pos_emb": {
        "backbone": {
            "model": ESCN + "eSCNMDBackbone",
            "lmax": 3,
            "mmax": 1,
            "ff_type": "grid",
            "norm_type": "layer_norm_sh",
            "chg_spin_emb_type": "pos_emb",
            "dataset_list": ["omol"],
            "charge_balanced_channels": [1, 0],
            "spin_balanced_channels": [2, 3],
        },
        "heads": {"efs": {"module": ESCN + "MLP_EFS_Head", "prefix": "omol"}},
        "pass_through_head_outputs": True,
    },
    "lin_emb": {
        "backbone": {
            "model": MOE + "eSCNMDMoeBackbone",
            "num_experts": 0,
            "lmax": 2,
            "mmax": 1,
            "act_type": "s2",
            "norm_type": "layer_norm",
            "chg_spin_emb_type": "lin_emb",
            "dataset_mapping": SHARING,
            "spin_balanced_channels": [0],
        },
        "heads": {"efs": wrapped("MLP_EFS_Head", list(SHARING), wrap_property=False)},
        "pass_through_head_outputs": True,
    },
    "uma_s_1p2": {
        "backbone": {
            "model": MOE + "eSCNMDMoeBackbone",
            "sphere_channels": 4,
            "hidden_channels": 6,
            "num_experts": 3,
            "use_composition_embedding": True,
            "dataset_mapping": SHARING,
            "charge_balanced_channels": [0, 1, 2],
            "moe_layer_type": "pytorch",
        },
        "heads": {
            "energyandforcehead": wrapped("MLP_EFS_Head", SHARING, EXPERTS, wrap_property=False)
        },
        "pass_through_head_outputs": True,
        "model_id": "UMA-S-1.2",
        "supports_single_atoms": True,
    },
}


def task(name: str, prop: str, dataset: str, rmsd: float) -> dict:
    """Return one entry of tasks_config."""
    references = [0.0] + [-0.37 * z for z in range(1, ELEMENTS)]
    level, dim = {"energy": ("system", [1]), "forces": ("atom", [3]), "stress": ("system", [1, 9])}[
        prop
    ]
    normalizer = "fairchem.core.modules.normalization.normalizer.Normalizer"
    made = {
        "_target_": "fairchem.core.units.mlip_unit.mlip_unit.Task",
        "name": name,
        "level": level,
        "property": prop,
        "loss_fn": {
            "_target_": "fairchem.core.modules.loss.DDPMTLoss",
            "loss_fn": {"_target_": "fairchem.core.modules.loss.MAELoss"},
            "coefficient": 1,
        },
        "out_spec": {"dim": dim, "dtype": "float32"},
        "normalizer": {"_target_": normalizer, "mean": 0.0, "rmsd": rmsd},
        "datasets": [dataset],
        "metrics": ["mae"],
    }
    if prop == "energy":
        made["element_references"] = {
            "_target_": "fairchem.core.modules.normalization.element_references.ElementReferences",
            "element_references": {"_target_": "torch.DoubleTensor", "_args_": [references]},
        }
    return made


def tasks_of(name: str) -> list[dict]:
    """Return tasks_config: rmsd differs between properties where these are predicted directly."""
    direct = MODELS[name]["backbone"].get("direct_forces", False)
    rmsd = {"energy": 1.423, "forces": 0.9 if direct else 1.423, "stress": 0.3 if direct else 1.423}
    if name == "direct_stress":
        return [task(prop, prop, "omat", value) for prop, value in rmsd.items()]
    datasets = {
        "esen_direct": ["omol"], "pos_emb": ["omol"], "s2_grid": ["omat", "omol"],
    }.get(name, ["oc20", "oc20_subset", "omat", "omol"])  # fmt: skip
    made = []
    for dataset in datasets:
        made.append(task(f"{dataset}_energy", "energy", dataset, rmsd["energy"]))
        made.append(task(f"{dataset}_forces", "forces", dataset, rmsd["forces"]))
        if dataset == "omat" and name != "esen_direct":
            made.append(task(f"{dataset}_stress", "stress", dataset, rmsd["stress"]))
    return made


def systems() -> dict[str, tuple[str, Atoms, int, int]]:
    """Return name -> dataset, structure, charge, spin."""
    water = Atoms("OH2", [[0.1, 0.0, 0.05], [0.6, 0.75, -0.1], [0.4, -0.55, 0.7]])
    ammonium = Atoms("NH4", [[0, 0, 0], [0.6, 0.6, 0.65], [-0.6, -0.62, 0.6], [0.6, -0.6, -0.6],
                             [-0.58, 0.6, -0.55]])  # fmt: skip
    salt = bulk("NaCl", "rocksalt", a=5.5)
    salt.set_cell(salt.cell.array @ [[1.0, 0.02, 0.0], [0.0, 0.98, 0.03], [0.01, 0.0, 1.01]], True)
    salt.positions[1] += [0.1, -0.05, 0.2]
    slab = Atoms("SiCOH", [[0.2, 0.1, 3.0], [1.5, 1.6, 3.4], [1.4, 1.7, 4.6], [0.3, 0.1, 4.5]],
                 cell=[3.4, 3.6, 12.0], pbc=[True, True, False])  # fmt: skip
    return {
        "water_anion": ("omol", water, -1, 2),
        "ammonium": ("omol", ammonium, 1, 1),
        "oxygen_atom": ("omol", Atoms("O"), 0, 3),
        "salt": ("omat", salt, 0, 0),
        "slab": ("oc20", slab, 0, 0),
        "slab_of_subset": ("oc20_subset", slab, 0, 0),
    }


def build(name: str) -> Path:
    """Write the checkpoint with random weights."""
    config = {"_target_": "fairchem.core.models.base.HydraModel", **MODELS[name]}
    config["backbone"] = {**SMALL, **config["backbone"]}
    torch.manual_seed(sorted(MODELS).index(name))
    settings = {key: value for key, value in config.items() if key != "_target_"}
    model = HydraModel(**settings)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "norm" in key or ".net.1." in key or ".net.4." in key or key.endswith("bias"):
                value.add_(0.3 * torch.randn_like(value))
            elif "source_embedding" in key or "target_embedding" in key:
                value.normal_()
            elif ".W" in key:
                value.mul_(0.2)
            elif "energy_block" in key or "so2" in key or "rad_func" in key:
                value.mul_(2.0)  # so that forces are not tiny
    state = model.state_dict()
    ema = {f"module.{key}": value for key, value in state.items()}
    ema["n_averaged"] = torch.tensor(7)
    tasks = tasks_of(name)
    checkpoint = MLIPInferenceCheckpoint(
        model_config=config,
        model_state_dict=state,
        ema_state_dict=ema,
        # As found in the wild: OmegaConf all through, or a plain list of OmegaConf, or plain.
        tasks_config={
            "esen_direct": OmegaConf.create(tasks),
            "pnorm_direct": [OmegaConf.create(one) for one in tasks],
        }.get(name, tasks),
    )
    path = FOLDER / f"{name}.pt"
    torch.save(checkpoint, path)
    return path


def same_frames(vectors: torch.Tensor, lmax: int, **kwargs: object) -> tuple:
    """Rotate into edge frames as fairchem does, rolled so that they are ours."""
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    theirs, _ = ORIGINAL(vectors, lmax, gamma=torch.zeros_like(unit[:, 0]), **kwargs)
    roll = edge_frames(unit) @ theirs[:, 1:4, 1:4].mT
    gamma = torch.atan2(roll[:, 0, 2], roll[:, 0, 0])
    return ORIGINAL(vectors, lmax, gamma=gamma, **kwargs)


ORIGINAL = escn_md.axis_angle_wigner_hybrid


@contextmanager
def float64_throughout(*, our_gauge: bool):
    """Change what the module's docstring says, for a while."""
    torch.set_default_dtype(torch.float64)
    if our_gauge:
        escn_md.axis_angle_wigner_hybrid = same_frames
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        escn_md.axis_angle_wigner_hybrid = ORIGINAL


def data_of(dataset: str, atoms: Atoms, charge: int, spin: int) -> AtomicData:
    """Convert a structure for fairchem."""
    atoms = atoms.copy()
    atoms.info |= {"charge": charge, "spin": spin}
    return AtomicData.from_ase(
        atoms, task_name=dataset, r_data_keys=["charge", "spin"], target_dtype=torch.float64
    )


def predict(path: Path, chosen: dict, *, our_gauge: bool, hessian: bool = False) -> dict:
    """Return fairchem's numbers for each system."""
    settings = InferenceSettings(base_precision_dtype=torch.float64, activation_checkpointing=False)
    if hessian:
        settings.predict_untrained_hessian = {"omol"}
    unit = MLIPPredictUnit(str(path), device="cpu", inference_settings=settings)
    for key, module in unit.model.named_modules():
        if key.endswith("lin_emb"):
            module.register_forward_pre_hook(lambda _, args: (args[0].double(),))
    records = {}
    with float64_throughout(our_gauge=our_gauge):
        for name, entry in chosen.items():
            batch = atomicdata_list_to_batch([data_of(*entry)])
            out = {key: value.detach() for key, value in unit.predict(batch).items()}
            if not entry[1].cell:
                out.pop("stress", None)
            records[name] = {key: value.tolist() for key, value in out.items()}
    return records


def spread(first: dict, second: dict) -> dict[str, float]:
    """Return the greatest difference of each property between two sets of records."""
    worst: dict[str, float] = {}
    for name, record in first.items():
        for key, value in record.items():
            pair = torch.tensor([value, second[name][key]], dtype=torch.float64)
            found = (pair[0] - pair[1]).abs().max()
            worst[key] = max(worst.get(key, 0.0), float(found))
    return worst


def record(name: str) -> None:
    """Write one checkpoint and its reference numbers."""
    path = build(name)
    config = MODELS[name]
    datasets = {dataset for one in tasks_of(name) for dataset in one["datasets"]}
    single = config.get("supports_single_atoms", False)
    chosen = {
        key: entry
        for key, entry in systems().items()
        if entry[0] in datasets and (single or len(entry[1]) > 1)
    }
    made = predict(path, chosen, our_gauge=True)
    if name == "uma_s_1p2":
        water = {"water_anion": chosen["water_anion"]}
        made |= predict(path, water, our_gauge=True, hessian=True)
    described = {
        key: {
            "task": dataset,
            "numbers": atoms.numbers.tolist(),
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist(),
            "pbc": atoms.pbc.tolist(),
            "charge": charge,
            "spin": spin,
            "float64": made[key],
        }
        for key, (dataset, atoms, charge, spin) in chosen.items()
    }
    random = predict(path, chosen, our_gauge=False)
    written = {
        "package": "fairchem-core 2.24.0",
        "gauge_spread": spread(random, made),
        "systems": described,
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(written, indent=1) + "\n")
    sys.stdout.write(f"{name} {path.stat().st_size} {written['gauge_spread']}\n")


if __name__ == "__main__":
    for wanted in sys.argv[1:] or MODELS:
        record(wanted)
