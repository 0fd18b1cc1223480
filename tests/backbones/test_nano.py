"""edgetl_nano: numpy, the graph and torch agree; its weights files; training it further."""

import json
import re

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file, save_file

import edgetl
from edgetl.backbones import load_backbone
from edgetl.backbones.load import untrained_backbone
from edgetl.backbones.module import ModuleBackbone
from edgetl.backbones.nano import (
    ARCHITECTURE,
    INPUT,
    NAME,
    NanoBackbone,
    branched_shapes,
    fold_branches,
    plain_shapes,
    shipped_weights,
)
from edgetl.backbones.nano_training import BranchedNano, Nano, nano_module, untrained_nano
from edgetl.backbones.recorded import read_record, save_recorded
from edgetl.engines.ort import OrtEngine
from edgetl.engines.torch import TorchEngine
from edgetl.errors import WeightsError
from edgetl.transfer.finetune import Finetune, finetune
from edgetl.transfer.method import NetworkTask
from edgetl.transfer.recipe import Recipe
from edgetl.transfer.stages import find_stages


@pytest.fixture(scope="module")
def branched():
    """The network with branches, its norms as training would leave them: nowhere trivial."""
    torch.manual_seed(3)
    network = BranchedNano()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if ("norm" in name or "identity" in name) and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
            if name.endswith(("norm.bias", "running_mean")):
                tensor.uniform_(-0.3, 0.3)
    return network.eval()


@pytest.fixture(scope="module")
def tensors(branched):
    return fold_branches({name: t.numpy() for name, t in branched.state_dict().items()})


@pytest.fixture
def network(tensors):
    return NanoBackbone(tensors, preprocess=INPUT)


def images(count=3, size=96, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 3, size, size)).astype(np.float32)


