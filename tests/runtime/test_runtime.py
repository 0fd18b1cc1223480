"""The runtime on a small graph: batches, threads, and what it refuses."""

import dataclasses
import io
import re
import threading

import numpy as np
import pytest
from colours import PREPROCESS, save_mean_colours
from PIL import Image

from edgetl.bundle import Bundle, Checks, ExportRecord, Limits, Manifest, probe_batch
from edgetl.cli.main import main
from edgetl.errors import CorruptError, DataError, ParityError
from edgetl.heads import PrototypeHead
from edgetl.runtime import Prediction, Runtime, load
from edgetl.targets import OnnxRuntime, OpenVino


@pytest.fixture
def bundle(tmp_path):
    rng = np.random.default_rng(0)
    features = np.repeat(np.eye(3, dtype=np.float32), 20, axis=0)
    features += rng.uniform(0, 0.2, features.shape).astype(np.float32)
    save_mean_colours(tmp_path / "graph.onnx")
    manifest = Manifest(
        labels=("red", "green", "blue"),
        preprocess=PREPROCESS,
        backbone="mean colour",
        dim=3,
        graph="backbone.onnx",
        graph_fingerprint="0" * 64,
        head="prototype",
    )
    head = PrototypeHead().fit(features, np.repeat(np.arange(3), 20))
    return Bundle(manifest, head, tmp_path / "graph.onnx")


def image(channel, shape=(20, 30)):
    pixels = np.full((*shape, 3), 10, dtype=np.uint8)
    pixels[..., channel] = 240
    return pixels


def test_labels_follow_the_features(bundle, tmp_path):
    runtime = load(bundle.save(tmp_path / "colour.edgetl").path)
    answers = runtime.predict([image(2), image(0), image(1)], features=True)
    assert [answer.label for answer in answers] == ["blue", "red", "green"]
    np.testing.assert_allclose(answers[0].features * 255, [10, 10, 240], atol=1e-3)
    assert runtime.labels == ("red", "green", "blue")


def test_a_bundle_runs_before_it_is_saved(bundle):
    runtime = Runtime(bundle)
    runtime.warm_up()
    assert runtime.predict(image(1)).label == "green"


@pytest.mark.parametrize("count", [1, 7, 8, 9, 17])
def test_a_list_of_any_length_keeps_its_order(bundle, count):
    runtime = Runtime(bundle)
    channels = np.random.default_rng(count).integers(0, 3, count)
    answers = runtime.predict([image(channel) for channel in channels])
    assert [answer.label for answer in answers] == [runtime.labels[c] for c in channels]


@pytest.mark.parametrize("fixed", [None, 3])
def test_a_graph_that_takes_bytes(bundle, fixed, tmp_path):
    """The same answers as through floats, from a batch of any length or of one."""
    onnx = pytest.importorskip("onnx")
    from edgetl.exporter.ends import fix_batch, with_uint8_input

    model, preprocess = with_uint8_input(onnx.load(bundle.graph_path), PREPROCESS)
    onnx.save(fix_batch(model, fixed), tmp_path / "bytes.onnx")
    manifest = dataclasses.replace(bundle.manifest, preprocess=preprocess)
    exported = dataclasses.replace(
        bundle, manifest=manifest, graph_path=tmp_path / "bytes.onnx"
    ).save(tmp_path / "bytes.edgetl")
    runtime = load(exported.path)
    runtime.warm_up()
    photos = [image(channel, (20 + channel, 30)) for channel in (0, 1, 2, 0, 1)]
    answers, expected = runtime.predict(photos, features=True), Runtime(bundle).predict(photos)
    for answer, wanted in zip(answers, expected, strict=True):
        np.testing.assert_allclose(answer.probabilities, wanted.probabilities, atol=1e-6)
    np.testing.assert_allclose(answers[0].features * 255, [240, 10, 10], atol=1e-3)
    probe = probe_batch(preprocess.shape, dtype="uint8")
    assert (probe.dtype, probe.shape) == (np.uint8, (1, 16, 16, 3))
    assert len(np.unique(probe)) > 200
    checks = Checks(probe.mean(axis=(1, 2)).astype(np.float32) / 255, np.zeros(0, np.uint64))
    pytest.importorskip("openvino")
    checked = dataclasses.replace(exported, checks=checks)
    assert Runtime(checked, target=OpenVino()).predict(photos[2]).label == "blue"


