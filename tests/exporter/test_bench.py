"""The bench: what is measured and reported, and that it needs no more than a device has."""

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import psutil
import pytest

from edgetl.bundle import Bundle, Manifest
from edgetl.bundle.export_record import ExportRecord, Limits
from edgetl.errors import CorruptError, EdgetlError
from edgetl.exporter import bench_measure, bench_memory, bench_process
from edgetl.exporter.bench import BenchOptions, bench
from edgetl.exporter.bench_memory import parse_status, process_memory
from edgetl.exporter.bench_process import start_bare, start_edgetl
from edgetl.exporter.timing import Timing
from edgetl.heads import PrototypeHead
from edgetl.preprocess import Preprocess
from edgetl.targets import OnnxRuntime, OpenVino

QUICK = BenchOptions(calls=4, seconds=0.2, rounds=2, batches=(), starts=0, photo=(20, 30))
PREPROCESS = Preprocess(size=16, resize=16, mean=(0, 0, 0), std=(1, 1, 1))


def mean_colour(folder, *, graph="backbone.onnx", scale=1.0):
    """A saved bundle whose 3 features are the mean of each channel."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Mul", ["flat", "scale"], ["features"]),
    ]
    model = helper.make_graph(
        nodes,
        "backbone",
        [helper.make_tensor_value_info("images", kind, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("features", kind, ["batch", 3])],
        [onnx.numpy_helper.from_array(np.array(scale, np.float32), "scale")],
    )
    opset = [helper.make_opsetid("", 17)]
    source = folder.parent / f"{folder.name}.onnx"
    onnx.save(helper.make_model(model, opset_imports=opset, ir_version=8), source)
    features = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    manifest = Manifest(
        labels=("red", "green", "blue"),
        preprocess=PREPROCESS,
        backbone="mean colour",
        dim=3,
        graph=graph,
        graph_fingerprint="0" * 64,
        head="prototype",
    )
    head = PrototypeHead().fit(features, np.repeat(np.arange(3), 5))
    return Bundle(manifest, head, source)


@pytest.fixture
def exact(tmp_path):
    return mean_colour(tmp_path / "exact.edgetl").save(tmp_path / "exact.edgetl")


@pytest.fixture
def small(tmp_path):
    """What stands for a quantized bundle: a graph of another name that gives almost the same."""
    bundle = mean_colour(tmp_path / "small.edgetl", graph="backbone.int8.onnx", scale=0.99)
    return bundle.save(tmp_path / "small.edgetl")


@pytest.fixture
def fake_times(monkeypatch):
    """Timings that the test chooses in place of measured ones; what was called is called once."""
    seconds = {}
    asked = []

    def interleaved(contestants, **options):
        for call in contestants.values():
            call()
        asked.append(options)
        return {name: Timing(tuple(np.atleast_2d(seconds[name]))) for name in contestants}

    monkeypatch.setattr(bench_measure, "interleaved", interleaved)
    return SimpleNamespace(seconds=seconds, asked=asked)


def test_everything_is_measured_for_both_bundles(small, exact):
    options = dataclasses.replace(QUICK, batches=(1, 5), starts=1)
    report = bench(small.path, against=exact.path, options=options)
    assert [(row.side, row.what) for row in report.latency] == [
        (side, what) for side in ("bundle", "against") for what in ("predict", "engine", "bare")
    ]
    for row in report.latency:
        assert 2 <= row.calls <= 4  # seconds may end it sooner, but each round has one
        assert 0 < row.p50 <= row.p90 <= row.p99
        assert (row.vs_against is None) == (row.side == "against")
        assert (row.vs_bare is None) == (row.what == "bare")
    threads = {row.threads for row in report.throughput}
    assert min(threads) == 1
    assert {(row.side, row.batch) for row in report.throughput} == {
        (side, batch) for side in ("bundle", "against") for batch in (1, 5)
    }
    assert len(report.throughput) == 4 * len(threads)
    assert [(row.side, row.what) for row in report.cold_start] == [
        (side, what) for side in ("bundle", "against") for what in ("predict", "bare")
    ]
    for row in report.cold_start:
        assert row.importing + row.loading + row.answering < row.seconds
        assert 10e6 < row.resident_bytes <= row.peak_bytes < 4e9
    first, second = report.subjects
    assert (first.precision, second.precision) == ("int8", "fp32")
    for subject, bundle in ((first, small), (second, exact)):
        assert subject.graph_bytes == (bundle.path / subject.graph).stat().st_size
        assert subject.bundle_bytes == sum(f.stat().st_size for f in bundle.path.iterdir())
    assert report.notes == ()
    assert json.loads(json.dumps(report.to_json()))["latency"][0]["vs_against"].keys() == {
        "median",
        "low",
        "high",
    }
    text = str(report)
    for words in ("predict (photo)", "bare onnxruntime", "speed / fp32", "batch 5", "resident"):
        assert words in text


def test_percentiles_and_speeds(small, exact, fake_times):
    rng = np.random.default_rng(0)
    own, other, bare = (rng.uniform(low, 2 * low, (10, 7)) for low in (0.010, 0.030, 0.005))
    for side, predict in (("bundle", own), ("against", other)):
        fake_times.seconds[f"{side} predict"] = predict
        fake_times.seconds[f"{side} engine"] = predict
        fake_times.seconds[f"{side} bare"] = bare
    report = bench(small, against=exact, options=QUICK)
    row = report.find("predict")
    assert row.calls == 70
    for value, q in ((row.p50, 50), (row.p90, 90), (row.p99, 99)):
        assert value == pytest.approx(np.percentile(own, q))
    speeds = np.median(other, axis=1) / np.median(own, axis=1)
    assert row.vs_against == pytest.approx(tuple(np.percentile(speeds, (50, 10, 90))))
    speeds = np.median(bare, axis=1) / np.median(own, axis=1)
    assert row.vs_bare.median == pytest.approx(np.median(speeds))
    assert fake_times.asked == [{"rounds": 2, "calls": 2, "seconds": 0.2}]


def test_images_per_second(exact, fake_times):
    for what in ("predict", "engine", "bare"):
        fake_times.seconds[f"bundle {what}"] = np.ones((1, 1))
    fake_times.seconds |= {"bundle 2 1": [[0.1, 0.5, 0.2]], "bundle 8 1": [[0.4]]}
    target = OnnxRuntime(threads=1)
    report = bench(exact, target=target, options=dataclasses.replace(QUICK, batches=(2, 8)))
    rates = [(row.batch, row.threads, row.images_per_second) for row in report.throughput]
    assert rates == [(2, 1, pytest.approx(10)), (8, 1, pytest.approx(20))]


def test_calls_are_shared_by_the_rounds(exact):
    options = dataclasses.replace(QUICK, calls=7, rounds=20, seconds=60)
    assert {row.calls for row in bench(exact, options=options).latency} == {7}


def test_what_there_is_nothing_to_compare_with_is_said(exact):
    report = bench(exact, options=QUICK)
    assert [subject.side for subject in report.subjects] == ["bundle"]
    assert report.find("predict", "against") is None
    (note,) = report.notes
    assert "no fp32 bundle to compare with" in note and "--against" in note
    assert note in str(report)


def with_source(bundle, source, folder):
    """The bundle as it is when it was exported from another one."""
    digest = hashlib.sha256((source / "manifest.json").read_bytes()).hexdigest()
    record = ExportRecord(
        engine="onnxruntime",
        precision="int8",
        fused=False,
        limits=Limits(least_cosine=0.9, mean_cosine=0.9, agreement=0.9, max_drop=1),
        source=str(source),
        source_digest=digest,
    )
    manifest = dataclasses.replace(bundle.manifest, export=record)
    return dataclasses.replace(bundle, manifest=manifest).save(folder / "exported.edgetl").path


def test_the_recorded_source_is_what_a_bundle_is_compared_with(small, exact, tmp_path):
    exported = with_source(small, exact.path, tmp_path)
    report = bench(exported, options=QUICK)
    assert [subject.path for subject in report.subjects] == [str(exported), str(exact.path)]
    assert report.find("engine").vs_against is not None
    assert report.notes == ()


def test_a_source_that_is_gone_damaged_or_replaced_is_said(small, exact, tmp_path):
    exported = with_source(small, exact.path, tmp_path)
    content = (exact.path / "backbone.onnx").read_bytes()
    (exact.path / "backbone.onnx").write_bytes(content[:-1] + b"?")
    reasons = [bench(exported, options=QUICK).notes]
    mean_colour(tmp_path / "new.edgetl", scale=3.0).save(exact.path)
    reasons.append(bench(exported, options=QUICK).notes)
    shutil.rmtree(exact.path)
    reasons.append(bench(exported, options=QUICK).notes)
    for (note,), words in zip(
        reasons, ("was changed", "is another one", "is not a bundle"), strict=True
    ):
        assert str(exact.path) in note and words in note and "--against" in note


def test_a_bundle_in_memory(tmp_path):
    bundle = mean_colour(tmp_path / "memory.edgetl")
    report = bench(bundle, options=dataclasses.replace(QUICK, starts=1))
    (subject,) = report.subjects
    assert subject.path == "(in memory)"
    saved = bundle.save(tmp_path / "saved.edgetl").path
    assert subject.bundle_bytes == sum(file.stat().st_size for file in saved.iterdir())
    assert len(report.cold_start) == 2


def test_a_graph_of_bytes_in_onnxruntimes_own_format(exact, tmp_path):
    """Its input is uint8 NHWC, and so must be what the engine and bare onnxruntime get."""
    helper, kinds = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Cast", ["images"], ["numbers"], to=kinds.FLOAT),
        helper.make_node("Transpose", ["numbers"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("GlobalAveragePool", ["planes"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "backbone",
        [helper.make_tensor_value_info("images", kinds.UINT8, ["batch", 16, 16, 3])],
        [helper.make_tensor_value_info("features", kinds.FLOAT, ["batch", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "bytes.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    manifest = dataclasses.replace(
        exact.manifest,
        graph="backbone.int8.ort",
        preprocess=dataclasses.replace(PREPROCESS, layout="nhwc", dtype="uint8"),
        files={},
    )
    bundle = Bundle(manifest, exact.head, tmp_path / "bytes.ort").save(tmp_path / "bytes.edgetl")
    options = dataclasses.replace(QUICK, batches=(2,), starts=1)
    report = bench(bundle.path, against=exact, options=options)
    assert report.notes == ()
    assert [row.what for row in report.latency] == ["predict", "engine", "bare"] * 2
    assert len(report.cold_start) == 4
    assert report.subjects[0].precision == "int8"


def test_openvino_beside_bare_onnxruntime(small, exact):
    pytest.importorskip("openvino")
    options = dataclasses.replace(QUICK, batches=(3,))
    report = bench(small, against=exact, target=OpenVino(threads=1), options=options)
    assert len(report.latency) == 6
    assert [row.threads for row in report.throughput] == [1, 1]
    assert "OpenVino" in report.engine


def test_a_graph_that_onnxruntime_does_not_read_is_said(exact, tmp_path, monkeypatch):
    """An engine file of another runtime; the bundle's own call is not this test's business."""
    path = exact.path / "backbone.fp16.engine"
    exact.graph_path.rename(path)
    contender = bench_measure.Contender(
        "bundle", dataclasses.replace(exact, graph_path=path), OnnxRuntime(), "x"
    )
    notes = []
    fake = SimpleNamespace(predict=lambda photo: None, engine=lambda tensor: None)
    monkeypatch.setattr(bench_measure, "Runtime", lambda *args, **kwargs: fake)
    rows = bench_measure.measure_latency(
        [contender], photo=(9, 9), calls=1, seconds=1, rounds=1, notes=notes
    )
    assert [row.what for row in rows] == ["predict", "engine"]
    assert "backbone.fp16.engine" in notes[0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"calls": 0}, ValueError, "calls must be at least 1, got 0"),
        ({"calls": 1.5}, TypeError, "1.5"),
        ({"batches": (1, -4)}, ValueError, "batch size must be at least 1, got -4"),
        ({"rounds": 0}, ValueError, "rounds"),
        ({"starts": -1}, ValueError, "starts"),
        ({"seconds": 0.0}, ValueError, "seconds"),
        ({"seconds": float("nan")}, ValueError, "seconds"),
        ({"photo": (0, 5)}, ValueError, "photo"),
        ({"photo": (5,)}, ValueError, "height and a width"),
    ],
)
def test_impossible_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        BenchOptions(**options)


def test_what_is_no_bundle_is_refused(exact, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="is not a bundle"):
        bench(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="is not a bundle"):
        bench(exact, against=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="compared with itself"):
        bench(exact, against=exact.path / ".." / exact.path.name)
    (exact.path / "backbone.onnx").write_bytes(b"")
    with pytest.raises(CorruptError):
        bench(exact.path)


def test_memory_is_what_psutil_says():
    ballast = np.ones(4 << 20)  # 32 MB, written to
    memory = process_memory()
    expected = psutil.Process().memory_info().rss
    assert memory.resident == pytest.approx(expected, abs=8e6)
    assert memory.peak >= memory.resident - 8e6
    assert ballast[-1] == 1


def test_the_text_of_a_status_file():
    text = "Name:\tx\nVmPeak:\t  999 kB\nVmHWM:\t  2000 kB\nVmRSS:\t  1500 kB\nRssAnon:\t 7 kB\n"
    assert parse_status(text) == (1500 * 1024, 2000 * 1024)
    assert parse_status("Name:\tkthreadd\n") == (None, None)


@pytest.mark.parametrize(("system", "unit"), [("linux", 1024), ("darwin", 1)])
def test_without_proc_the_peak_is_getrusages(monkeypatch, tmp_path, system, unit):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(bench_memory, "_STATUS", tmp_path / "nothing")
    monkeypatch.setattr(sys, "platform", system)
    memory = process_memory()
    now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    assert memory.resident is None
    assert now * 0.9 < memory.peak <= now


def test_a_fresh_process_imports_from_where_this_one_does(exact, tmp_path, monkeypatch):
    """Not from the folder that the user happens to be in."""
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("json", "numpy", "edgetl", "onnxruntime"):
        (trap / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(trap)
    start = start_edgetl(exact.path, OnnxRuntime(threads=1), photo=(8, 9))
    assert 0 < start.loading < start.seconds


def test_a_process_that_fails_says_why(exact, tmp_path):
    with pytest.raises(EdgetlError, match="is not a bundle"):
        start_edgetl(tmp_path, OnnxRuntime(), photo=(8, 8))
    with pytest.raises(EdgetlError, match=r"(?i)invalid|rank|dimension|type"):
        start_bare(
            exact.graph_path,
            threads=1,
            providers=["CPUExecutionProvider"],
            shape=(1, 3),
            dtype="float32",
        )


def test_a_process_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(bench_process, "_TIMEOUT", 0.5)
    with pytest.raises(EdgetlError, match="no answer"):
        bench_process._start("time.sleep(60)")


def test_it_runs_with_what_a_device_has(exact, tmp_path):
    heavy = ("torch", "onnx", "onnxscript", "sklearn", "scipy", "psutil", "platformdirs", "pyarrow")
    code = f"""
import sys
for name in {heavy!r}:
    sys.modules[name] = None
from edgetl.exporter.bench import BenchOptions, bench
options = BenchOptions(calls=2, seconds=0.1, batches=(1,), starts=1, photo=(8, 8))
print(len(bench({str(exact.path)!r}, options=options).latency))
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout.strip()) == (0, "3"), result.stderr
