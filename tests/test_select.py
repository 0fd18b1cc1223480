"""The choice of a backbone on real weights and real photos."""

import dataclasses
import json
import shlex

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import edgetl
from edgetl import SelectOptions, SourceModel
from edgetl._candidates import named_candidates
from edgetl._select import _unsteady
from edgetl.backbones import load_backbone
from edgetl.cli.main import main
from edgetl.errors import DataError
from edgetl.features import ExtractOptions
from edgetl.heads import select_head

LABELS = ["daisy", "roses", "tulips"]
QUICK = SelectOptions(seconds=0.05, calls=10)


@pytest.fixture(scope="module")
def cache(make_cache):
    return make_cache()


@pytest.fixture(autouse=True)
def shared_cache(cache, private_cache, monkeypatch):
    """Graphs and features are computed once for this file."""
    monkeypatch.setenv("EDGETL_CACHE_DIR", str(cache))


@pytest.fixture(scope="module")
def flowers(copy_flowers, tmp_path_factory):
    """Photos with a split."""
    return copy_flowers(tmp_path_factory.mktemp("flowers"), LABELS, train=14, test=4)


@pytest.fixture(scope="module")
def weights(assets):
    return assets / "weights"


@pytest.fixture(scope="module")
def report(flowers, weights, cache, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGETL_CACHE_DIR", str(cache))
        patch.setenv("EDGETL_OFFLINE", "1")
        return edgetl.select(
            flowers,
            candidates=["mobilenetv2_100", "torchvision/squeezenet1_1"],
            weights=weights,
            options=QUICK,
        )


def test_every_candidate_is_measured_on_the_training_part(report, weights):
    assert report.n_train == 42
    assert report.labels == tuple(LABELS)
    mobile, squeeze = report.rows
    assert (mobile.name, mobile.dim) == ("mobilenetv2_100", 1280)
    assert (squeeze.name, squeeze.dim) == ("torchvision/squeezenet1_1", 512)
    for row in report.rows:
        low, high = row.interval
        assert 0.5 < low < row.accuracy < high <= 1
        assert len(row.hits) == len(row.held) == len(row.half_hits) == 42
        assert row.accuracy == row.heads[row.head]
        assert 0 < row.spread[0] <= row.milliseconds <= row.spread[1]
        assert row.scores.knn > 0.5 and row.scores.ridge > 0.5
    # The files of the weights and of the graphs are about as large.
    size = (weights / "squeezenet1_1.safetensors").stat().st_size / 1e6
    assert squeeze.megabytes < size
    assert mobile.megabytes == pytest.approx(9, abs=1)
    # MobileNet's classifier is linear in its features; SqueezeNet's is a convolution before.
    assert mobile.scores.leep < 0 and mobile.scores.nce < 0
    assert squeeze.scores.leep is squeeze.scores.nce is None
    assert report.choice.recommended in {mobile.name, squeeze.name}
    assert report.strategy.head == report.recommended.head


def test_the_command_that_follows_finds_the_same_features(report, flowers, tmp_path, capsys):
    words = shlex.split(report.next_step)
    assert words[:3] == ["edgetl", "adapt", str(flowers)]
    assert main([*words[1:], "-o", str(tmp_path / "task.edgetl"), "--json", "--quiet"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["cache_hits"] == 42  # the training part; the test part was left alone
    assert printed["cache_misses"] == 12
    assert printed["head"] == report.strategy.head
    chosen = [row for row in printed["evidence"]["head"]["candidates"] if row["chosen"]]
    assert chosen[0]["accuracy"] == pytest.approx(report.recommended.accuracy)


def test_an_onnx_file_scores_as_its_network(report, flowers, weights, tmp_path, capsys):
    """The same network from a file, under another name, beside itself."""
    network = load_backbone("mobilenetv2_100", weights / "mobilenetv2_100.safetensors")
    network.to_onnx(tmp_path / "own.onnx")
    found = edgetl.select(
        flowers,
        candidates=[SourceModel(tmp_path / "own.onnx", preprocess=network.preprocess, name="own")],
        options=QUICK,
    )
    (own,) = found.rows
    same = report.rows[0]
    assert own.name == "own"
    assert own.scores.logme == pytest.approx(same.scores.logme, abs=1e-3)
    assert own.accuracy == pytest.approx(same.accuracy, abs=0.03)
    assert own.scores.leep is None
    assert "no other candidate" in found.choice.reasons[-1]

    words = ["select", str(flowers), "--candidates", str(tmp_path / "own.onnx"), "--json"]
    words += ["--seconds", "0.05", "--quiet"]
    assert main(words) == 2  # nothing says how photos become its input
    assert "does not say how images become its input" in capsys.readouterr().err
    assert main([*words, "--preprocess", json.dumps(network.preprocess.to_json())]) == 0
    (row,) = json.loads(capsys.readouterr().out)["candidates"]
    assert row["name"] == row["backbone"] == str(tmp_path / "own.onnx")
    assert row["logme"] == own.scores.logme


def test_unreadable_photos_are_named_and_the_rest_is_used(flowers, weights, tmp_path):
    folder = tmp_path / "photos"
    for label in LABELS[:2]:
        (folder / label).mkdir(parents=True)
        for photo in sorted((flowers / "train" / label).iterdir())[:6]:
            (folder / label / photo.name).write_bytes(photo.read_bytes())
    # Of six photos of a class one is kept for testing, so one of the two is in the training part.
    broken = sorted((folder / LABELS[0]).iterdir())[:2]
    for photo in broken:
        photo.write_bytes(b"no photo")
    candidates = [("torchvision/squeezenet1_1", weights / "squeezenet1_1.safetensors")]
    found = edgetl.select(folder, candidates=candidates, options=QUICK)
    unread = {name for name, _ in found.skipped}
    assert unread and unread <= {f"{LABELS[0]}/{photo.name}" for photo in broken}
    assert found.n_train == 10
    assert len(found.rows[0].hits) == 10 - len(unread)
    strict = SelectOptions(seconds=0.05, calls=10, extract=ExtractOptions(strict=True))
    with pytest.raises(DataError):
        edgetl.select(folder, candidates=candidates, options=strict)


def test_one_photo_of_a_class_leaves_logme_alone(copy_flowers, weights, tmp_path):
    folder = copy_flowers(tmp_path / "few", LABELS, train=1, test=1)
    found = edgetl.select(
        folder, candidates=["torchvision/squeezenet1_1"], weights=weights, options=QUICK
    )
    (row,) = found.rows
    assert row.accuracy is row.interval is None
    assert np.isfinite(row.scores.logme)
    assert found.strategy.head == "prototype"
    assert "weak evidence" in str(found)
    assert json.loads(json.dumps(found.to_json()))["candidates"][0]["accuracy_low"] is None


def test_the_command_line(flowers, weights, capsys):
    words = ["select", str(flowers), "--weights", str(weights), "--quiet", "--offline"]
    words += ["--candidates", "torchvision/squeezenet1_1", "--seconds", "0.05"]
    assert main([*words, "--max-ms", "100000", "--max-samples", "24"]) == 0
    shown = capsys.readouterr().out
    assert "torchvision/squeezenet1_1  pareto" in shown
    assert "recommended" in shown and "LogME" in shown
    assert "note: measured on 24 of 42 training samples" in shown
    assert "zero-shot:" in shown
    # No graph is that small: the report is printed all the same, and the exit code says it.
    assert main([*words, "--max-mb", "0.001", "--json"]) == 6
    printed = capsys.readouterr()
    assert json.loads(printed.out)["recommended"] is None
    assert "none of 1 candidates is within the budget of 0.001 MB" in printed.err


def test_openvino_measures_too(flowers, weights, report):
    pytest.importorskip("openvino")
    found = edgetl.select(
        flowers,
        candidates=["torchvision/squeezenet1_1"],
        weights=weights,
        target=edgetl.OpenVino(),
        options=QUICK,
    )
    assert found.rows[0].scores.logme == pytest.approx(report.rows[1].scores.logme, abs=1e-3)
    assert "OpenVino" in found.engine


def test_source_probabilities_are_the_whole_networks(assets, weights):
    """Features times the classifier that was left off, against timm's whole network."""
    timm = pytest.importorskip("timm")
    tensors = load_file(weights / "mobilenetv2_100.safetensors")
    whole = timm.create_model("mobilenetv2_100", pretrained=False).eval()
    whole.load_state_dict(tensors)
    network = load_backbone("mobilenetv2_100", weights / "mobilenetv2_100.safetensors")
    images = np.random.default_rng(0).normal(size=(3, 3, 224, 224)).astype(np.float32)
    with torch.inference_mode():
        expected = whole(torch.from_numpy(images)).softmax(1).numpy()
    found = network.source_classifier.probabilities(network.features(images))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (
        load_backbone(
            "torchvision/squeezenet1_1", weights / "squeezenet1_1.safetensors"
        ).source_classifier
        is None
    )  # its classifier convolves


def test_torchvisions_classifier_is_found_where_it_is_linear(tmp_path):
    torchvision = pytest.importorskip("torchvision")
    whole = torchvision.models.mobilenet_v2(weights=None).eval()
    torch.save(whole.state_dict(), tmp_path / "own.pth")
    network = load_backbone("torchvision/mobilenet_v2", tmp_path / "own.pth")
    images = np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)
    with torch.inference_mode():
        expected = whole(torch.from_numpy(images)).softmax(1).numpy()
    found = network.source_classifier.probabilities(network.features(images))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_selected_head_carries_its_hits():
    generator = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 10)
    X = generator.normal(size=(30, 5)) + y[:, None]
    for kind in ("auto", "softmax", "prototype"):
        selection = select_head(X, y, head=kind)
        (chosen,) = [rival for rival in selection.candidates if rival.chosen]
        assert selection.hits.shape == (selection.n_held_out,) == (30,)
        assert selection.hits.mean() == pytest.approx(chosen.accuracy)
    assert select_head(X[::10], y[::10]).hits is None


def test_candidates_are_named_in_many_ways(tmp_path):
    for name in ("resnet50.safetensors", "vit.pth"):
        (tmp_path / name).touch()
    models = named_candidates(
        [
            "torchvision/resnet50",
            "resnet50.a1_in1k",
            "vit=own.pt",
            ("vit", "b.pt"),
            "none",
            "x.onnx",
        ],
        tmp_path,
    )
    assert [(str(m.backbone), m.weights and str(m.weights).rpartition("/")[2]) for m in models] == [
        ("torchvision/resnet50", "resnet50.safetensors"),
        ("resnet50.a1_in1k", "resnet50.safetensors"),
        ("vit", "own.pt"),
        ("vit", "b.pt"),
        ("none", None),
        ("x.onnx", None),
    ]
    assert [m.name for m in models[2:4]] == ["vit=own.pt", "vit=b.pt"]


@pytest.mark.parametrize(
    ("candidates", "error", "message"),
    [
        ([], ValueError, "at least one"),
        (["a", "b", "a"], ValueError, "2 candidates are called a"),
        ("a,b", TypeError, "list of names"),
        ([3], TypeError, "got int"),
        (["=x"], ValueError, "NAME=WEIGHTS"),
        (["a="], ValueError, "NAME=WEIGHTS"),
    ],
)
def test_candidates_that_can_not_be(candidates, error, message):
    with pytest.raises(error, match=message):
        named_candidates(candidates)


def test_unsteady_latencies_are_noted(report):
    steady = [dataclasses.replace(row, spread=(2.0, 2.9)) for row in report.rows]
    assert _unsteady(steady) == ()
    (note,) = _unsteady([steady[0], dataclasses.replace(steady[1], spread=(2.0, 3.1))])
    assert "squeezenet1_1's calls took less than 2.00 ms" in note and "3.10" in note


def test_options_out_of_range():
    for wrong in ({"max_samples": 1}, {"seconds": 0}, {"calls": 0}, {"photo": (0, 4)}):
        with pytest.raises(ValueError, match=next(iter(wrong)).split("_")[0]):
            SelectOptions(**wrong)
    with pytest.raises(ValueError, match="max_ms must be above 0"):
        edgetl.select("nowhere", candidates=["a"], max_ms=0)
    with pytest.raises(FileNotFoundError, match="weights folder"):
        named_candidates(["a"], "/nowhere")


def test_a_pair_is_judged_by_its_words_too(open_clip_pair):
    generator = np.random.default_rng(0)
    labels = ["dark", "light"] * 10
    images = [
        generator.integers(0, 100, (40, 40, 3), dtype=np.uint8) + np.uint8(150 * (label == "light"))
        for label in labels
    ]
    report = edgetl.select(
        (images, labels),
        candidates=[f"open_clip/{open_clip_pair}"],
        options=edgetl.SelectOptions(
            seconds=0.01, calls=2, cache=False, extract=ExtractOptions(progress=False)
        ),
    )
    ways = report.rows[0].ways
    assert list(ways) == ["few", "words", "blend"]
    assert {len(hits) for hits in ways.values()} == {len(report.rows[0].held)} == {16}
    assert "the classes' names alone" in report.strategy.reasons["zero-shot"]
    assert report.to_json()["candidates"][0]["ways"].keys() == ways.keys()
