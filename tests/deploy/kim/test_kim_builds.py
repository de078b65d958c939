"""Other builds of the driver and other places for items; each takes a build."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import ase.io
import pytest
from kim_lammps import need_lammps, run_lammps
from kim_systems import named_systems, silicon_carbide
from kim_toys import GraphToy, RawToy, RawToyWithForces, description, direct

from adatom.cli import main as cli
from adatom.deploy.kim import items
from adatom.deploy.kim.calculator import KimCalculator
from adatom.deploy.kim.description import DRIVER_NAME
from adatom.deploy.kim.driver_install import install_driver
from adatom.deploy.kim.items import Item, find_item
from adatom.deploy.kim.scripted_model import save_torchscript

pytestmark = pytest.mark.slow

ATOMS = named_systems()["one cell"]
#: The driver that the published portable models name, and the files that they consist of.
PUBLISHED_DRIVER = "TorchML__MD_173118614730_001"
PUBLISHED_CMAKE = """cmake_minimum_required(VERSION 3.10)
list(APPEND CMAKE_PREFIX_PATH $ENV{{KIM_API_CMAKE_PREFIX_DIR}})
find_package(KIM-API-ITEMS 2.2 REQUIRED CONFIG)
kim_api_items_setup_before_project(ITEM_TYPE "portableModel")
project({name})
kim_api_items_setup_after_project(ITEM_TYPE "portableModel")
add_kim_api_model_library(
  NAME ${{PROJECT_NAME}}
  DRIVER_NAME "{driver}"
  PARAMETER_FILES "{parameters}" "model.pt"
)
"""
PUBLISHED_PARAMETERS = """# Num of elements
2
Si C

# Preprocessing
{pattern}

# Cutoff and n_conv layers
{cutoff}

# Model name
model.pt

# Return forces
{forces}
# Number of inputs
5

# Any descriptors?
None
"""

TWO_RANKS = """
kim init {name} metal
atom_style atomic
read_data data.atoms
mass 1 28.0855
mass 2 12.011
kim interactions Si C
thermo_style custom step pe
thermo_modify format float %20.15g
run 0
"""


def test_models_laid_out_as_published_run_with_another_name_of_the_driver(kim_driver, tmp_path):
    """Only DRIVER_NAME is changed in folders as the training package and its users write them."""
    for number, model in enumerate((RawToyWithForces(), GraphToy())):
        name = f"PublishedLayout__MO_10000000001{number}_000"
        folder = tmp_path / name
        graph = isinstance(model, GraphToy)
        parameters = "kliff_graph.param" if graph else "file.param"
        folder.mkdir()
        save_torchscript(model, folder / "model.pt")
        (folder / parameters).write_text(
            PUBLISHED_PARAMETERS.format(
                pattern="Graph" if graph else "None",
                cutoff=f"{model.cutoff}\n2" if graph else model.cutoff,
                forces=not graph,
            )
        )
        text = PUBLISHED_CMAKE.format(name=name, driver=PUBLISHED_DRIVER, parameters=parameters)
        (folder / "CMakeLists.txt").write_text(text.replace(PUBLISHED_DRIVER, DRIVER_NAME))
        assert cli.main(["kim", "install", str(folder), "--collection", "environment"]) == cli.OK
        ATOMS.calc = KimCalculator(name)
        expected = direct(model, ATOMS)
        assert ATOMS.get_potential_energy() == pytest.approx(expected.energy, abs=1e-10)
        assert ATOMS.get_forces() == pytest.approx(expected.forces, abs=1e-12)


@pytest.mark.parametrize("variable", ["KIM_MODEL_DISABLE_GRAPH", "KIM_MODEL_DISBALE_GRAPH"])
def test_a_driver_without_graphs_refuses_them(variable, install, kim_driver, tmp_path, monkeypatch):
    raw, graph = RawToy(), GraphToy()
    number = "2" if variable.endswith("DISABLE_GRAPH") else "3"
    raw_name, graph_name = (
        install(model, description(model, name=f"{kind}Only__MO_10000000002{number}_000"))
        for kind, model in (("Raw", raw), ("Graph", graph))
    )
    drivers = tmp_path / "drivers"
    drivers.mkdir()
    monkeypatch.setenv("KIM_API_MODEL_DRIVERS_DIR", str(drivers))
    monkeypatch.setenv(variable, "yes")
    assert find_item(DRIVER_NAME) is None
    install_driver("environment")
    # In a process of its own: this one may have loaded the other driver.
    code = """
