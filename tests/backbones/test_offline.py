"""The backbone that is taken where none is named, by what is on the machine."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from edgetl.backbones import offline
from edgetl.backbones.offline import best_offline, given_or_best
from edgetl.cli.main import main
from edgetl.errors import WeightsError


@pytest.fixture(autouse=True)
def empty_caches(tmp_path, monkeypatch):
    """The caches of a machine that has fetched nothing; what lies in the folder, is in them."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def keep_in_hub(folder, name, file="model.safetensors"):
    """Lay a file where the hub's library keeps what it fetched."""
    home = folder / "hub" / f"models--timm--{name}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("0123abc")
    (home / "snapshots" / "0123abc").mkdir(parents=True)
    (home / "snapshots" / "0123abc" / file).write_bytes(b"weights")


def keep_checkpoint(folder, file):
    path = folder / "torch" / "checkpoints" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")


def test_without_any_it_is_the_packages_own():
    name, reason = best_offline()
    assert name == "edgetl_nano"
    assert "comes with edgetl" in reason and "are on this machine" in reason


def test_the_best_of_those_that_are_there(empty_caches):
    keep_checkpoint(empty_caches, "squeezenet1_1-b8a52dc0.pth")
    keep_checkpoint(empty_caches, "resnet18-f37072fd.pth")
    name, reason = best_offline()
    assert name == "torchvision/squeezenet1_1.IMAGENET1K_V1" and "torch's checkpoints" in reason
    keep_in_hub(empty_caches, "tf_mobilenetv3_small_100.in1k", "pytorch_model.bin")
    assert best_offline()[0] == "tf_mobilenetv3_small_100.in1k"
    keep_checkpoint(empty_caches, "mobilenet_v2-b0353104.pth")
    assert best_offline()[0] == "torchvision/mobilenet_v2.IMAGENET1K_V1"
    keep_in_hub(empty_caches, "mobilenetv2_100.ra_in1k")
    name, reason = best_offline()
    assert name == "mobilenetv2_100.ra_in1k" and "the model hub's cache" in reason


@pytest.mark.parametrize(
    ("missing", "all_need"),
    [
        *(("torch", True), ("torchvision", True), ("onnxscript", True)),
        *(("timm", False), ("huggingface_hub", False)),
    ],
)
def test_what_can_not_be_loaded_is_not_chosen(empty_caches, monkeypatch, missing, all_need):
    keep_in_hub(empty_caches, "mobilenetv2_100.ra_in1k")
    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else known(name)
    )
    name, reason = best_offline()
    assert name == "edgetl_nano"
    assert ("edgetl[train]" in reason) is all_need


def test_the_folder_of_checkpoints_is_found_without_torch(tmp_path, monkeypatch):
    monkeypatch.delitem(offline.sys.modules, "torch")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    assert offline._checkpoints() == tmp_path / "home" / "hub" / "checkpoints"
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert offline._checkpoints() == tmp_path / "xdg" / "torch" / "hub" / "checkpoints"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert offline._checkpoints() == Path.home() / ".cache" / "torch" / "hub" / "checkpoints"


@pytest.mark.parametrize("known", offline._KNOWN, ids=lambda known: known.name)
def test_what_is_looked_for_is_what_loading_looks_for(known):
    """Names, tags and files of checkpoints are those of the installed timm and torchvision."""
    if known.checkpoint is None:
        import timm

        config = timm.get_pretrained_cfg(known.name)
        assert config.hf_hub_id in ("timm/", f"timm/{known.name}")
        return
    from torchvision import models

    architecture, _, tag = known.name.removeprefix("torchvision/").partition(".")
    assert Path(models.get_model_weights(architecture)[tag].url).name == known.checkpoint


def test_it_is_said_which_and_why(capsys):
    assert given_or_best("resnet18", None) == ("resnet18", None)
    assert capsys.readouterr().err == ""
    assert given_or_best(None, None) == ("edgetl_nano", None)
    said = capsys.readouterr().err
    assert said.startswith("backbone: edgetl_nano, which comes with edgetl")
    assert said.count("\n") == 1 and "--backbone" in said


def test_weights_without_a_name(tmp_path, capsys):
    file = tmp_path / "student.safetensors"
    tensors = {"a": np.zeros(1, np.float32)}
    save_file(tensors, file, metadata={"edgetl.backbone": "mobilenetv3_small_050"})
    assert given_or_best(None, file) == ("mobilenetv3_small_050", file)
    assert f"mobilenetv3_small_050, as {file} says" in capsys.readouterr().err
    save_file(tensors, file)
    with pytest.raises(ValueError, match=r"does not say which network .*--backbone"):
        given_or_best(None, file)
    with pytest.raises(WeightsError, match="does not exist"):
        given_or_best(None, tmp_path / "none.safetensors")
    words = ["adapt", str(tmp_path), "--weights", str(file), "-o", str(tmp_path / "x.edgetl")]
    assert main(words) == 2
    assert "does not say which network" in capsys.readouterr().err


def test_words_need_a_pair(tmp_path, capsys):
    words = ["adapt", "--method", "zeroshot", "--labels", "cat,dog"]
    assert main([*words, "-o", str(tmp_path / "x.edgetl")]) == 2
    assert "open_clip/" in capsys.readouterr().err
