"""Parts of the driver that decide and read, compiled alone and called with made-up machines."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from ase.data import chemical_symbols
from kim_toys import GraphToy, RawToy, description

from adatom.deploy.kim.driver_install import SOURCES
from adatom.deploy.kim.model_json import model_json_text
from adatom.deploy.kim.parameter_file import parameter_file_text

PARTS = (
    "device_choice", "elements", "environment", "failure", "json", "model_description",
    "parameter_file", "sha256", "torch_version",
)  # fmt: skip


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    """Return a function that calls the probe and gives its output, or raises its failure."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++ (apt-get install g++)")
    program = tmp_path_factory.mktemp("probe") / "probe"
    source = Path(__file__).with_name("driver_probe.cpp")
    files = [str(SOURCES / f"{part}.cpp") for part in PARTS]
    subprocess.run(
        [compiler, "-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}",
         str(source), *files, "-o", str(program)],
        check=True,
    )  # fmt: skip

    def call(*arguments: object) -> str:
        done = subprocess.run(
            [str(program), *map(str, arguments)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ValueError(done.stderr)
        return done.stdout

    return call


@pytest.mark.parametrize(
    ("gpus", "environment", "expected"),
    [
        (0, [], "cpu threads=1"),
        (4, [], "cpu threads=1"),
        (2, ["KIM_MODEL_EXECUTION_DEVICE=cuda"], "cuda:0 threads=1"),
        (2, ["KIM_MODEL_EXECUTION_DEVICE=CUDA", "OMPI_COMM_WORLD_LOCAL_RANK=3"],
         "cuda:1 threads=1"),
        (4, ["KIM_MODEL_EXECUTION_DEVICE=cuda", "MPI_LOCALRANKID=3"], "cuda:3 threads=1"),
        (4, ["KIM_MODEL_EXECUTION_DEVICE=cuda", "SLURM_LOCALID=5"], "cuda:1 threads=1"),
        # What is visible was counted by PyTorch already: indices start at 0.
        (2, ["KIM_MODEL_EXECUTION_DEVICE=cuda", "CUDA_VISIBLE_DEVICES=2,3",
             "OMPI_COMM_WORLD_LOCAL_RANK=1"], "cuda:1 threads=1"),
        (4, ["KIM_MODEL_EXECUTION_DEVICE=cuda:2", "OMPI_COMM_WORLD_LOCAL_RANK=1"],
         "cuda:2 threads=1"),
        (0, ["KIM_MODEL_EXECUTION_DEVICE=cpu", "OMPI_COMM_WORLD_LOCAL_RANK=1"], "cpu threads=1"),
        (0, ["OMP_NUM_THREADS=4,2"], "cpu threads=4"),
        (0, ["OMP_NUM_THREADS=4", "ADATOM_KIM_THREADS=2"], "cpu threads=2"),
    ],
)  # fmt: skip
def test_ranks_go_round_the_gpus_of_their_node(probe, gpus, environment, expected):
    assert probe("device", gpus, *environment) == expected


@pytest.mark.parametrize(
    ("gpus", "environment", "message"),
    [
        (0, "KIM_MODEL_EXECUTION_DEVICE=cuda", "sees no CUDA device"),
        (2, "KIM_MODEL_EXECUTION_DEVICE=cuda:2", "sees 2 CUDA device"),
        (2, "KIM_MODEL_EXECUTION_DEVICE=cuda:x", "'cuda:x' .* unknown"),
        (2, "KIM_MODEL_EXECUTION_DEVICE=gpu", "'gpu' .* unknown; expected cpu, cuda or cuda:N"),
        (2, "ADATOM_KIM_THREADS=0", "ADATOM_KIM_THREADS is '0'"),
        (2, "OMPI_COMM_WORLD_LOCAL_RANK=one", "is 'one'; expected a whole number"),
    ],
)
def test_devices_that_are_not_there_are_refused(probe, gpus, environment, message):
    with pytest.raises(ValueError, match=message):
        probe("device", gpus, environment)


def test_another_pytorch_is_refused(probe):
    probe("torch", "020d000000000000", "020d010000000000")
    with pytest.raises(ValueError, match=r"built with PyTorch 2\.13\.0, .* PyTorch 2\.12\.1"):
        probe("torch", "020d000000000000", "020c010000000000")


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 119, 120, 2**20 - 1, 2**20, 2**20 + 7])
def test_checksums_are_those_of_python(probe, size, tmp_path):
    content = bytes((7 * i) % 251 for i in range(size))
    (tmp_path / "f").write_bytes(content)
    assert probe("sha256", tmp_path / "f") == hashlib.sha256(content).hexdigest()


