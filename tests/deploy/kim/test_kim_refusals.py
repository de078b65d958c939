"""What is wrong with a model or a machine is refused at creation, in one sentence."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path

import pytest
import torch
from kim_systems import silicon_carbide
from kim_toys import RawToy, RawToyWithForces, description

from adatom.core.errors import UnknownNameError
from adatom.deploy.kim.configuration import make_configuration
from adatom.deploy.kim.description import DRIVER_NAME
from adatom.deploy.kim.items import find_item, installed_items, remove_item
from adatom.deploy.kim.kim_model import KimModel
from adatom.deploy.kim.libkim import KimError

pytestmark = pytest.mark.slow


def edited(name: str, old: str, new: str):
    """Return a change of one of the files of a portable model."""

    def change(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def without_json(folder):
    """Leave what a model of the published driver consists of."""
    edited("CMakeLists.txt", ' "adatom.json"', "")(folder)
    (folder / "adatom.json").unlink()


def damaged(folder):
    content = bytearray((folder / "model.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.pt").write_bytes(content)


def damaged_without_json(folder):
    without_json(folder)
    content = (folder / "model.pt").read_bytes()
    (folder / "model.pt").write_bytes(content[: len(content) // 2])


def for_older_torch(folder):
    record = json.loads((folder / "adatom.json").read_text())
    record |= {"backend": "aotinductor", "torch_version": "2.1.0"}
    (folder / "adatom.json").write_text(json.dumps(record))


def unpacked():
    """Return what models unpacked and did not remove."""
    return set(Path("/tmp").glob("kim-shared-library-parameter-file-directory-*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damaged, r"'model.pt' is damaged: its SHA-256"),
        (damaged_without_json, r"'model.pt' cannot be loaded: "),
        (edited("adatom.param", "Si C", "Si Ge"), r"Its list of species differs"),
        (edited("adatom.param", "4.0", "5.0"), r"Its cutoff differs"),
        (edited("adatom.json", '"version": 2', '"version": 7'), r"schema version is 7"),
        (for_older_torch, r"compiled with PyTorch 2.1.0, and the driver has"),
    ],
)
def test_models_that_are_refused(install, change, message, request):
    number = f"{zlib.crc32(request.node.name.encode()):012d}"
    model = RawToy()
    name = install(model, description(model, name=f"Bad__MO_{number}_000"), change)
    there = unpacked()
    with pytest.raises(KimError, match=message) as caught:
        KimModel(name)
    assert unpacked() <= there
    told = str(caught.value)
    assert "\n" not in told
    assert len(told) < 500
    remove_item(name)
    assert find_item(name) is None
    with pytest.raises(UnknownNameError):
        remove_item(name)


@pytest.fixture(scope="module")
def published(install):
    """Install a model as others publish them: three files, returns a total and forces."""
    model = RawToyWithForces()
    name = "Published__MO_300000000000_000"
    return install(model, description(model, name=name), without_json)


def test_unknown_species_of_a_published_model(install):
    model = RawToy()

    def change(folder):
        without_json(folder)
        edited("adatom.param", "Si C", "Si Qq")(folder)

    name = install(model, description(model, name="Qq__MO_300000000001_000"), change)
    with pytest.raises(KimError, match="names the species 'Qq', which is no element"):
        KimModel(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which is not refused")
def test_missing_gpu_is_refused(published, monkeypatch):
    monkeypatch.setenv("KIM_MODEL_EXECUTION_DEVICE", "cuda")
    with pytest.raises(KimError, match="sees no CUDA device"):
        KimModel(published)
    monkeypatch.setenv("KIM_MODEL_EXECUTION_DEVICE", "tpu")
    with pytest.raises(KimError, match="'tpu' in KIM_MODEL_EXECUTION_DEVICE is unknown"):
        KimModel(published)


def test_wrong_numbers_of_threads_are_refused(published, monkeypatch):
    monkeypatch.setenv("ADATOM_KIM_THREADS", "many")
    with pytest.raises(KimError, match="ADATOM_KIM_THREADS is 'many'"):
        KimModel(published)


def test_published_models_give_no_energies_of_particles_that_they_do_not_have(published):
    with KimModel(published) as opened:
        configuration = make_configuration(silicon_carbide(1), opened.species_codes, 4.0)
        with pytest.raises(KimError, match=re.escape("returns a tensor of shape []")):
            opened.compute(configuration, ["partialParticleEnergy"])
        assert opened.compute(configuration).forces is not None


def test_elements_map_gives_atomic_numbers(published, monkeypatch):
    """The toy's table has two rows, so that atomic numbers end in an error of PyTorch."""
    monkeypatch.setenv("KIM_MODEL_ELEMENTS_MAP", "yes")
    with KimModel(published) as opened:
        configuration = make_configuration(silicon_carbide(1), opened.species_codes, 4.0)
        with pytest.raises(KimError, match=r"out of (range|bounds)"):
            opened.compute(configuration)


def test_infinite_energies_are_errors(install):
    model = RawToy()
    torch.nn.init.constant_(model.strength, torch.inf)
    name = install(model, description(model, name="Infinite__MO_300000000002_000"))
    with KimModel(name) as opened:
        configuration = make_configuration(silicon_carbide(1), opened.species_codes, 4.0)
        with pytest.raises(KimError, match="energy is not finite"):
            opened.compute(configuration)


def test_unknown_models_and_taken_names(published, install):
    with pytest.raises(KimError, match="cannot open the model 'Nothing__MO_000000000000_000'"):
        KimModel("Nothing__MO_000000000000_000")
    assert {item.name for item in installed_items()} >= {published, DRIVER_NAME}
    with pytest.raises(KimError, match="installed already"):
        install(RawToy(), description(RawToy(), name=published))
