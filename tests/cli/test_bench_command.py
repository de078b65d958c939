"""``adatom bench``: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json

import pytest
from ase.build import bulk, molecule
from ase.io import write

from adatom.checkpoint.format import save_potential
from adatom.cli.bench import named
from adatom.cli.main import main
from adatom.core.errors import ConfigError
from adatom.core.precision import seeded
from adatom.models.energy_head import EnergyHead
from adatom.models.escn_md import eSCNMDBackbone
from adatom.tasks.domain import Domain
from adatom.tasks.potential import Potential
from adatom.tasks.task import Normalizer, OutputSpec, Task

FAST = ["--seconds", "0.05", "--repeats", "2", "--threads", "1"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Save a tiny untrained potential with two tasks, of which one knows copper."""
    names = ["omol", "omat"]
    with seeded(3):
        backbone = eSCNMDBackbone(
            sphere_channels=4,
            hidden_channels=4,
            edge_channels=4,
            num_distance_basis=4,
            num_layers=1,
            lmax=1,
            mmax=1,
            cutoff=3.0,
            dataset_list=names,
        )
        head = EnergyHead(4, 4)
    tasks = [
        Task(f"{name}_energy", "system", "energy", OutputSpec((1,)), Normalizer(0.0, 0.1), [name])
        for name in names
    ]
    domains = {"omol": Domain((6, 9)), "omat": Domain((1, 8, 29), spins=(0,))}
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_potential(Potential(backbone, head, tasks, domains), path)
    return str(path)


@pytest.fixture
def copper(tmp_path):
    path = tmp_path / "cu.xyz"
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    write(path, [atoms, atoms * (2, 1, 1)])
    return str(path)


def test_table_and_recommendation_are_printed_and_numbers_written(model, copper, tmp_path, capsys):
    path = tmp_path / "new" / "speed.json"
    arguments = ["bench", model, copper, "--index", "-1", "--timestep-fs", "2"]
    assert main([*arguments, "--json", str(path), *FAST]) == 0
    out = capsys.readouterr().out
    for word in ("edges", "ms", "atoms/s", "ns/day", "peak memory (MB)", "high-precision", "─"):
        assert word in out
    assert "cu.xyz: For dynamics or relaxation take '" in out
    numbers = json.loads(path.read_text())
    assert numbers["threads"] == 1
    assert set(numbers["versions"]) == {"adatom", "torch"}
    assert list(numbers["recommendations"]) == ["cu.xyz"]
    by_preset = {result["preset"]: result for result in numbers["results"]}
    assert list(by_preset) == ["default", "turbo", "batch", "high-precision"]
    default, batch = by_preset["default"], by_preset["batch"]
    # 12 neighbors of each of 8 atoms at 2.5 angstrom; the next shell is beyond 3.
    assert (default["atoms"], default["edges"], default["task"]) == (8, 96, "omat")
    assert default["properties"] == ["energy", "forces", "stress"]
    assert default["ns_per_day"] == pytest.approx(2e-6 * 86400 / default["seconds"])
    assert default["atoms_per_second"] == pytest.approx(8 / default["seconds"])
    assert default["peak_bytes"] is None or default["peak_bytes"] >= 0
    assert 1 <= default["calls"] <= 2
    assert "Execution" in default["explanation"]
    assert batch["structures"] == 16
    assert batch["ns_per_day"] is None
    assert "float64" in by_preset["high-precision"]["explanation"]


def test_molecules_have_no_stress(model, tmp_path, capsys):
    path, numbers = tmp_path / "water.xyz", tmp_path / "speed.json"
    write(path, molecule("H2O"))
    arguments = ["--presets", "[turbo]", "--json", str(numbers), *FAST]
    assert main(["bench", model, str(path), *arguments]) == 0
    (result,) = json.loads(numbers.read_text())["results"]
    assert (result["preset"], result["properties"]) == ("turbo", ["energy", "forces"])
    assert "turbo" in capsys.readouterr().out


def test_without_a_structure_boxes_of_copper_and_water_are_measured(model, tmp_path, capsys):
    numbers = tmp_path / "speed.json"
    arguments = ["--presets", "[default]", "--json", str(numbers), *FAST]
    assert main(["bench", model, *arguments]) == 0
    results = json.loads(numbers.read_text())["results"]
    assert [(r["structure"], r["atoms"]) for r in results] == [("copper", 108), ("water", 192)]
    capsys.readouterr()
    assert main(["bench", model, "--task", "omol", *arguments]) == 2
    said = capsys.readouterr().err
    assert "knows none of the built-in structures" in said
    assert "adatom bench MODEL STRUCTURE" in said


def test_arguments_without_names(tmp_path):
    structure, checkpoint = tmp_path / "POSCAR", tmp_path / "model.pt"
    structure.touch()
    checkpoint.touch()
    s, m = str(structure), str(checkpoint)
    assert named([s, "--threads", "2"]) == ["--threads", "2", "--structure", s]
    assert named([m]) == ["--model", m]
    assert named(["default"]) == ["--model", "default"]
    assert named(["--index", "-1", m, s]) == ["--index", "-1", "--model", m, "--structure", s]
    assert named(["--index=-1", m, s]) == ["--index=-1", "--model", m, "--structure", s]
    assert named(["--help", m]) == ["--help", "--model", m]
    with pytest.raises(ConfigError, match="Unexpected argument 'c'"):
        named(["a", "b", "c"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--presets", "[turb]"], "did you mean 'turbo'"),
        (["--presets", "[]"], "presets is empty"),
        (["--task", "omatt"], "did you mean 'omat'"),
        (["--second", "3"], "did you mean '--seconds'"),
        (["--seconds", "0"], "seconds is 0"),
        (["--threads", "0"], "threads is 0"),
        (["--repeats", "many"], "repeats is 'many'"),
        (["--index", "7"], "Structure 7 of"),
        (["--task", "omol"], "never saw"),
    ],
)
def test_mistakes_are_one_sentence(model, copper, arguments, message, capsys):
    assert main(["bench", model, copper, *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_a_structure_that_no_task_knows_is_refused(model, tmp_path, capsys):
    path = tmp_path / "gold.xyz"
    write(path, bulk("Au"))
    assert main(["bench", model, str(path)]) == 2
    assert "No task of this potential knows all elements of 'gold.xyz'" in capsys.readouterr().err


def test_missing_files_are_named(model, tmp_path, capsys):
    assert main(["bench", model, str(tmp_path / "no.xyz")]) == 2
    assert "no.xyz" in capsys.readouterr().err
    assert main(["bench", "defualt"]) == 2
    assert "did you mean 'default'" in capsys.readouterr().err
