"""Weights files that say how photos become their input."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgetl.backbones import load_backbone
from edgetl.backbones.load import untrained_backbone
from edgetl.backbones.recorded import read_record, recorded_preprocess, save_recorded
from edgetl.errors import WeightsError
from edgetl.preprocess import Preprocess

SMALL = Preprocess(size=40, resize=44, interpolation="bilinear", std=(0.5, 0.5, 0.5))


@pytest.mark.parametrize("name", ["test_byobnet", "torchvision/squeezenet1_1"])
def test_they_are_loaded_as_they_were_trained(name, tmp_path):
    network = untrained_backbone(name, seed=3, preprocess=SMALL)
    file = tmp_path / "student.safetensors"
    save_recorded(file, network.module, name=name, preprocess=SMALL, more={"note": "x"})
    loaded = load_backbone(name, file)
    assert loaded.preprocess == SMALL
    assert loaded.fingerprint == network.fingerprint
    assert read_record(file)["note"] == "x"
    other = Preprocess(size=64, resize=64)
    assert load_backbone(name, file, preprocess=other).preprocess == other
    assert [item.name for item in tmp_path.iterdir()] == [file.name]


def test_a_tag_in_the_name_does_not_matter_but_the_architecture_does(tmp_path):
    file = tmp_path / "student.safetensors"
    network = untrained_backbone("test_byobnet", seed=0, preprocess=SMALL)
    save_recorded(file, network.module, name="test_byobnet", preprocess=SMALL)
    assert recorded_preprocess(file, "test_byobnet.r160_in1k") == SMALL
    with pytest.raises(WeightsError, match=r"says that it is of test_byobnet, not of test_resnet"):
        load_backbone("test_resnet", file)


def test_other_files_say_nothing(tmp_path):
    file = tmp_path / "plain.safetensors"
    save_file({"a": torch.zeros(2)}, file)
    assert recorded_preprocess(file, "x") is None
    assert recorded_preprocess(None, "x") is None
    assert read_record(tmp_path / "none.safetensors") == {}
    (tmp_path / "damaged.safetensors").write_bytes(b"12")
    assert read_record(tmp_path / "damaged.safetensors") == {}


def test_a_record_that_makes_no_sense_is_refused(tmp_path):
    file = tmp_path / "student.safetensors"
    for text in ("{", json.dumps({"size": 3})):
        save_file({"a": torch.zeros(2)}, file, metadata={"edgetl.preprocess": text})
        with pytest.raises(WeightsError, match="can't be read"):
            recorded_preprocess(file, "x")


def test_random_weights_are_decided_by_the_seed():
    before = torch.random.get_rng_state()
    first, again, other = (untrained_backbone("test_byobnet", seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.source_classifier is None


def test_the_file_holds_the_whole_network_only(tmp_path):
    network = untrained_backbone("test_byobnet", seed=0)
    file = tmp_path / "student.safetensors"
    save_recorded(file, network.module, name="test_byobnet", preprocess=network.preprocess)
    assert load_file(file).keys() == network.module.state_dict().keys()