@pytest.mark.parametrize("target", [None, OpenVino(threads=1)])
@pytest.mark.parametrize(
    ("changes", "gives"),
    [
        ({"dtype": "uint8", "layout": "nhwc"}, "uint8 of shape (n, 16, 16, 3)"),
        ({"layout": "nhwc"}, "float32 of shape (n, 16, 16, 3)"),
    ],
)
def test_preprocessing_that_is_not_the_graphs_is_corrupt(
    bundle, changes, gives, target, tmp_path, capsys
):
    if target is not None:
        pytest.importorskip("openvino")
    manifest = dataclasses.replace(
        bundle.manifest, preprocess=dataclasses.replace(PREPROCESS, **changes)
    )
    wrong = dataclasses.replace(bundle, manifest=manifest)
    message = re.escape(f"the preprocessing that belongs to it gives {gives}: one of them was")
    runtime = Runtime(wrong, target=target)
    for _ in range(2):  # it is not taken the second time either
        with pytest.raises(CorruptError, match=message):
            runtime.predict(image(1))
    with pytest.raises(CorruptError, match=message):
        runtime.predict([image(1)] * 3)
    path = wrong.save(tmp_path / "wrong.edgetl").path
    Image.fromarray(image(1)).save(tmp_path / "photo.png")
    assert main(["predict", str(path), str(tmp_path / "photo.png")]) == 7
    assert "one of them was changed" in capsys.readouterr().err


def test_another_precision_than_the_graphs_is_refused(bundle, tmp_path):
    limits = Limits(least_cosine=0.9, mean_cosine=0.9, agreement=0.9, max_drop=1)
    record = ExportRecord(engine="onnxruntime", precision="int8", fused=False, limits=limits)
    int8 = dataclasses.replace(
        bundle,
        manifest=dataclasses.replace(bundle.manifest, graph="backbone.int8.onnx", export=record),
    )
    assert Runtime(int8, target=OnnxRuntime(precision="int8")).predict(image(1)).label == "green"
    with pytest.raises(ValueError, match=r"backbone\.int8\.onnx is int8, the target asks for fp16"):
        Runtime(int8, target=OnnxRuntime(precision="fp16"))
    with pytest.raises(ValueError, match=r"backbone\.onnx is fp32, the target asks for int8"):
        Runtime(bundle, target=OnnxRuntime(precision="int8"))
    assert Runtime(bundle, target=OnnxRuntime(precision="fp32")).predict(image(1)).label == "green"