def relative(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def test_the_folded_network_computes_what_the_branches_do(branched, tensors):
    assert {n: a.shape for n, a in tensors.items()} == plain_shapes()
    kept = {n: tuple(t.shape) for n, t in branched.state_dict().items() if "num_" not in n}
    assert kept == branched_shapes()
    with torch.inference_mode():
        expected = branched(torch.from_numpy(images())).numpy()
        found = branched.fold()(torch.from_numpy(images())).numpy()
    assert expected.max() > 0.1 and (expected > 0).mean() > 0.2
    assert relative(found, expected) < 1e-4


@pytest.mark.parametrize("size", [96, 65, 1])
def test_numpy_the_graph_and_torch_agree(tensors, tmp_path, size):
    network = NanoBackbone(tensors, preprocess=edgetl.Preprocess(size=size, resize=size))
    batch = images(size=size)
    module = nano_module(tensors)
    with torch.inference_mode():
        expected = module(torch.from_numpy(batch)).numpy()
    network.to_onnx(tmp_path / "nano.onnx")
    engine = OrtEngine(tmp_path / "nano.onnx", dim=256, graph_fingerprint="x")
    assert relative(network.features(batch), expected) < 1e-4
    assert relative(engine(batch), expected) < 1e-4
    assert network.features(batch[:0]).shape == (0, 256)
    plain = ModuleBackbone(
        NAME, architecture=ARCHITECTURE, module=module, preprocess=network.preprocess
    )
    assert network.fingerprint == plain.fingerprint


def test_more_images_than_are_computed_at_once(network):
    batch = images(35, size=9)
    whole = network.features(batch)
    for row in (0, 31, 32, 34):
        assert relative(network.features(batch[row : row + 1]), whole[row]) < 1e-5


def test_the_graph_is_as_exported_graphs_are(network, tmp_path):
    network.to_onnx(tmp_path / "nano.onnx")
    model = onnx.load(tmp_path / "nano.onnx")
    onnx.checker.check_model(model, full_check=True)
    (image,), (output,) = model.graph.input, model.graph.output
    assert (image.name, output.name) == ("images", "features")
    shapes = [
        [item.dim_param or item.dim_value for item in end.type.tensor_type.shape.dim]
        for end in (image, output)
    ]
    assert shapes == [["batch", 3, 96, 96], ["batch", 256]]
    assert [item.version for item in model.opset_import] == [18]
    assert {node.op_type for node in model.graph.node} == {
        *("Conv", "Relu", "GlobalAveragePool", "Flatten")
    }


def test_the_fingerprint_knows_weights_and_preprocessing(tensors):
    other = {**tensors, "layers.16.bias": tensors["layers.16.bias"] + 1}
    changed = edgetl.Preprocess(size=96, resize=96)
    found = {
        NanoBackbone(tensors, preprocess=INPUT).fingerprint,
        NanoBackbone(other, preprocess=INPUT).fingerprint,
        NanoBackbone(tensors, preprocess=changed).fingerprint,
    }
    assert len(found) == 3


def test_files_of_every_kind(branched, tensors, tmp_path):
    """Half precision, the branches as training left them, and a torch file."""
    small = edgetl.Preprocess(size=32, resize=40)
    half, trained, state = (tmp_path / name for name in ("h.safetensors", "b.safetensors", "s.pth"))
    save_recorded(half, branched.fold().half(), name=NAME, preprocess=small)
    save_recorded(trained, branched, name=NAME, preprocess=INPUT)
    torch.save(branched.fold().state_dict(), state)
    rounded = load_backbone(NAME, half)
    assert rounded.preprocess == small
    batch = images(size=32)
    expected = NanoBackbone(tensors, preprocess=small).features(batch)
    assert relative(rounded.features(batch), expected) < 2e-3
    for file in (trained, state):
        found = load_backbone(NAME, file)
        assert found.preprocess == INPUT
        assert found.fingerprint == NanoBackbone(tensors, preprocess=INPUT).fingerprint


def damaged(tensors):
    kernel = tensors["layers.2.weight"]
    return {
        "1 tensors are missing: layers.0.bias": {"layers.0.bias": None},
        "1 tensors are not the network's: head": {"head": kernel},
        r"layers.2.weight \(64, 32, 3, 2\) instead of \(64, 32, 3, 3\)": {
            "layers.2.weight": np.ascontiguousarray(kernel[..., :2])
        },
        "1 tensors hold NaN or infinity: layers.2.weight": {"layers.2.weight": kernel * np.nan},
    }


@pytest.mark.parametrize("case", range(4))
def test_weights_that_do_not_fit_are_refused(tensors, tmp_path, case):
    message, change = list(damaged(tensors).items())[case]
    changed = {n: a for n, a in {**tensors, **change}.items() if a is not None}
    file = tmp_path / "nano.safetensors"
    save_file(changed, file)
    with pytest.raises(WeightsError, match=f"does not fit edgetl_nano: .*{message}"):
        load_backbone(NAME, file)


def test_files_that_are_none_are_refused(tensors, tmp_path):
    file = tmp_path / "nano.safetensors"
    with pytest.raises(WeightsError, match="does not exist"):
        load_backbone(NAME, file)
    save_file(tensors, file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        load_backbone(NAME, file)
    save_file(tensors, file, metadata={"edgetl.backbone": "mobilenetv2_100"})
    with pytest.raises(WeightsError, match="is of mobilenetv2_100, not of edgetl_nano"):
        load_backbone(NAME, file)
    with pytest.raises(ValueError, match="layout='nchw'"):
        NanoBackbone(tensors, preprocess=edgetl.Preprocess(size=96, resize=96, layout="nhwc"))


def test_the_packages_own_weights():
    network = load_backbone(NAME)
    assert (network.name, network.dim, network.preprocess) == (NAME, 256, INPUT)
    assert shipped_weights().stat().st_size < 3e6
    stored = load_file(shipped_weights())
    assert {array.dtype for array in stored.values()} == {np.dtype(np.float16)}
    assert {name: array.shape for name, array in stored.items()} == plain_shapes()
    record = read_record(shipped_weights())
    assert json.loads(record["edgetl.distill"])["seed"] == 0
    found = re.findall(r'(?:^|["\s])(?:~|[A-Za-z]:|\\\\)?[/\\]\w+', "\n".join(record.values()))
    assert not found  # no path of the machine that trained them


# With torch.


def test_the_torch_engine_runs_it(network):
    batch = images()
    assert hasattr(network, "module") and isinstance(network.module, Nano)
    assert network.module is network.module
    engine = TorchEngine(network, target=edgetl.Torch())
    assert relative(engine(batch), network.features(batch)) < 1e-4


def test_its_stages_are_its_resolutions(network):
    stages = find_stages(network.module, 96)
    assert [stage.shape for stage in stages] == [
        *((32, 48, 48), (64, 24, 24), (128, 12, 12), (256, 6, 6))
    ]
    assert stages[-1].units[:2] == ("layers.12", "layers.13")


def test_fine_tuning_trains_its_last_stages(network):
    generator = np.random.default_rng(0)
    photos = [generator.integers(0, 255, (40, 48, 3), dtype=np.uint8) for _ in range(12)]
    recipe = Recipe(
        unfreeze=1, epochs=1, views=1, batch_size=6, lr=1e-3, start="zeros", device="cpu"
    )
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    tuned = finetune(network, photos, np.arange(12) % 2, recipe=recipe)
    after = tuned.module.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {
        f"layers.{place}.{kind}" for place in (12, 14, 16) for kind in ("weight", "bias")
    }
    assert tuned.name == NAME and tuned.fingerprint != network.fingerprint
    for name, tensor in network.module.state_dict().items():
        assert torch.equal(before[name], tensor)


def test_a_network_without_a_module_is_not_fine_tuned(network, monkeypatch):
    monkeypatch.delattr(NanoBackbone, "module")
    with pytest.raises(TypeError, match="edgetl_nano has no torch module"):
        Finetune().network(NetworkTask(network=network, train=None))


@pytest.mark.parametrize("untrained", [True, False])
def test_it_is_a_student(branched, tmp_path, untrained):
    """Taught with its branches from nothing, or further as it is; both give a file like any."""
    generator = np.random.default_rng(1)
    photos = [
        np.clip(generator.normal(120, 40, (24, 24, 3)) + generator.uniform(-60, 60, 3), 0, 255)
        for _ in range(24)
    ]
    begin, file = tmp_path / "begin.safetensors", tmp_path / "student.safetensors"
    save_recorded(begin, branched.fold(), name=NAME, preprocess=INPUT)
    edgetl.distill(
        [photo.astype(np.uint8) for photo in photos],
        teachers=[(NAME, begin)],
        student=NAME,
        weights=None if untrained else begin,
        output=file,
        options=edgetl.DistillOptions(
            recipe=edgetl.DistillRecipe(epochs=1, batch_size=8),
            views=1,
            size=32,
            untrained=untrained,
            held_out=0.2,
        ),
    )
    assert ("layers.0.kernel" in load_file(file)) is untrained
    student = load_backbone(NAME, file)
    assert student.preprocess.size == 32
    assert np.isfinite(student.features(images(2, size=32))).all()


def test_it_is_trained_from_a_seed():
    first, second = (untrained_backbone(NAME, seed=5).fingerprint for _ in range(2))
    assert first == second != untrained_nano(seed=6).fingerprint
    assert json.dumps(INPUT.to_json()) and untrained_nano(seed=6).preprocess == INPUT
