"""Weights files: formats, damage, and tensors that don't fit."""

import argparse
import warnings

import pytest
import torch
from safetensors.torch import save_file

from edgetl.backbones.weights import fit_weights, read_weights
from edgetl.errors import WeightsError


def network(classes=None):
    layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten()]
    if classes:
        layers.append(torch.nn.Linear(16, classes))
    return torch.nn.Sequential(*layers)


def fit(module, tensors, spare=("3.",)):
    fit_weights(module, tensors, what="w.pth does not fit net", spare=lambda: spare)


def same(left, right):
    return all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize(
    "nest",
    [
        lambda tensors: tensors,
        lambda tensors: {"state_dict": tensors, "epoch": 3, "args": argparse.Namespace(lr=0.1)},
        lambda tensors: {"model": tensors},
        lambda tensors: {f"module.{key}": value for key, value in tensors.items()},
        lambda tensors: {"model": {f"module._orig_mod.{k}": v for k, v in tensors.items()}},
    ],
    ids=["plain", "state_dict", "model", "parallel", "nested parallel compiled"],
)
def test_torch_files_of_every_usual_form(tmp_path, nest):
    tensors = network().state_dict()
    torch.save(nest(tensors), tmp_path / "w.pth")
    read = read_weights(tmp_path / "w.pth")
    assert read.keys() == tensors.keys()
    assert same(tensors, read)


def test_averaged_weights_are_preferred(tmp_path):
    raw, averaged = network().state_dict(), network().state_dict()
    torch.save({"state_dict": raw, "state_dict_ema": averaged}, tmp_path / "w.pth")
    assert same(averaged, read_weights(tmp_path / "w.pth"))


def test_safetensors(tmp_path):
    tensors = network().state_dict()
    save_file(tensors, tmp_path / "w.safetensors")
    assert same(tensors, read_weights(tmp_path / "w.safetensors"))


def test_a_pickled_object_is_not_run(tmp_path):
    torch.save(network(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="not a readable torch state dict"):
        read_weights(tmp_path / "w.pth")


def test_a_torchscript_archive_is_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is giving TorchScript up
        torch.jit.trace(network().eval(), torch.zeros(1, 3, 4, 4)).save(tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="TorchScript"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: b"version https://git-lfs.github.com/spec/v1\n",
    ],
    ids=["empty", "cut", "pointer"],
)
def test_damaged_files(tmp_path, suffix, damage):
    path = tmp_path / f"w{suffix}"
    (torch.save if suffix == ".pth" else save_file)(network().state_dict(), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WeightsError, match=r"w\."):
        read_weights(path)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(WeightsError, match="does not exist"):
        read_weights(tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="is a folder"):
        read_weights(tmp_path)


def test_files_without_tensors(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="no tensors; its keys are epoch"):
        read_weights(tmp_path / "a.pth")
    torch.save([1, 2], tmp_path / "b.pth")
    with pytest.raises(WeightsError, match="holds a list"):
        read_weights(tmp_path / "b.pth")


def test_the_classifier_may_be_missing_or_of_any_size():
    for classes in (None, 5, 1000):
        source, module = network(classes), network()
        fit(module, source.state_dict())
        assert torch.equal(module[0].weight, source[0].weight)


def test_half_precision_weights_become_float32():
    source, module = network(), network()
    fit(module, source.half().state_dict())
    assert module[0].weight.dtype == torch.float32
    assert torch.equal(module[0].weight, source[0].weight.float())


def test_counts_of_training_steps_may_be_missing():
    tensors = network().state_dict()
    del tensors["1.num_batches_tracked"]
    fit(network(), tensors)


def test_missing_extra_and_reshaped_tensors_are_listed_together():
    module, before = network(), network()
    before.load_state_dict(module.state_dict())
    tensors = network().state_dict()
    del tensors["1.weight"]
    tensors["0.weight"] = torch.zeros(4, 1, 3, 3)
    tensors |= {f"neck.{index}": torch.zeros(1) for index in range(8)}
    with pytest.raises(WeightsError) as caught:
        fit(module, tensors)
    text = str(caught.value)
    assert "w.pth does not fit net" in text
    assert "1 tensors are missing: 1.weight" in text
    assert "8 tensors are not the network's: neck.0, neck.1, neck.2, neck.3, neck.4 and 3" in text
    assert "0.weight (4, 1, 3, 3) instead of (4, 3, 3, 3)" in text
    assert same(before.state_dict(), module.state_dict()), "a refused file must change nothing"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value):
    tensors = network().state_dict()
    tensors["0.weight"][1, 2, 0, 0] = value
    with pytest.raises(WeightsError, match=r"1 tensors hold NaN or infinity: 0\.weight"):
        fit(network(), tensors)


def test_a_conversion_is_used_only_when_it_helps():
    source = network().state_dict()
    foreign = {f"old.{key}": value for key, value in source.items()}

    def convert(tensors, module):
        return {key.removeprefix("old."): value for key, value in tensors.items()}

    def broken(tensors, module):
        raise KeyError("stem.weight")

    module = network()
    fit_weights(module, foreign, what="w", spare=set, convert=convert)
    assert same(source, module.state_dict())
    with pytest.raises(WeightsError, match="7 tensors are not the network's: old"):
        fit_weights(network(), dict(foreign, **{"x": source["0.bias"]}), what="w", spare=set)
    with pytest.raises(WeightsError, match=r"are missing: 0\.weight"):
        fit_weights(network(), foreign, what="w", spare=set, convert=broken)
