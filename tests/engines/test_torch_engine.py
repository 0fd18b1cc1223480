"""The torch engine, on the CPU and (where there is one) on a GPU."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from edgetl.engines import check_parity
from edgetl.engines.torch import TorchEngine
from edgetl.errors import MissingDependencyError
from edgetl.preprocess import Preprocess
from edgetl.targets import Torch


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
    )
    return SimpleNamespace(
        module=module.eval(), dim=16, preprocess=Preprocess(size=8, resize=8), fingerprint="abc"
    )  # fmt: skip


@pytest.fixture
def expected(backbone, batch):
    with torch.no_grad():
        return backbone.module(torch.from_numpy(batch)).numpy()


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
        ),
    ],
)
def test_features(backbone, batch, expected, device):
    engine = TorchEngine(backbone, target=Torch(device=device))
    assert check_parity(engine, batch, expected, what="torch engine") > 0.9999
    assert engine(batch[:0]).shape == (0, 16)
    assert next(backbone.module.parameters()).device.type == "cpu", "the backbone must stay put"


def test_bfloat16_is_close_but_not_the_same(backbone, batch, expected):
    engine = TorchEngine(backbone, target=Torch(precision="bf16"))
    features = engine(batch)
    assert features.dtype == np.float32
    assert not np.array_equal(features, expected)
    check_parity(engine, batch, expected, min_cosine=0.999, what="bfloat16")
    assert engine.fingerprint != TorchEngine(backbone).fingerprint


def settings():
    return (
        torch.backends.cudnn.conv.fp32_precision,
        torch.backends.cudnn.rnn.fp32_precision,
        torch.backends.cuda.matmul.fp32_precision,
    )


@pytest.fixture
def tensor_float():
    """A function that allows or forbids TensorFloat-32; everything is put back afterwards."""
    before, products = settings(), torch.get_float32_matmul_precision()

    def allow(*, convolutions, precision):
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(precision)

    yield allow
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.conv.fp32_precision = before[0]
    torch.backends.cudnn.rnn.fp32_precision = before[1]
    torch.backends.cuda.matmul.fp32_precision = before[2]
    assert settings() == before


def test_tensor_float_is_part_of_a_gpus_fingerprint(backbone, monkeypatch, tensor_float):
    # Fingerprints need no GPU: nothing is moved to the device before the first batch.
    monkeypatch.setattr("edgetl.engines.torch.find_device", torch.device)
    found = {"cuda": set(), "cpu": set()}
    for convolutions, precision in ((True, "highest"), (False, "highest"), (False, "high")):
        tensor_float(convolutions=convolutions, precision=precision)
        for device, fingerprints in found.items():
            fingerprints.add(TorchEngine(backbone, target=Torch(device=device)).fingerprint)
    assert len(found["cuda"]) == 3
    assert len(found["cpu"]) == 1
    tensor_float(convolutions=True, precision="highest")
    assert TorchEngine(backbone, target=Torch(device="cuda")).fingerprint in found["cuda"]


def test_a_read_only_batch(backbone, batch, expected):
    batch.flags.writeable = False
    np.testing.assert_allclose(TorchEngine(backbone)(batch), expected, atol=1e-6)


def test_devices_that_are_not_there(backbone):
    with pytest.raises(ValueError, match="'gpu' is no torch device"):
        TorchEngine(backbone, target=Torch(device="gpu"))
    with pytest.raises(MissingDependencyError, match="cuda devices here, not 'cuda:99'"):
        TorchEngine(backbone, target=Torch(device="cuda:99"))


def test_wrong_batches(backbone, batch):
    engine = TorchEngine(backbone)
    with pytest.raises(ValueError, match="batches of shape"):
        engine(batch[:, :, :4])
    with pytest.raises(TypeError, match="float32"):
        engine(batch.astype(np.float64))


def test_a_backbone_without_a_module():
    with pytest.raises(TypeError, match="no torch module"):
        TorchEngine(SimpleNamespace(dim=3))