def test_elements_have_their_numbers(probe):
    for number in (1, 8, 18, 43, 81, 92, 118):
        assert probe("element", chemical_symbols[number]) == str(number)
    assert probe("element", "A") == "0"


def test_long_messages_become_one_line(probe):
    assert probe("line", "first\nsecond\n") == "first"
    text = "Failed in the interpreter.\nTraceback:\n  File x\nRuntimeError: the cause\n"
    assert probe("line", text) == "RuntimeError: the cause"


def written(folder, about, **changes):
    """Write the files of a model and return their names."""
    record = json.loads(model_json_text(about, "0" * 64, {"quote": 'ü "\\ 😀'}))
    (folder / "adatom.param").write_text(parameter_file_text(about))
    (folder / "adatom.json").write_text(json.dumps(record | changes))
    return ("adatom.param", "model.pt", "adatom.json")


def test_descriptions_are_read_as_python_wrote_them(probe, tmp_path):
    about = description(GraphToy(), species_input="atomic_number")
    files = written(tmp_path, about)
    assert probe("description", tmp_path, *files) == "Si C 2 3.2 2 model.pt 0 5 none 1 1 6.4"
    assert probe("description", tmp_path, *files[:2]) == "Si C 2 3.2 2 model.pt 0 5 none 0 0 6.4"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cutoff": 9.0}, "Its cutoff differs"),
        ({"layers": 1.5}, "'layers' is not a whole number"),
        ({"species": ["Si"]}, "list of species differs"),
        ({"outputs": ["energy", "forces"]}, "statement about forces differs"),
        ({"schema": "other"}, "schema is 'other'"),
        ({"version": 3}, "schema version is 3, and this driver reads 2"),
        ({"edge_vectors": "yes"}, "'edge_vectors' is not true or false"),
    ],
)
def test_contradictions_are_refused(probe, changes, message, tmp_path):
    files = written(tmp_path, description(GraphToy()), **changes)
    with pytest.raises(ValueError, match=f"adatom.json is wrong. .*{message}"):
        probe("description", tmp_path, *files)


@pytest.mark.parametrize("text", ["{", '{"a": }', '{"a": 1} x', '{"a": "\\q"}', "", "[" * 200])
def test_damaged_json_is_refused(probe, text, tmp_path):
    files = written(tmp_path, description(RawToy()))
    (tmp_path / "adatom.json").write_text(text)
    with pytest.raises(ValueError, match="It is not JSON"):
        probe("description", tmp_path, *files)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2\nSi C", "3\nSi C", "promises 3 element.s. and lists 2"),
        ("2\nSi C", "1\nSi C", "more elements than it promises"),
        ("2\nSi C", "2\nSi Si", "lists the element Si twice"),
        ("Graph", "Voronoi", "'Voronoi' where the preprocessing"),
        ("3.2", "0", "'0' for the cutoff"),
        ("3.2", "3.2x", "'3.2x' for the cutoff"),
        ("False", "Maybe", "'Maybe' for whether forces are returned"),
        ("inputs\n5", "inputs\n4", "a graph model takes 5"),
        ("model.pt", "other.pt", "'other.pt', which this model does not contain"),
    ],
)
def test_wrong_parameter_files_are_refused(probe, old, new, message, tmp_path):
    files = written(tmp_path, description(GraphToy()))
    text = (tmp_path / "adatom.param").read_text()
    assert old in text
    (tmp_path / "adatom.param").write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message):
        probe("description", tmp_path, *files[:2])
