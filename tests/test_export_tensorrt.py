"""TensorRT through the whole export job: not run on a GPU.

Graphs are parsed and engines compiled by TensorRT's real parser and builder, ahead of time on the
CPU (``tests/exporter/trt_harness.py``); where a GPU is needed, ``tests/engines/fake_gpu.py`` plays
one, which runs the graph that an engine was compiled from by onnxruntime.
"""

import dataclasses
import hashlib
import json
import logging
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

sys.path.insert(0, str(Path(__file__).parent / "engines"))
sys.path.insert(0, str(Path(__file__).parent / "exporter"))
import fake_gpu
import networks
import trt_harness

import edgetl
from edgetl.bundle import Bundle
from edgetl.bundle.stamp import read_metadata
from edgetl.cli.main import main
from edgetl.decode import read_image
from edgetl.engines import OrtEngine, TensorRtEngine
from edgetl.errors import CorruptError, MissingDependencyError, WeightsError
from edgetl.exporter.artefact import GraphOptions
from edgetl.exporter.compile_trt import build_engine
from edgetl.exporter.search import SearchOptions
from edgetl.exporter.verify import VerifyOptions

FLOWERS = ("daisy", "roses", "tulips")
SLOWER = SearchOptions(rounds=0, seconds=0.02, allow_slower=True)


@pytest.fixture(scope="module")
def cache(make_cache):
    return make_cache()


@pytest.fixture(autouse=True)
def shared_cache(cache, private_cache, monkeypatch):
    """Features and engines are made once for this file."""
    monkeypatch.setenv("EDGETL_CACHE_DIR", str(cache))


def _without_gpu(patch, module):
    patch.setitem(sys.modules, "tensorrt", None)
    patch.setitem(sys.modules, "tensorrt_rtx", module)
    patch.setattr("edgetl.engines.cuda.find_device", lambda: None)


@pytest.fixture(scope="module")
def trt():
    reason = trt_harness.why_not()
    if reason:
        pytest.skip(reason)
    return trt_harness.load()


@pytest.fixture
def gpu(trt, ahead, monkeypatch, tmp_path):
    """TensorRT is installed, and a GPU is played; engines have a cache of their own."""
    ahead(SQUEEZENET)  # whichever test comes first, this was compiled before there was a GPU
    monkeypatch.setattr("edgetl.engines.tensorrt.device_cache_dir", lambda: tmp_path)
    return fake_gpu.play(monkeypatch, trt)


@pytest.fixture(scope="module")
def photos(copy_flowers, tmp_path_factory):
    """Real photos of three classes: 10 to train on and 12 to test on of each."""
    return copy_flowers(tmp_path_factory.mktemp("photos"), FLOWERS, train=10, test=12)


@pytest.fixture(scope="module")
def adapted(photos, assets, cache, tmp_path_factory):
    """A network adapted to them, by its name."""
    made = {}

    def adapt(name):
        if name not in made:
            bare = name.rpartition("/")[2]
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("EDGETL_CACHE_DIR", str(cache))
                made[name] = edgetl.adapt(
                    photos,
                    backbone=name,
                    weights=assets / "weights" / f"{bare}.safetensors",
                    head="ridge",
                    output=tmp_path_factory.mktemp("adapted") / f"{bare}.edgetl",
                )
        return made[name]

    return adapt


def options(**graph):
    return edgetl.ExportOptions(
        graph=GraphOptions(search=SLOWER, calibration_images=16, **graph),
        ahead_of_time=True,
        verify_seconds=0.02,
    )


SQUEEZENET, MOBILENET = "torchvision/squeezenet1_1", "mobilenetv2_100"
KINDS = {
    MOBILENET: ("int8", {}, "backbone.int8"),
    SQUEEZENET: ("int8", {"fused": True}, "fused.int8"),
}


@pytest.fixture(scope="module")
def ahead(adapted, trt, cache, tmp_path_factory):
    """What was exported ahead of time, without a GPU."""
    made = {}

    def export(name):
        if name not in made:
            precision, graph, _ = KINDS[name]
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("EDGETL_CACHE_DIR", str(cache))
                _without_gpu(patch, trt)
                made[name] = edgetl.export(
                    adapted(name),
                    edgetl.TensorRT(precision=precision, max_batch=4),
                    max_drop=9.0,
                    output=tmp_path_factory.mktemp("ahead") / "out.edgetl",
                    options=options(**graph),
                )
        return Bundle.load(made[name].path)

    return export


def as_written(graph, images):
    """Outputs of a graph in plain onnxruntime, which rewrites nothing of it."""
    model = onnx.load_model_from_string(graph)
    names = [item.name for item in model.graph.output]
    found = networks.run(model, images, names=names, optimize=False)
    return dict(zip(names, found, strict=True))


