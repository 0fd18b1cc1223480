"""The feature graph: what is in the file, when it is refused, and what the cache survives."""

import hashlib
import subprocess
import sys

import numpy as np
import onnx
import pytest

from edgetl.engines import OrtEngine
from edgetl.errors import ParityError
from edgetl.exporter.graph import feature_graph


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def metadata(path):
    return {item.key: item.value for item in onnx.load(path).metadata_props}


@pytest.fixture(scope="module")
def exported(make_small, tmp_path_factory):
    """What the small backbone's export gives, so that tests of the cache need not wait for it."""
    path = tmp_path_factory.mktemp("exported") / "small.onnx"
    make_small().to_onnx(path)
    return path.read_bytes()


@pytest.fixture
def counted(small, exported, monkeypatch):
    """The small backbone, counting its exports."""
    small.exports = []

    def to_onnx(path):
        small.exports.append(path)
        path.write_bytes(exported)

    monkeypatch.setattr(small, "to_onnx", to_onnx)
    return small


def test_the_file(small, probe, tmp_path, capfd):
    graph = feature_graph(small, probe=probe, cache_dir=tmp_path)
    assert capfd.readouterr() == ("", ""), "an export must not write to the terminal"

    model = onnx.load(graph.path)
    onnx.checker.check_model(model)
    (images,), (features,) = model.graph.input, model.graph.output
    assert (images.name, features.name) == ("images", "features")
    shape = images.type.tensor_type.shape.dim
    assert shape[0].dim_param
    assert [item.dim_value for item in shape[1:]] == [3, 16, 16]
    assert model.opset_import[0].version == 18
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert not any(item.metadata_props or item.doc_string for item in model.graph.node), (
        "notes of the exporter tell paths of the machine that made the file"
    )

    assert graph.dim == 8
    stamps = metadata(graph.path)
    assert stamps["edgetl.name"] == "small"
    assert stamps["edgetl.backbone"] == small.fingerprint
    assert stamps["edgetl.graph"] == graph.fingerprint
    for n in (1, 3):
        features = OrtEngine(graph.path, dim=8)(probe[:n])
        np.testing.assert_allclose(features, small.features(probe[:n]), atol=1e-5)


def test_the_second_time_nothing_is_exported(counted, probe, tmp_path):
    first = feature_graph(counted, probe=probe, cache_dir=tmp_path)
    assert feature_graph(counted, probe=probe, cache_dir=tmp_path) == first
    assert len(counted.exports) == 1
    assert files(tmp_path) == [first.path]


def test_other_weights_are_another_graph(make_small, probe, tmp_path):
    one = feature_graph(make_small(0), probe=probe, cache_dir=tmp_path)
    two = feature_graph(make_small(1), probe=probe, cache_dir=tmp_path)
    assert one.fingerprint != two.fingerprint
    assert one.path != two.path


def test_the_fingerprint_does_not_depend_on_the_name(small, make_small, probe, tmp_path):
    renamed = make_small()
    renamed.name = "small.tag"
    one = feature_graph(small, probe=probe, cache_dir=tmp_path / "1")
    two = feature_graph(renamed, probe=probe, cache_dir=tmp_path / "2")
    assert one.fingerprint == two.fingerprint, "an export must be the same every time"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
    ],
    ids=["empty", "cut", "one bit"],
)
def test_a_damaged_entry_is_made_again(counted, probe, tmp_path, damage):
    first = feature_graph(counted, probe=probe, cache_dir=tmp_path)
    whole = first.path.read_bytes()
    first.path.write_bytes(damage(whole))
    again = feature_graph(counted, probe=probe, cache_dir=tmp_path)
    assert len(counted.exports) == 2
    assert again == first
    assert again.path.read_bytes() == whole


def test_a_killed_export_leaves_nothing_that_is_used(counted, probe, tmp_path):
    first = feature_graph(counted, probe=probe, cache_dir=tmp_path)
    half = first.path.parent / ".new-killed"
    half.mkdir()
    first.path.rename(half / "backbone.onnx")
    feature_graph(counted, probe=probe, cache_dir=tmp_path)
    assert len(counted.exports) == 2


@pytest.mark.parametrize("damage", ["weights", "channels"])
def test_a_graph_that_disagrees_is_refused(small, make_small, probe, tmp_path, damage, monkeypatch):
    def to_onnx(self, path):
        other = make_small(1 if damage == "weights" else 0)
        if damage == "channels":
            other.module[0].weight.data = other.module[0].weight.data.flip(1)
        original(other, path)

    original = type(small).to_onnx
    monkeypatch.setattr(type(small), "to_onnx", to_onnx)
    with pytest.raises(ParityError, match="exported graph of small against the original: 4 of 4"):
        feature_graph(small, probe=probe, cache_dir=tmp_path)
    assert files(tmp_path) == []


def test_a_graph_of_fixed_batch_is_refused(counted, exported, probe, tmp_path, monkeypatch):
    model = onnx.load_model_from_string(exported)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    monkeypatch.setattr(counted, "to_onnx", lambda path: onnx.save(model, path))
    with pytest.raises(ParityError, match="inputs and outputs of shapes"):
        feature_graph(counted, probe=probe, cache_dir=tmp_path)


@pytest.mark.parametrize("shape", [(0, 3, 16, 16), (1, 3, 8, 8), (3, 16, 16)])
def test_a_probe_that_does_not_fit(small, tmp_path, shape):
    with pytest.raises(ValueError, match=r"probe must have the shape \(n, 3, 16, 16\)"):
        feature_graph(small, probe=np.zeros(shape, np.float32), cache_dir=tmp_path)


EXPORT = """
import sys
from pathlib import Path
import numpy as np
import torch
from edgetl.backbones.module import ModuleBackbone
from edgetl.exporter.graph import feature_graph
from edgetl.preprocess import Preprocess

torch.manual_seed(0)
module = torch.nn.Sequential(
    torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
)
preprocess = Preprocess(size=16, resize=16)
backbone = ModuleBackbone("net", architecture="net", module=module, preprocess=preprocess)
probe = np.ones((2, 3, 16, 16), np.float32)
sys.stdin.readline()  # so that both begin together
graph = feature_graph(backbone, probe=probe, cache_dir=Path(sys.argv[1]))
print(graph.path, graph.fingerprint)
"""


def test_two_processes_at_once(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", EXPORT, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=180) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    assert answers[0] == answers[1], "both must end with the same graph"
    (file,) = files(tmp_path)
    assert answers[0][0].startswith(str(file))
    assert hashlib.sha256(file.read_bytes()).hexdigest() == file.stem
