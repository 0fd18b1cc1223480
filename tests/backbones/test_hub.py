"""Pretrained weights without a network: found on this machine, or one clear error."""

import time
from pathlib import Path

import pytest
import torch

from edgetl.backbones import hub, load_backbone
from edgetl.errors import WeightsError


@pytest.fixture
def online(monkeypatch):
    """Let the code believe that it may use the network, where nothing answers."""
    monkeypatch.delenv("EDGETL_OFFLINE")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    # Port 9 of this very machine: refused at once, nothing leaves it.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


@pytest.mark.parametrize("name", ["mobilenetv2_100", "torchvision/squeezenet1_1"])
def test_offline_names_the_option(name, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(WeightsError) as caught:
        load_backbone(name)
    assert "EDGETL_OFFLINE" in str(caught.value)
    assert "--weights" in str(caught.value)
    assert name in str(caught.value)


def test_an_unreachable_hub_is_an_error_within_seconds(online, monkeypatch):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    start = time.monotonic()
    with pytest.raises(WeightsError, match=r"127\.0\.0\.1.*--weights"):
        hub.fetch_from_hub("owner/name", ("model.safetensors",), name="net")
    assert time.monotonic() - start < 20, "the hub's own retries take longer than this"


def test_an_unreachable_address(online, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match=r"net are not on this machine.*--weights"):
        hub.fetch_from_url("http://127.0.0.1:9/net-0123abcd.pth", name="net")
    assert not list(tmp_path.rglob("*.pth"))


def test_a_file_in_torchs_folder_is_used_offline(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path = tmp_path / "checkpoints" / "net-0123abcd.pth"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    assert hub.fetch_from_url("https://host.invalid/net-0123abcd.pth", name="net") == path


def test_a_file_in_the_hubs_cache_is_used_offline(tmp_path, monkeypatch):
    cached = {"pytorch_model.bin": str(tmp_path / "cached.bin")}
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache",
        lambda repository, filename, revision: cached.get(filename),
    )
    found = hub.fetch_from_hub(
        "owner/name@v1", ("model.safetensors", "pytorch_model.bin"), name="net"
    )
    assert found == Path(cached["pytorch_model.bin"])