def test_several_threads_at_once(bundle):
    runtime = Runtime(bundle)
    wrong = []

    def ask(channel):
        for size in range(10, 40):
            if runtime.predict(image(channel, (size, size + 3))).label != runtime.labels[channel]:
                wrong.append((channel, size))

    threads = [threading.Thread(target=ask, args=(number % 3,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("sample", "error"),
    [
        (np.zeros((4, 4, 3), np.float32), TypeError),
        (np.zeros((4, 4, 7), np.uint8), ValueError),
        (np.zeros((0, 4, 3), np.uint8), (ValueError, DataError)),
        (None, TypeError),
        (b"", DataError),
        ("nowhere.jpg", DataError),
    ],
)
def test_what_is_no_image_is_refused(bundle, sample, error):
    with pytest.raises(error):
        Runtime(bundle).predict(sample)


def jpeg(channel, **options):
    stream = io.BytesIO()
    Image.fromarray(image(channel)).save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("decoder", ["native", "python"])
def test_every_kind_of_sample_in_one_list(bundle, tmp_path, monkeypatch, decoder):
    monkeypatch.setenv("EDGETL_DECODER", decoder)
    file = tmp_path / "photo.jpg"
    file.write_bytes(jpeg(1))
    stream = io.BytesIO()
    Image.fromarray(image(2)).save(stream, "PNG")
    samples = [jpeg(0), file, stream.getvalue(), image(0), str(file), bytearray(jpeg(2))]
    samples.append(Image.fromarray(image(1)))
    together = Runtime(bundle).predict(samples, features=True)
    for sample, prediction in zip(samples, together, strict=True):
        alone = Runtime(bundle).predict(sample, features=True)
        np.testing.assert_array_equal(prediction.features, alone.features)
        assert prediction.label == alone.label
    assert [int(np.argmax(prediction.features)) for prediction in together] == [0, 1, 2, 0, 1, 2, 1]


def test_the_first_bad_sample_of_a_list_is_named(bundle, tmp_path):
    runtime, good = Runtime(bundle), jpeg(0)
    missing = tmp_path / "missing.jpg"
    for samples, name in (
        ([good, missing, b"text"], str(missing)),
        ([good, b"text", missing], "sample 1"),
        ([good] * 9 + [good[:200], b"text"], "sample 9"),
    ):
        with pytest.raises(DataError) as caught:
            runtime.predict(samples)
        assert str(caught.value).startswith(f"{name}: ")


def test_another_bundle_in_the_same_place_is_noticed(bundle, tmp_path):
    """The head was read from one bundle; the graph of another must not run under it."""
    path = bundle.save(tmp_path / "colour.edgetl").path
    opened = Bundle.load(path)
    content = bytearray((path / "backbone.onnx").read_bytes())
    content[-1] ^= 1
    (path / "backbone.onnx").write_bytes(content)
    with pytest.raises(CorruptError, match="was changed"):
        Runtime(opened)


def test_a_running_runtime_does_not_care_what_happens_to_the_file(bundle, tmp_path):
    path = bundle.save(tmp_path / "colour.edgetl").path
    runtime = load(path)
    (path / "backbone.onnx").write_bytes(b"replaced before the first prediction")
    assert runtime.predict(image(1)).label == "green"


def test_an_engine_that_disagrees_with_the_reference_is_refused(bundle):
    pytest.importorskip("openvino")
    probe = probe_batch(PREPROCESS.shape)
    right = probe.mean(axis=(2, 3))
    for features, refused in ((right, False), (right[:, ::-1].copy(), True)):
        checks = Checks(probe_features=features, train_digests=np.zeros(0, np.uint64))
        checked = dataclasses.replace(bundle, checks=checks)
        if refused:
            with pytest.raises(ParityError):
                Runtime(checked, target=OpenVino())
        else:
            assert Runtime(checked, target=OpenVino()).predict(image(2)).label == "blue"


def test_a_graph_that_is_none_is_corrupt(bundle, tmp_path):
    (tmp_path / "graph.onnx").write_bytes(b"no graph")
    with pytest.raises(CorruptError):
        Runtime(bundle).predict(image(0))


def test_prediction_orders_equals_by_label_order():
    answer = Prediction(("a", "b", "c"), np.array([0.25, 0.5, 0.25], dtype=np.float32))
    assert answer.top(9) == [("b", 0.5), ("a", 0.25), ("c", 0.25)]
    assert answer.to_json(top=1) == {
        "answer": "b",
        "label": "b",
        "probability": 0.5,
        "unknown": False,
        "novelty": None,
        "top": [{"label": "b", "probability": 0.5}],
    }
    assert repr(answer) == "Prediction('b', 0.500)"
    stranger = dataclasses.replace(answer, novelty=0.75, unknown=True)
    assert (stranger.answer, stranger.label) == ("unknown", "b")
    assert stranger.to_json()["unknown"] is True and stranger.to_json()["novelty"] == 0.75
    assert repr(stranger) == "Prediction(unknown, nearest 'b', novelty 0.750)"
