"""Files of portable models: what is written can be read, what is wrong is one sentence."""

from __future__ import annotations

import json
import subprocess

import pytest
from kim_toys import DescriptorToy, GraphToy, RawToy, description

from adatom.core.errors import ConfigError, DataError, FileAccessError, UnknownNameError
from adatom.core.files import sha256_of
from adatom.deploy.kim.description import ModelDescription
from adatom.deploy.kim.model_json import FILE_NAME, model_json_text, read_model_json
from adatom.deploy.kim.parameter_file import parameter_file_text, read_parameter_file
from adatom.deploy.kim.portable_model import write_portable_model

#: As published models and the tools that write them lay it out.
PUBLISHED = """# Num of elements
2
Si C

# Preprocessing
Graph

# Cutoff and n_conv layers
4.0
2

# Model name
model.pt

# Return forces
False
# Number of inputs
5

# Any descriptors?
None
"""


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "network.bin"
    path.write_bytes(b"weights" * 100)
    return path


@pytest.mark.parametrize("toy", [RawToy, GraphToy, DescriptorToy])
def test_parameter_files_can_be_read_back(toy, tmp_path):
    about = description(toy())
    path = tmp_path / "a.param"
    path.write_text(parameter_file_text(about))
    found = read_parameter_file(path)
    assert found.species == about.species
    assert (found.pattern, found.cutoff, found.layers) == (
        about.pattern,
        about.cutoff,
        about.layers,
    )
    assert (found.model_file, found.returns_forces) == (about.model_file, False)
    assert found.num_inputs == about.num_inputs
    assert found.descriptor == ("toy" if toy is DescriptorToy else "none")


def test_parameter_files_have_the_published_lines():
    lines = parameter_file_text(description(GraphToy())).splitlines()
    blocks = "\n".join(lines).split("\n\n")
    assert [block.splitlines()[1:] for block in blocks] == [
        ["2", "Si C"], ["Graph"], ["3.2", "2"], ["model.pt"], ["False"], ["5"], ["None"]
    ]  # fmt: skip
    assert all(block.startswith("# ") for block in blocks)


@pytest.mark.parametrize("change", ["", "missing blank lines", "windows", "no descriptor"])
def test_published_layouts_are_read(change, tmp_path):
    text = PUBLISHED
    if change == "missing blank lines":
        text = "\n".join(line for line in text.splitlines() if line)
    if change == "windows":
        text = text.replace("\n", "\r\n")
    if change == "no descriptor":
        text = text[: text.index("# Any")]
    path = tmp_path / "kliff_graph.param"
    path.write_text(text, newline="")
    found = read_parameter_file(path)
    assert (found.species, found.pattern, found.layers) == (("Si", "C"), "graph", 2)
    assert (found.num_inputs, found.descriptor) == (5, "none")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2\nSi C", "3\nSi C", "promises 3 elements and lists 2"),
        ("2\nSi C", "1\nSi C", "more elements than promised"),
        ("2\nSi C", "two\nSi C", "'two' is no number of elements"),
        ("Graph", "Voronoi", "preprocessing .None, Descriptor or Graph."),
        ("4.0\n2", "-4.0\n2", "no positive length"),
        ("4.0\n2", "nan\n2", "no positive length"),
        ("False", "Maybe", "True or False was expected"),
        (
            "\n# Number of inputs\n5\n\n# Any descriptors?\nNone\n",
            "",
            "before the number of inputs",
        ),
    ],
)
def test_wrong_parameter_files_are_one_sentence(old, new, message, tmp_path):
    assert old in PUBLISHED
    path = tmp_path / "a.param"
    path.write_text(PUBLISHED.replace(old, new))
    with pytest.raises(DataError, match=message):
        read_parameter_file(path)


def test_json_can_be_read_back(network, tmp_path):
    about = description(GraphToy(), dtype="float32", species_input="atomic_number")
    folder = write_portable_model(tmp_path / "m", about, network, provenance={"from": "a test"})
    found, record = read_model_json(folder)
    assert found == about
    assert record["model_sha256"] == sha256_of(network) == sha256_of(folder / "model.pt")
    assert record["provenance"] == {"from": "a test"}
    assert record["atomic_numbers"] == [14, 6]


