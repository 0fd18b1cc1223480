"""Exports that something went wrong with: each is caught by the gate that is there for it."""

import dataclasses
import json

import numpy as np
import onnx
import pytest
from export_kit import options
from onnx import numpy_helper

import edgetl
from edgetl.errors import AccuracyError, ParityError
from edgetl.exporter import artefact as artefact_module
from edgetl.exporter import job_draft
from edgetl.exporter.gates import LIMITS


def _other_graph(change):
    """A `finish` that ships a graph which something went wrong with."""

    def finish(made, labels, chosen):
        content = artefact_module.finish(made, labels, chosen)
        return change(content, labels, made)

    return finish


def swapped_channels(content, labels, made):
    model = onnx.load_model_from_string(content)
    weights = {item.name: item for item in model.graph.initializer}
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    weight = weights[first.input[1]]
    values = numpy_helper.to_array(weight)[:, ::-1]
    weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), weight.name))
    return model.SerializeToString()


def corrupted_weight(content, labels, made):
    model = onnx.load_model_from_string(content)
    weight = max(model.graph.initializer, key=lambda item: len(item.raw_data))
    values = numpy_helper.to_array(weight).copy()
    values.flat[: values.size // 8] = values.flat[0] + 1
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    return model.SerializeToString()


def other_labels(content, labels, made):
    model = onnx.load_model_from_string(content)
    for item in model.metadata_props:
        if item.key == "edgetl.labels":
            item.value = json.dumps([*labels[1:], labels[0]])
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        (swapped_channels, "features: 100 samples"),
        (corrupted_weight, "features: 100 samples"),
        (other_labels, r"metadata: the graph's edgetl\.labels"),
    ],
)
def test_a_broken_float_graph_is_refused(change, gate, adapted, monkeypatch, tmp_path):
    monkeypatch.setattr(job_draft, "finish", _other_graph(change))
    with pytest.raises(ParityError, match=f"failed the gate parity: {gate}"):
        edgetl.export(adapted, output=tmp_path / "broken.edgetl", options=options())
    assert list(tmp_path.iterdir()) == []


def test_a_broken_int8_graph_is_refused(adapted, monkeypatch, tmp_path):
    build = artefact_module.search_int8

    def broken(model, *rest, **more):
        result = build(model, *rest, **more)
        graph = onnx.load_model_from_string(result.chosen.graph)
        # Red and blue change places in the quantized weights of the first convolution.
        weights = {item.name: item for item in graph.graph.initializer}
        first = next(node for node in graph.graph.node if node.op_type == "Conv")
        makers = {node.output[0]: node for node in graph.graph.node}
        weight = weights[makers[first.input[1]].input[0]]
        values = np.ascontiguousarray(numpy_helper.to_array(weight)[:, ::-1])
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        chosen = dataclasses.replace(result.chosen, graph=graph.SerializeToString())
        return dataclasses.replace(result, chosen=chosen)

    monkeypatch.setattr(artefact_module, "search_int8", broken)
    with pytest.raises(ParityError, match="failed the gate parity: features"):
        edgetl.export(
            adapted,
            edgetl.OnnxRuntime(precision="int8"),
            output=tmp_path / "broken.edgetl",
            options=options(),
        )
    assert list(tmp_path.iterdir()) == []


OTHER_STATISTICS = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


@pytest.mark.parametrize(
    ("precision", "wrong"),
    [
        ("fp32", OTHER_STATISTICS),
        ("int8", OTHER_STATISTICS),
        ("fp32", {"interpolation": "bicubic"}),
        ("fp32", {"resize": 224}),
    ],
)
def test_other_preprocessing_is_refused(wrong, precision, adapted, monkeypatch, tmp_path):
    draft = job_draft.draft_of

    def broken(*arguments):
        made = draft(*arguments)
        preprocess = dataclasses.replace(made.preprocess, **wrong)
        manifest = dataclasses.replace(made.manifest, preprocess=preprocess)
        return dataclasses.replace(made, manifest=manifest)

    monkeypatch.setattr("edgetl._export.draft_of", broken)
    with pytest.raises(ParityError, match="failed the gate parity: metadata"):
        edgetl.export(
            adapted,
            edgetl.OnnxRuntime(precision=precision),
            output=tmp_path / "broken.edgetl",
            options=options(),
        )
    assert list(tmp_path.iterdir()) == []


def test_wrong_mean_and_std_inside_the_graph_are_refused(adapted, monkeypatch, tmp_path):
    real = artefact_module.with_uint8_input

    def broken(model, preprocess):
        other = dataclasses.replace(preprocess, mean=(0.5,) * 3, std=(0.5,) * 3)
        graph, _ = real(model, other)
        return graph, real(model, preprocess)[1]

    monkeypatch.setattr(artefact_module, "with_uint8_input", broken)
    with pytest.raises(ParityError, match="prepared float graph"):
        edgetl.export(adapted, output=tmp_path / "broken.edgetl", options=options(input="uint8"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("what", "gate"), [("labels", "top-1: "), ("preprocess", "features: 100 samples, cosine")]
)
def test_where_graph_and_manifest_agree_the_answers_tell(
    what, gate, adapted, monkeypatch, tmp_path
):
    draft = job_draft.draft_of

    def broken(*arguments):
        made = draft(*arguments)
        other = {
            "labels": (*made.labels[1:], made.labels[0]),
            "preprocess": dataclasses.replace(made.preprocess, **OTHER_STATISTICS),
        }[what]
        graph = onnx.load(made.graph_path)
        (stated,) = (item for item in graph.metadata_props if item.key == f"edgetl.{what}")
        stated.value = json.dumps(list(other) if what == "labels" else other.to_json())
        onnx.save(graph, made.graph_path)
        manifest = dataclasses.replace(made.manifest, **{what: other})
        return dataclasses.replace(made, manifest=manifest)

    monkeypatch.setattr("edgetl._export.draft_of", broken)
    with pytest.raises(ParityError, match=f"failed the gate parity: {gate}"):
        edgetl.export(adapted, output=tmp_path / "broken.edgetl", options=options())
    assert list(tmp_path.iterdir()) == []


def test_lost_accuracy_has_its_own_error(adapted, monkeypatch, tmp_path):
    monkeypatch.setattr(job_draft, "finish", _other_graph(corrupted_weight))
    lax = dataclasses.replace(LIMITS["fp32"], least_cosine=-1, mean_cosine=-1, agreement=0)
    with pytest.raises(AccuracyError, match=r"failed the gate accuracy: .* a drop of"):
        edgetl.export(
            adapted,
            output=tmp_path / "broken.edgetl",
            options=dataclasses.replace(options(), limits=lax),
        )
    assert list(tmp_path.iterdir()) == []
