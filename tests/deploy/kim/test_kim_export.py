"""A potential exported to KIM gives what it gives in Python, or is not written."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from kim_potentials import DATASET, Native, make_backbone, make_potential
from kim_systems import named_systems, random_cell

from adatom.checkpoint.format import save_potential
from adatom.cli.main import main
from adatom.core.errors import (
    ConfigError,
    DataError,
    FileAccessError,
    OutOfDomainError,
    UnknownNameError,
)
from adatom.core.traced_input import traced_input
from adatom.deploy.kim.configuration import make_configuration
from adatom.deploy.kim.emulator import emulate
from adatom.deploy.kim.export import ExportOptions, export_potential
from adatom.deploy.kim.export_check import ExportError
from adatom.deploy.kim.model_json import read_model_json
from adatom.deploy.kim.sample_structures import sample_structures
from adatom.deploy.kim.scripted_model import quiet_torchscript
from adatom.deploy.staged_potential import StagedPotential, require_staged
from adatom.models.energy_model import AbstractEnergyModel
from adatom.models.graph_network import GraphNetwork
from adatom.models.heads import Heads
from adatom.tasks.domain import Domain
from adatom.tasks.potential import Potential
from adatom.tasks.task import Normalizer, OutputSpec, Task

NAME = "Small__MO_000000000042_000"


def export(potential, folder, **changes):
    """Export with the usual options."""
    options = ExportOptions(**{"name": NAME, "species": ("Si", "C"), **changes})
    return export_potential(potential, options, folder, provenance={"test": True})


def loaded(found):
    """Return what the driver loads."""
    with quiet_torchscript():
        return torch.jit.load(found.folder / "model.pt")


def require_same(found, native, atoms, tolerance=1e-10):
    """Compare the emulated model with the potential in its cell."""
    about = found.description
    codes = {symbol: code for code, symbol in enumerate(about.species)}
    configuration = make_configuration(atoms, codes, about.influence_distance)
    with torch.no_grad():
        given = emulate(loaded(found), about, configuration, particle_virial=True)
    expected = native(atoms)
    assert given.energy / len(atoms) == pytest.approx(
        expected["energy"] / len(atoms), abs=tolerance
    )
    onto = configuration.onto_atoms
    assert onto(given.particle_energies) == pytest.approx(expected["energies"], abs=tolerance)
    assert onto(given.forces) == pytest.approx(expected["forces"], abs=tolerance)
    assert onto(given.particle_virial) == pytest.approx(expected["virials"], abs=tolerance)
    if expected["stress"] is not None:
        volume = abs(np.linalg.det(atoms.cell.array))
        assert given.virial / volume == pytest.approx(expected["stress"], abs=0.01 * tolerance)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("gcn", "graph"),
        ("egnn", "graph"),
        ("escn", "graph"),
        pytest.param("dimenet", "graph", marks=pytest.mark.slow),
        pytest.param("gaanet", "raw", marks=pytest.mark.slow),
    ],
)
def test_the_exported_model_gives_what_the_potential_gives(name, pattern, tmp_path):
    potential = make_potential(name)
    found = export(potential, tmp_path / "model", pattern=pattern)
    assert set(found.differences) == {
        "energy per atom",
        "energies of atoms",
        "forces",
        "virial per atom",
        "virials of atoms",
    }
    assert max(found.differences.values()) <= 1e-10
    native = Native(potential)
    for atoms in [*named_systems().values(), *(random_cell(seed) for seed in range(4))]:
        require_same(found, native, atoms)


def test_experts_are_merged_for_the_stated_composition(tmp_path):
    potential = make_potential("uma")
    with pytest.raises(ConfigError, match="depend on the composition") as missing:
        export(potential, tmp_path / "model")
    assert "--composition" in str(missing.value)
    found = export(potential, tmp_path / "model", species=(), composition="Si2C2")
    assert found.description.species == ("C", "Si")
    assert read_model_json(found.folder)[1]["provenance"]["composition"] == "Si2C2"
    assert "Si2C2 only" in (found.folder / "kimspec.edn").read_text()
    atoms = Atoms("SiC", [[0, 0, 0], [1.0, 1.2, 0.9]], cell=[3.1, 3.0, 3.3], pbc=True)
    require_same(found, Native(potential), atoms)


@pytest.mark.slow
def test_experts_that_know_no_composition_need_none(tmp_path):
    potential = make_potential("uma", use_composition_embedding=False)
    found = export(potential, tmp_path / "model")
    require_same(found, Native(potential), random_cell(1))


def test_float32_is_what_the_potential_gives_in_float32(tmp_path):
    potential = make_potential("egnn", num_layers=1)
    found = export(potential, tmp_path / "model", dtype=torch.float32, pattern="raw")
    assert found.description.dtype == "float32"
    native = Native(potential, torch.float32)
    require_same(found, native, named_systems()["one cell"], tolerance=1e-5)


class _GhostEnergies(StagedPotential):
    """Forgets that ghosts have no energy."""

    def forward(self, species, coordinates, layers, vectors, contributing):
        everyone = torch.ones_like(contributing)
        return super().forward(species, coordinates, layers, vectors, everyone)


class _WrongOrder(StagedPotential):
    """Feeds the smallest graph to the first layer."""

    def forward(self, species, coordinates, layers, vectors, contributing):
        return super().forward(species, coordinates, layers[::-1], vectors[::-1], contributing)


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (_GhostEnergies, DataError, "energies for ghost atoms"),
        (_WrongOrder, ExportError, "differs from the potential"),
    ],
)
def test_a_wrong_model_is_not_written(fault, error, words, tmp_path, monkeypatch):
    monkeypatch.setattr("adatom.deploy.kim.export.StagedPotential", fault)
    with pytest.raises(error, match=words):
        export(make_potential("gcn"), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_what_needs_the_whole_system_is_refused(tmp_path):
    def refusal(potential, **changes):
        with pytest.raises(ConfigError) as found:
            export(potential, tmp_path / "model", **changes)
        return str(found.value)

    assert "mean over all atoms" in refusal(make_potential("gcn", readout="mean"))
    assert "sums of channels" in refusal(make_potential("escn", charge_balanced_channels=[0, 1]))
    assert "adds a constant" in refusal(make_potential("gcn", mean=0.5))
    assert "2 message layers" in refusal(make_potential("gcn"), pattern="raw")
    assert "do not depend on it" in refusal(make_potential("gcn"), composition="SiC")
    assert "has no descriptor" in refusal(make_potential("gcn"), pattern="descriptor")
    other = make_potential("gcn")
    relaxed = Task("relaxed", "system", "relaxed_energy", OutputSpec((1,)), Normalizer(), [DATASET])
    other = Potential(other.backbone, other.head, [relaxed], other.domains)
    assert "relaxed structures" in refusal(other)
    assert not (tmp_path / "model").exists()


class _WholeGraph(AbstractEnergyModel):
    """Takes a graph at a time; what it does with it does not matter here."""

    def forward(self, graph):
        return torch.ones_like(graph.atomic_numbers, dtype=torch.float64)


def test_whole_graphs_and_direct_forces_are_refused():
    domains = {DATASET: Domain((6, 14))}
    energy, forces = (
        Task(name, level, name, OutputSpec(shape), Normalizer(), [DATASET])
        for name, level, shape in (("energy", "system", (1,)), ("forces", "atom", (3,)))
    )
    whole = GraphNetwork(_WholeGraph())
    with pytest.raises(ConfigError, match="takes whole graphs"):
        require_staged(Potential(whole, whole.default_head(), [energy], domains), DATASET)
    heads = Heads(
        {
            "energy": {
                "class_path": "EnergyHead",
                "init_args": {"num_channels": 4, "hidden_channels": 4},
            },
            "forces": {"class_path": "ForceHead", "init_args": {"num_channels": 4}},
        }
    )
    direct = Potential(make_backbone("escn"), heads, [energy, forces], domains)
    with pytest.raises(ConfigError, match="predicts forces directly"):
        require_staged(direct, DATASET)


def test_unknown_elements_charges_and_tasks_are_refused(tmp_path):
    potential = make_potential("gcn")
    with pytest.raises(OutOfDomainError, match="Ge"):
        export(potential, tmp_path / "model", species=("Si", "Ge"))
    with pytest.raises(OutOfDomainError, match="charge 1"):
        export(potential, tmp_path / "model", charge=1)
    with pytest.raises(UnknownNameError, match="omat"):
        export(potential, tmp_path / "model", dataset="omol")
    uma = make_potential("uma")
    with pytest.raises(ConfigError, match="formula"):
        export(uma, tmp_path / "model", species=(), composition="Si(2")
    with pytest.raises(ConfigError, match="composition has"):
        export(uma, tmp_path / "model", species=("Si",), composition="SiC")
    several = Potential(
        potential.backbone,
        potential.head,
        [
            Task(name, "system", "energy", OutputSpec((1,)), Normalizer(), [name])
            for name in ("a", "b")
        ],
        {"a": Domain((6, 14)), "b": Domain((6, 14))},
    )
    with pytest.raises(ConfigError, match="a, b"):
        export(several, tmp_path / "model")


def test_samples_have_neighbors_and_keep_the_composition():
    samples = sample_structures(["Si", "C", "C"], 4.0)
    assert len(samples) >= 6
    for name, atoms in samples.items():
        counts = np.array([atoms.symbols.count("Si"), atoms.symbols.count("C")])
        assert counts[1] == 2 * counts[0], name
        distances = atoms.get_all_distances(mic=True) + 10 * np.eye(len(atoms))
        assert distances.min() > 0.9, name
    assert {tuple(atoms.pbc) for atoms in samples.values()} > {(True,) * 3, (False,) * 3}


def test_tracing_ends_with_its_scope(tmp_path):
    export(make_potential("egnn", num_layers=1), tmp_path / "model", pattern="raw")
    assert traced_input() is None
    # Tables that networks keep hold numbers, not what a trace had in their place.
    assert np.isfinite(Native(make_potential("egnn"))(random_cell(2))["energy"])


def test_the_command_writes_a_folder(tmp_path, capsys):
    checkpoint = tmp_path / "small.safetensors"
    save_potential(make_potential("gcn"), checkpoint)
    command = ["export", "kim", str(checkpoint), "--species", "[Si, C]"]
    assert main(command) == 2
    assert "--name" in capsys.readouterr().err
    command += ["--name", NAME]
    assert main([*command, "-o", str(tmp_path / "model")]) == 0
    assert "adatom kim install" in capsys.readouterr().err
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names >= {"adatom.json", "adatom.param", "CMakeLists.txt", "model.pt", "in.lammps"}
    tests = json.loads((tmp_path / "model" / "self_test.json").read_text())
    assert len(tests["structures"]) == 3
    assert main([*command, "-o", str(tmp_path / "model")]) == 2
    assert "not empty" in capsys.readouterr().err


def test_a_full_folder_is_refused_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "mine.txt").write_text("precious")
    monkeypatch.setattr("adatom.deploy.kim.export.trace_program", None)
    with pytest.raises(FileAccessError, match="not empty"):
        export(make_potential("gcn"), tmp_path)