def batch_of(photos, preprocess, count):
    paths = sorted(photos.glob("test/*/*.jpg"))[:: 36 // count][:count]
    return np.stack([preprocess.apply(read_image(x, preprocess=preprocess)) for x in paths])


def cosine(left, right):
    inner = (left * right).sum(axis=1)
    return inner / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


@pytest.mark.parametrize("name", KINDS)
def test_int8_ahead_of_time_ships_graph_and_engine(name, ahead, adapted, photos, cache):
    precision, graph_options, stem = KINDS[name]
    bundle, source = ahead(name), adapted(name)
    record = bundle.manifest.export
    assert {f"{stem}.onnx", f"{stem}.engine"} < {entry.name for entry in bundle.path.iterdir()}
    assert (record.engine, record.precision) == ("tensorrt", precision)
    assert record.compiled == {"engine": f"{stem}.engine"}
    graph, compiled = bundle.read_graph(), bundle.read_compiled(f"{stem}.engine")
    stamp = record.options["engine_stamp"]
    assert stamp["graph"] == hashlib.sha256(graph).hexdigest()
    assert (stamp["backend"], stamp["device"], stamp["max_batch"]) == ("tensorrt_rtx", "any", 4)
    # The very bytes that the builder gave for this stamp.
    notes = [json.loads(x.read_bytes()) for x in (cache / "tensorrt").glob("*.json")]
    (built,) = [note for note in notes if note["stamp"] == stamp]
    assert built["sha256"] == hashlib.sha256(compiled).hexdigest() and built["layers"] > 20

    gates = {gate.name: gate for gate in record.gates}
    assert gates.pop("speed").passed is None
    assert {"accuracy", "size", "parity: features", "parity: top-1"} <= set(gates)
    assert all(gate.passed for gate in gates.values())
    run = bundle.evidence.run
    assert run.engine.startswith("OnnxRuntime(") and "ahead of time" in run.notes[-1]
    assert ("parity: the head inside the graph" in gates) == graph_options.get("fused", False)
    before, after = source.head.arrays(), bundle.head.arrays()
    assert any(not np.array_equal(before[key], after[key]) for key in after), "fitted again"

    images = batch_of(photos, bundle.preprocess, 6)
    found = as_written(graph, images)
    expected = as_written(source.read_graph(), images)["features"]
    assert cosine(found["features"], expected).min() > 0.97
    answers = edgetl.load(bundle.path, target=edgetl.OnnxRuntime()).engine(images)
    np.testing.assert_allclose(answers, found["features"], rtol=1e-3, atol=1e-3)
    if "probabilities" in found:
        chances = bundle.head.predict_proba(answers)
        np.testing.assert_allclose(found["probabilities"], chances, atol=1e-3)


@pytest.mark.parametrize("name", KINDS)
def test_what_int8_leaves_out_and_how_ranges_are_chosen(name, ahead):
    bundle = ahead(name)
    graph = onnx.load_model_from_string(bundle.read_graph()).graph
    weights = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    zeros = [n.input[2] for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert zeros and all(not weights[zero].any() for zero in zeros)
    quantized = []
    for node in [node for node in graph.node if node.op_type == "Conv"]:
        groups = next((item.i for item in node.attribute if item.name == "group"), 1)
        ends = [makers[x].op_type for x in node.input[:2] if x in makers]
        quantized.append((groups > 1, "DequantizeLinear" in ends))
    assert quantized[0] == (False, False), "the first one sees the photo"
    assert all(narrow != depthwise for depthwise, narrow in quantized[1:])
    search = bundle.manifest.export.search
    rows = {row["configuration"]: row for row in search["candidates"]}
    assert len(rows) >= 4
    best = max(rows, key=lambda method: rows[method]["cosine"])
    assert search["method"] == best and [k for k, v in rows.items() if v["chosen"]] == [best]
    assert len(search["in float16"]) == 1 + sum(depthwise for depthwise, _ in quantized)


def test_onnxruntime_runs_it_as_written(ahead, photos):
    """Its optimiser makes int32 of biases, in steps that float16 can't hold."""
    bundle = ahead(MOBILENET)
    graph, dim = bundle.read_graph(), bundle.manifest.dim
    left, right = (OrtEngine(graph, dim=dim, optimise=flag) for flag in (True, False))
    assert left.fingerprint != right.fingerprint
    images = batch_of(photos, bundle.preprocess, 2)
    np.testing.assert_array_equal(right(images), as_written(graph, images)["features"])
    runtime = edgetl.load(bundle.path, target=edgetl.OnnxRuntime())
    assert isinstance(runtime.engine, OrtEngine) and not runtime.engine.optimise


def test_a_device_takes_the_engine_in_the_bundle(ahead, gpu, photos, caplog):
    caplog.set_level(logging.INFO, "edgetl.tensorrt")
    bundle = ahead(SQUEEZENET)
    gpu.graphs[bundle.read_compiled("fused.int8.engine")] = (bundle.read_graph(), 4)
    runtime = edgetl.load(bundle.path)
    assert runtime.target == edgetl.TensorRT(max_batch=4)
    assert isinstance(runtime.engine, TensorRtEngine)
    tested = sorted(photos.glob("test/*/*.jpg"))[::5]
    answers = runtime.predict(tested)
    assert gpu.built == [] and caplog.messages == []
    assert max(gpu.loaded[0].context.calls) <= 4
    checked = edgetl.load(bundle.path, target=edgetl.OnnxRuntime()).predict(tested)
    assert [answer.label for answer in answers] == [answer.label for answer in checked]


def with_record(bundle, path, **changes):
    record = dataclasses.replace(bundle.manifest.export, **changes)
    manifest = dataclasses.replace(bundle.manifest, export=record)
    return dataclasses.replace(bundle, manifest=manifest).save(path)


def test_a_device_with_another_tensorrt_compiles_the_graph(ahead, gpu, photos, tmp_path, caplog):
    bundle = ahead(SQUEEZENET)
    known = bundle.manifest.export.options
    stamp = {**known["engine_stamp"], "version": "10.3.0"}
    old = with_record(bundle, tmp_path / "old.edgetl", options={**known, "engine_stamp": stamp})
    photo = next(photos.glob("test/roses/*.jpg"))
    answer = edgetl.load(old.path).predict(photo)
    assert "compiled again from the ONNX graph" in caplog.text and "10.3.0" in caplog.text
    assert gpu.built == [bundle.read_graph()]
    checked = edgetl.load(bundle.path, target=edgetl.OnnxRuntime()).predict(photo)
    np.testing.assert_allclose(answer.probabilities, checked.probabilities, atol=1e-3)
    for change in ({"max_batch": "many"}, {"engine_stamp": ["x"]}, {"engine_stamp": "abc"}):
        strange = with_record(bundle, tmp_path / "x.edgetl", options=known | change)
        with pytest.raises(CorruptError, match=r"max_batch must be a whole|stamp has the entries"):
            edgetl.load(strange.path)


def test_verify_on_the_device_is_against_float32_there(ahead, adapted, gpu, photos):
    bundle, source = ahead(SQUEEZENET), adapted(SQUEEZENET)
    gpu.graphs[bundle.read_compiled("fused.int8.engine")] = (bundle.read_graph(), 4)
    limits = dataclasses.replace(bundle.manifest.export.limits, slower=True)
    found = edgetl.verify(bundle, photos, options=VerifyOptions(limits=limits, seconds=0.02))
    gates = {gate.name: gate for gate in found}
    assert all(gate.passed for gate in found)
    assert "times as fast as float32" in gates["speed"].measured
    assert gpu.built == [source.read_graph()], "float32 is compiled for the GPU too"
    rival = [x for x in gpu.loaded if {o.name for o in x.session.get_outputs()} == {"features"}]
    assert len(rival) == 1 and len(rival[0].context.calls) > 3


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_export_on_a_machine_with_a_gpu(precision, adapted, gpu, photos, tmp_path, monkeypatch):
    source, know = adapted(SQUEEZENET), gpu.know

    def stand_in(built, graph):  # onnxruntime, which plays the GPU, has no bfloat16 convolutions
        know(built, source.read_graph() if precision == "bf16" else graph)

    monkeypatch.setattr(gpu, "know", stand_in)
    made = edgetl.export(
        source,
        edgetl.TensorRT(precision=precision, max_batch=3, workspace=1 << 28),
        max_drop=9.0,
        output=tmp_path / "out.edgetl",
        options=dataclasses.replace(options(), ahead_of_time=False, cache=False),
    )
    record = made.manifest.export
    assert all(gate.passed for gate in record.gates)
    assert "times as fast as float32" in {x.name: x for x in record.gates}["speed"].measured
    assert str(fake_gpu.DEVICE) == record.options["engine_stamp"]["device"]
    assert "workspace=268435456" in record.options["engine_stamp"]["options"]
    calls = {count for engine in gpu.loaded for count in engine.context.calls}
    assert max(calls) == 3, "the dynamic batch goes up to --max-batch"
    assert edgetl.load(made.path).target == edgetl.TensorRT(max_batch=3, workspace=1 << 28)
    stated = read_metadata(made.read_graph())
    model = onnx.load_model_from_string(made.read_graph())
    assert stated == {item.key: item.value for item in model.metadata_props}
    if precision == "bf16":
        with pytest.raises(MissingDependencyError, match="no convolutions for that"):
            edgetl.load(made.path, target=edgetl.OnnxRuntime())


def test_refusals_come_before_any_work(adapted, trt, monkeypatch, capsys, tmp_path):
    def too_late(*_):
        pytest.fail("features were extracted first")

    source = adapted(SQUEEZENET)
    monkeypatch.setattr("edgetl._export.reference_parts", too_late)
    command = ["export", str(source.path), "--target", "tensorrt", "-o", str(tmp_path / "x")]
    ahead = [*command, "--ahead-of-time"]
    with monkeypatch.context() as patch:
        _without_gpu(patch, trt)
        for words, code, message in (
            (command, 3, "no NVIDIA GPU is here"),
            ([*ahead, "--precision", "bf16"], 3, "can't be verified ahead of time"),
            ([*ahead, "--batch", "2", "--max-batch", "4"], 2, "give only one of them"),
            ([*ahead, "--max-batch", "0"], 2, "max_batch must be a whole number, 1 or more"),
            ([*ahead, "--workspace", "-1"], 2, "workspace must be a whole number, 1 or more"),
            ([*ahead, "--format", "ort"], 2, "TensorRT can't read it"),
            ([*ahead, "--threads", "2"], 2, "--threads go with"),
            ([*command[:2], "--workspace", "0"], 2, "go with --target tensorrt"),
        ):
            assert main(words) == code, words
            assert message in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    for words, install in ((command, "edgetl[tensorrt]"), (ahead, "pip install tensorrt_rtx")):
        assert main(words) == 3
        assert install in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_int8_for_onnxruntime_is_refused_by_tensorrt(adapted, gpu, tmp_path):
    made = edgetl.export(
        adapted(SQUEEZENET),
        edgetl.OnnxRuntime(precision="int8"),
        max_drop=10.0,
        output=tmp_path / "ort.edgetl",
        options=dataclasses.replace(options(), ahead_of_time=False, budget_ms=10_000),
    )
    with pytest.raises(ValueError, match=r"quantized for ONNX Runtime.*--target tensorrt"):
        edgetl.load(made.path, target=edgetl.TensorRT())
    with pytest.raises(WeightsError, match="not quantized for TensorRT"):
        build_engine(made.read_graph(), edgetl.TensorRT(), cache_dir=tmp_path, progress=False)
    manifest = dataclasses.replace(made.manifest, graph="backbone.ort")
    with pytest.raises(ValueError, match="ONNX Runtime's own format"):
        edgetl.runtime.Runtime(
            dataclasses.replace(made, manifest=manifest), target=edgetl.TensorRT()
        )
    assert gpu.built == []


def test_engines_on_the_command_line(ahead, adapted, gpu, photos, capsys, monkeypatch):
    bundle = ahead(SQUEEZENET)
    gpu.graphs[bundle.read_compiled("fused.int8.engine")] = (bundle.read_graph(), 4)
    photo = str(next(photos.glob("test/daisy/*.jpg")))
    for words in (["--engine", "tensorrt"], [], ["--engine", "onnxruntime", "--threads", "1"]):
        assert main(["predict", str(bundle.path), photo, *words, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)[0]["label"] == "daisy"
    assert len(gpu.loaded) == 2
    assert main(["predict", str(bundle.path), photo, "--threads", "2"]) == 2
    assert "does not go with TensorRT" in capsys.readouterr().err
    quick = ["--calls", "2", "--seconds", "0.1", "--starts", "0", "--batches", "2"]
    assert main(["bench", str(bundle.path), *quick, "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engine"].startswith("TensorRT(")
    assert main(["evaluate", str(bundle.path), str(photos), "--quiet", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["accuracy"] == pytest.approx(bundle.evidence.accuracy, abs=0.02)
    assert main(["predict", str(adapted(SQUEEZENET).path), photo, "--threads", "1"]) == 0

    monkeypatch.setattr("edgetl.engines.cuda.find_device", lambda: None)
    capsys.readouterr()
    command = ["verify", str(bundle.path), "--data", str(photos)]
    assert main(command) == 3
    assert "NVIDIA GPUs only" in capsys.readouterr().err
    assert main([*command, "--engine", "onnxruntime", "--json"]) == 0
    gates = {gate["name"]: gate for gate in json.loads(capsys.readouterr().out)["gates"]}
    assert gates["speed"]["passed"] is None and gates["parity: features"]["passed"] is True
    assert "exported for TensorRT, and OnnxRuntime ran it" in gates["speed"]["measured"]