def test_json_of_another_version_is_refused(network, tmp_path):
    folder = write_portable_model(tmp_path / "m", description(RawToy()), network, provenance={})
    path = folder / FILE_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 3}))
    with pytest.raises(DataError, match="version 3"):
        read_model_json(folder)
    path.write_text("{")
    with pytest.raises(DataError, match="damaged"):
        read_model_json(folder)
    with pytest.raises(DataError, match="cannot be written as JSON"):
        model_json_text(description(RawToy()), "0" * 64, {"a": object()})


def test_folder_is_complete_and_never_overwritten_by_accident(network, tmp_path):
    about = description(RawToy())
    folder = write_portable_model(tmp_path / "m", about, network, provenance={})
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "adatom.param", "adatom.json", "model.pt", "CMakeLists.txt", "embed.sh", "kimspec.edn",
        "in.lammps",
    }  # fmt: skip
    with pytest.raises(FileAccessError, match="not empty"):
        write_portable_model(folder, about, network, provenance={})
    write_portable_model(folder, about, network, provenance={}, overwrite=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("years")
    with pytest.raises(FileAccessError, match="no portable model"):
        write_portable_model(other, about, network, provenance={}, overwrite=True)
    assert (other / "thesis.tex").exists()


def test_compiled_models_are_shipped_as_programs(network, tmp_path):
    about = description(
        GraphToy(), backend="aotinductor", model_file="model.pt2", edge_vectors=False,
        outputs=("energy", "forces"),
    )  # fmt: skip
    folder = write_portable_model(tmp_path / "m", about, network, provenance={})
    assert (folder / "model.ep").exists()
    assert not (folder / "model.pt2").exists()
    assert "model.pt2 has to be compiled" in (folder / "CMakeLists.txt").read_text()


def test_embedded_bytes_are_the_file(network, tmp_path):
    """What stands in for xxd gives the symbols that KIM's wrapper declares."""
    folder = write_portable_model(tmp_path / "m", description(RawToy()), network, provenance={})
    for name in ("model.pt", "adatom.param"):
        subprocess.run(
            ["sh", str(folder / "embed.sh"), "-i", name, str(tmp_path / f"{name}.c")],
            cwd=folder, check=True,
        )  # fmt: skip
        text = (tmp_path / f"{name}.c").read_text()
        symbol = name.replace(".", "_")
        assert f'"{symbol}:\\n"' in text
        assert f'"{symbol}_len:\\n"\n".long {(folder / name).stat().st_size}\\n"' in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Si"}, "__MO_"),
        ({"name": "1Si__MO_000000000001_000"}, "__MO_"),
        ({"cutoff": 0.0}, "cutoff is 0.0"),
        ({"layers": 2}, "raw model has 2 layers"),
        ({"descriptor": "SOAP"}, "descriptor"),
        ({"model_file": "../model.pt"}, "plain name"),
        ({"model_file": "model.pt2"}, "ends in .pt"),
        ({"outputs": ("forces",)}, "'energy' first"),
        ({"outputs": ("energy", "particle_virial")}, "does not return forces"),
        ({"outputs": ("energy", "forces")}, "Edge vectors"),
        ({"backend": "aotinductor", "model_file": "m.pt2"}, "does not return forces"),
        ({"species": ("Si", "Si")}, "each once"),
    ],
)
def test_descriptions_that_contradict_themselves_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        description(RawToy(), **changes)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="'Xx'"):
        description(RawToy(), species=("Xx",))
    with pytest.raises(UnknownNameError, match="did you mean 'graph'"):
        description(RawToy(), pattern="grap")
    facts = ModelDescription(
        name="A__MO_000000000001_000", species=("Si",), pattern="graph", cutoff=4.0, layers=3
    )
    assert (facts.influence_distance, facts.num_inputs) == (12.0, 6)