import sys
from ase import Atoms
from adatom.deploy.kim.kim_model import KimModel
from adatom.deploy.kim.libkim import KimError
with KimModel(sys.argv[1]):
    pass
try:
    KimModel(sys.argv[2])
except KimError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, raw_name, graph_name],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "built with KIM_MODEL_DISABLE_GRAPH" in done.stdout


def test_a_driver_that_asks_mpi_runs_on_two_ranks(kim_driver, install, tmp_path, monkeypatch):
    need_lammps()
    if shutil.which("mpicxx", path="/usr/bin") is None:
        pytest.skip("needs the headers of MPI: apt-get install libopenmpi-dev")
    model = GraphToy()
    name = install(model, description(model, name="AsksMpi__MO_100000000030_000"))
    drivers = tmp_path / "drivers"
    drivers.mkdir()
    monkeypatch.setenv("KIM_API_MODEL_DRIVERS_DIR", str(drivers))
    # Not that of the Python package mpich.
    monkeypatch.setenv("PATH", os.pathsep.join(["/usr/bin", os.environ["PATH"]]))
    item = install_driver("environment", mpi=True)
    linked = subprocess.run(["ldd", str(item.library)], capture_output=True, text=True, check=True)
    assert "libmpi" in linked.stdout
    atoms = silicon_carbide(1, seed=2)
    ase.io.write(tmp_path / "data.atoms", atoms, format="lammps-data", specorder=["Si", "C"])
    (thermo,) = run_lammps(tmp_path, TWO_RANKS.format(name=name), ranks=2)
    assert thermo[0, 1] == pytest.approx(direct(model, atoms).energy, abs=1e-9)


def test_the_users_collection_takes_driver_and_model(tmp_path, kim_driver, monkeypatch):
    """KIM reads where the user's collection is from a configuration file of this test's own."""
    for kind in ("drivers", "models", "simulators"):
        (tmp_path / kind).mkdir()
    configuration = tmp_path / "configuration"
    monkeypatch.setenv("KIM_API_CONFIGURATION_FILE", str(configuration))
    for variable in (
        "KIM_API_MODEL_DRIVERS_DIR",
        "KIM_API_PORTABLE_MODELS_DIR",
        "KIM_API_SIMULATOR_MODELS_DIR",
    ):
        monkeypatch.setenv(variable, "")
    tool = shutil.which("kim-api-collections-management")
    for kind, folder in (("portable-models", "models"), ("model-drivers", "drivers")):
        command = [tool, f"set-user-{kind}-dir", str(tmp_path / folder)]
        subprocess.run(command, check=True, capture_output=True)
    assert str(tmp_path) in configuration.read_text()
    assert cli.main(["kim", "install-driver", "--collection", "user"]) == cli.OK
    there = find_item(DRIVER_NAME)
    assert there is not None
    assert there.collection == "user"
    assert there.library.is_relative_to(tmp_path)
    assert cli.main(["kim", "remove", DRIVER_NAME]) == cli.OK
    assert find_item(DRIVER_NAME) is None


def test_the_systems_collection_is_left_to_kims_own_tool(monkeypatch, tmp_path):
    """Nothing is installed into the machine by tests: only what would be run is looked at."""
    ran = []
    there = Item("X", "portableModel", "system", tmp_path)
    found = iter([None, there])
    monkeypatch.setattr(items, "find_item", lambda _: next(found))
    monkeypatch.setattr(items, "_run", lambda options, _: ran.append(options))
    assert items.install_item(tmp_path, "X", "system") == there
    assert ran == [["install", "system", str(tmp_path)]]
