"""Which samples an export measures on and learns from, and where its features and files go."""

import dataclasses
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgetl
from edgetl._evaluate import evaluate_bundle
from edgetl.bundle import Bundle
from edgetl.errors import DataError
from edgetl.exporter import job_parts
from edgetl.exporter.artefact import Artefact, GraphOptions
from edgetl.exporter.gates import LIMITS
from edgetl.exporter.job import Job
from edgetl.exporter.job_parts import judge_of, reference_parts
from edgetl.exporter.verify import VerifyOptions
from edgetl.features import ExtractOptions

LABELS = ("daisy", "roses", "tulips")
QUICK = edgetl.ExportOptions(budget_ms=10_000, verify_seconds=0.02)


def network(extra=()):
    """Eight random filters over the photo and the means of what they find; then more nodes."""
    weights = np.random.default_rng(0).normal(size=(8, 3, 5, 5)).astype(np.float32)
    names = ["mixed", "positive", "pooled", "means", *(f"more{i}" for i in range(len(extra)))]
    names[-1] = "features"
    chain = [
        helper.make_node("Conv", ["images", "weights"], [names[0]], strides=[2, 2]),
        helper.make_node("Relu", [names[0]], [names[1]]),
        helper.make_node("GlobalAveragePool", [names[1]], [names[2]]),
        helper.make_node("Flatten", [names[2]], [names[3]]),
    ]
    arrays = [numpy_helper.from_array(weights, "weights")]
    for number, (kind, value) in enumerate(extra):
        given = [names[3 + number]]
        if value is not None:
            arrays.append(numpy_helper.from_array(np.asarray(value, np.float32), f"c{number}"))
            given.append(f"c{number}")
        chain.append(helper.make_node(kind, given, [names[4 + number]]))
    ends = [
        helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 32, 32]),
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 8]),
    ]
    graph = helper.make_graph(chain, "network", ends[:1], ends[1:], arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def copy(assets, folder, part, first, count, labels=LABELS):
    for label in labels:
        (folder / label).mkdir(parents=True, exist_ok=True)
        photos = sorted((assets / "data/flower_photos" / part / label).iterdir())
        for photo in photos[first : first + count]:
            shutil.copy(photo, folder / label)
    return folder


def adapt(photos, folder, head="prototype", test=None):
    backbone = folder / "network.onnx"
    onnx.save(network(), backbone)
    return edgetl.adapt(
        photos,
        backbone=backbone,
        head=head,
        test=test,
        output=folder / "flowers.edgetl",
        options=edgetl.AdaptOptions(preprocess=edgetl.Preprocess(size=32, resize=36)),
    )


@pytest.fixture(scope="module")
def photos(assets, tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    copy(assets, root / "train", "train", 0, 20)
    copy(assets, root / "test", "test", 0, 8)
    return root


@pytest.fixture
def adapted(photos, tmp_path):
    return adapt(photos, tmp_path)


def contents(part):
    return {source.read_bytes() for source in part.samples.sources}


def files(folder):
    return {path.read_bytes() for path in folder.rglob("*.jpg")}


def test_test_photos_that_were_trained_on_are_left_out(adapted, assets, tmp_path):
    given = copy(assets, tmp_path / "given", "train", 15, 10)  # 5 of each were trained on
    found = reference_parts(adapted, None, given, QUICK)
    assert contents(found.test) == files(copy(assets, tmp_path / "new", "train", 20, 5))
    assert "15 of the 30 test photos were trained on" in found.notes[0]
    assert len(found.train.names) == 60
    with pytest.raises(DataError, match=r"all 60 test photos were trained on.*--test"):
        reference_parts(adapted, None, adapted.manifest.provenance["data"] + "/train", QUICK)
    made = edgetl.export(adapted, test=given, options=QUICK)
    assert made.evidence.n_test == 15
    assert any("were trained on" in note for note in made.evidence.run.notes)


def test_they_are_known_where_the_recorded_photos_are_gone(assets, photos, tmp_path):
    moved = shutil.copytree(photos, tmp_path / "moved")
    adapted = adapt(moved, tmp_path)
    shutil.rmtree(moved)
    fresh = copy(assets, tmp_path / "fresh", "train", 30, 20)
    mixed = copy(assets, tmp_path / "mixed", "train", 10, 15)
    found = reference_parts(adapted, fresh, mixed, QUICK)
    assert contents(found.test) == files(copy(assets, tmp_path / "new", "train", 20, 5))
    assert contents(found.train) == files(fresh)


def test_photos_that_were_given_to_test_on_are_measured_on_again(assets, tmp_path):
    data = copy(assets, tmp_path / "data", "train", 0, 12)
    apart = copy(assets, tmp_path / "apart", "test", 0, 7)
    adapted = adapt(data, tmp_path, test=apart)
    assert (adapted.evidence.n_train, adapted.evidence.n_test) == (36, 21)
    found = reference_parts(adapted, None, None, QUICK)
    assert contents(found.test) == files(apart) and contents(found.train) == files(data)
    shutil.rmtree(apart)
    with pytest.raises(DataError, match=r"given apart from its data.*--test"):
        reference_parts(adapted, None, None, QUICK)
    other = copy(assets, tmp_path / "other", "test", 7, 3)
    assert contents(reference_parts(adapted, None, other, QUICK).test) == files(other)


@pytest.mark.parametrize("named", [False, True])
def test_natural_duplicates_of_the_recorded_test_part_stay(named, photos, tmp_path):
    """As they do when a bundle is made; the evidence names them."""
    copied = shutil.copytree(photos, tmp_path / "copied")
    twin = sorted((copied / "train/roses").iterdir())[0]
    shutil.copy(twin, copied / "test/roses/twin.jpg")
    adapted = adapt(copied, tmp_path)
    assert adapted.evidence.run.n_duplicates == 1
    made = edgetl.export(adapted, test=copied if named else None, options=QUICK)
    assert made.evidence.n_test == 25
    assert made.evidence.run.n_duplicates == 1


def break_listing(folder):
    (folder / "train/daisy").rename(folder / "train/orchids")


def break_photos(folder):
    for photo in (folder / "train/daisy").iterdir():
        photo.write_bytes(b"no photo any more")


def change(folder):
    next((folder / "train/daisy").iterdir()).unlink()


@pytest.mark.parametrize("damage", [break_listing, break_photos, change])
def test_damaged_recorded_photos_do_not_matter_where_others_are_named(
    damage, photos, assets, tmp_path
):
    copied = shutil.copytree(photos, tmp_path / "copied")
    adapted = adapt(copied, tmp_path)
    damage(copied)
    with pytest.raises(DataError, match=r"has changed|class 'daisy'"):
        reference_parts(adapted, None, photos / "test", QUICK)
    found = reference_parts(adapted, photos / "train", photos / "test", QUICK)
    assert contents(found.train) == contents(found.calibration) == files(photos / "train")
    assert contents(found.test) == files(photos / "test")
    assert any("gone or has changed" in note for note in found.notes)


def test_the_head_needs_photos_of_every_class(photos, assets, tmp_path):
    moved = shutil.copytree(photos, tmp_path / "moved")
    adapted = adapt(moved, tmp_path)
    shutil.rmtree(moved)
    few = copy(assets, tmp_path / "few", "train", 0, 20, LABELS[:2])
    with pytest.raises(DataError, match=r"class 'tulips' has no training photo.*--no-refit"):
        reference_parts(adapted, few, photos / "test", QUICK)
    kept = dataclasses.replace(QUICK, refit=False)
    assert len(reference_parts(adapted, few, photos / "test", kept).calibration.names) == 40


def test_exports_in_the_cache_do_not_share_a_name(photos, tmp_path):
    """The same graph with two heads."""
    made = []
    for head in ("prototype", "ridge"):
        made.append(edgetl.export(adapt(photos, tmp_path, head), options=QUICK))
    first, second = (Bundle.load(bundle.path) for bundle in made)
    assert first.read_graph() == second.read_graph()
    assert (first.manifest.head, second.manifest.head) == ("prototype", "ridge")


KINDS = {"onnx": {}, "ort": {"format": "ort"}, "mobile": {"format": "ort", "ort_level": "mobile"}}


def test_evaluate_finds_the_features_of_the_export_and_no_others(adapted, photos):
    known = {adapted.manifest.graph_fingerprint}
    for graph in [*KINDS.values(), {"batch": 3}]:
        options = dataclasses.replace(QUICK, graph=GraphOptions(**graph))
        made = edgetl.export(adapted, options=options)
        assert made.evidence.run.cache_hits == 0, "another graph's features are not this one's"
        assert made.manifest.graph_fingerprint not in known
        known.add(made.manifest.graph_fingerprint)
        run = evaluate_bundle(made, photos).run
        assert (run.cache_hits, run.cache_misses) == (24, 0)


@pytest.mark.parametrize("x86", [True, False])
def test_speed_of_files_for_other_processors_is_not_judged_here(x86, adapted, photos, monkeypatch):
    monkeypatch.setattr("edgetl.exporter.verify.is_x86", lambda: x86)
    limits = dataclasses.replace(LIMITS["fp32"], slower=not x86)
    for graph in KINDS.values():
        options = dataclasses.replace(
            QUICK, graph=GraphOptions(**graph), budget_ms=None, limits=limits
        )
        if x86 and not graph:
            continue  # that one is judged, and how fast it is depends on the machine
        made = edgetl.export(adapted, options=options)
        gate = {gate.name: gate for gate in made.manifest.export.gates}["speed"]
        assert gate.passed is (None if x86 else True)
        assert ("made for other processors" in gate.measured) == x86
        if x86:
            found = edgetl.verify(made, photos, options=VerifyOptions(seconds=0.02))
            assert {gate.name: gate.passed for gate in found}["speed"] is None


@pytest.fixture
def job(adapted):
    parts = reference_parts(adapted, None, None, QUICK)
    limits = dataclasses.replace(LIMITS["int8"], max_drop=0.0)
    options = dataclasses.replace(QUICK, extract=ExtractOptions(strict=True))
    return Job(adapted, edgetl.OnnxRuntime(precision="int8"), limits, parts, options)


def judged(job, *extra):
    twin = Artefact(model=network(), preprocess=job.source.preprocess, dim=8, precision="fp32")
    return judge_of(job, twin)(network(extra).SerializeToString())


def test_a_candidate_without_usable_features_is_refused(job):
    assert judged(job, ("Add", 0.0)).accepted
    means = job.parts.train.features
    middle = float(np.median(means[:, 0]))
    for broken in (
        [("Sub", middle), ("Sqrt", None)],  # not a number for some samples
        [("Mul", 0.0), ("Log", None)],  # infinite for all
    ):
        verdict = judged(job, *broken)
        assert not verdict.accepted and verdict.accuracy is None
        assert "no usable features of" in verdict.reason and "not finite" in verdict.reason
    verdict = judged(job, ("Mul", -1.0))
    assert not verdict.accepted and "cosine -1.0000" in verdict.reason


@pytest.mark.parametrize(
    ("max_drop", "lost", "accepted"),
    [
        (0.0, 0, True),
        (0.0, 2, True),  # 2 - sqrt(2) is less than one
        (0.0, 3, False),
        (5.0, 5, True),  # 5 - sqrt(5) is less than three
        (5.0, 6, False),
    ],
)
def test_a_drop_counts_beyond_its_standard_error(job, max_drop, lost, accepted, monkeypatch):
    """Of 60 samples, 5 points are 3; one may be lost whatever the limit."""
    found = iter([np.arange(60) < 50, np.arange(60) < 50 - lost])
    monkeypatch.setattr(job_parts, "_held_out", lambda *_: next(found))
    job = dataclasses.replace(job, limits=dataclasses.replace(job.limits, max_drop=max_drop))
    verdict = judged(job, ("Add", 0.0))
    assert verdict.accepted is accepted
    assert verdict.accuracy == pytest.approx((50 - lost) / 60)


def test_impossible_options_are_refused_at_once():
    for wrong in (
        lambda: edgetl.ExportOptions(seed=-1),
        lambda: edgetl.ExportOptions(
            graph=GraphOptions(search=dataclasses.replace(GraphOptions().search, rounds=-1))
        ),
    ):
        with pytest.raises(ValueError, match="must be 0 or more, got -1"):
            wrong()
    with pytest.raises(ValueError, match="goes with format='ort'"):
        GraphOptions(ort_level="machine")
