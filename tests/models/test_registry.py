"""Files may name only registered or allowed classes, and nothing else is ever imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from adatom.core.errors import ConfigError, UnknownNameError
from adatom.models.registry import allow, build, class_path_of, find_class, registered_classes
from toy_backbone import ToyBackbone, ToyHead


def test_every_registered_class_is_found_by_both_names():
    for name, path in registered_classes().items():
        assert find_class(name) is find_class(path)
        assert find_class(name).__name__ == name


def test_a_built_model_tells_its_path_and_arguments():
    head = build("EnergyHead", {"num_channels": 4, "hidden_channels": 3})
    assert class_path_of(head) == registered_classes()["EnergyHead"]
    again = build(class_path_of(head), head.init_args)
    assert again.init_args == head.init_args


def test_a_class_of_the_user_must_be_allowed():
    path = class_path_of(ToyHead())
    with pytest.raises(UnknownNameError, match=r"allow=\['toy_backbone.ToyHead'\]"):
        build(path, {})
    assert isinstance(build(path, {}, allow=[path]), ToyHead)
    assert isinstance(build(path, {}, allow=[ToyHead]), ToyHead)
    with allow(ToyHead), allow("toy_backbone.ToyBackbone"):
        assert isinstance(build(path, {}), ToyHead)
        assert isinstance(build("toy_backbone.ToyBackbone", {}), ToyBackbone)
    with pytest.raises(UnknownNameError):
        build(path, {})


def test_the_nearest_name_is_proposed():
    with pytest.raises(UnknownNameError, match="did you mean 'EnergyHead'"):
        find_class("EnergyHaed")
    with pytest.raises(ConfigError, match="no argument 'hiden_channels'; did you mean 'hidden"):
        build("EnergyHead", {"num_channels": 4, "hiden_channels": 3})
    with pytest.raises(ConfigError, match="needs the arguments hidden_channels"):
        build("EnergyHead", {"num_channels": 4})


@pytest.mark.parametrize("path", ["os.system", "subprocess.Popen", "this.s", "antigravity", ""])
def test_other_names_are_refused_without_being_imported(path):
    with pytest.raises(UnknownNameError):
        build(path, {})
    assert "antigravity" not in sys.modules
    assert "this" not in sys.modules


@pytest.mark.parametrize("path", ["os.system", "pathlib.Path", "no_such_module.Model", "nodots"])
def test_an_allowed_path_must_lead_to_a_model(path):
    with pytest.raises(ConfigError):
        build(path, {}, allow=[path])


def test_importing_the_registry_imports_no_model():
    code = "import sys, adatom.models.registry\nsys.exit('adatom.models.escn_md' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
