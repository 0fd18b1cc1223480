"""Novelty: scores against scikit-learn, the promise about known samples, learning, and storage."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

import edgetl
from edgetl.bundle import Bundle, Learning
from edgetl.cli.main import main
from edgetl.errors import CorruptError
from edgetl.heads import SoftmaxHead
from edgetl.runtime import DriftMonitor, Novelty
from edgetl.runtime.novelty import KEPT, energy, fit_energy, fit_novelty, most_kept

HEAD = SoftmaxHead()  # nearest neighbours need none


def clusters(rng, counts, dim=48):
    """Normal classes around directions of their own."""
    middles = 3 * np.random.default_rng(99).normal(size=(len(counts), dim))
    codes = np.repeat(np.arange(len(counts)), counts)
    return (middles[codes] + rng.normal(size=(len(codes), dim))).astype(np.float32), codes


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def binomial_bound(count, share, tail=1e-4):
    """A number of hits that more often than with chance `tail` is not exceeded."""
    stats = pytest.importorskip("scipy.stats")
    return int(stats.binom.ppf(1 - tail, count, share))


def test_scores_are_the_distances_that_sklearn_finds(rng):
    neighbors = pytest.importorskip("sklearn.neighbors")
    X, y = clusters(rng, [40, 30, 20])
    queries = clusters(rng, [5, 5, 5])[0]
    model = fit_novelty(X, y).with_samples(queries[:3] * 2, np.array([0, 0, 1]))
    kept = np.concatenate([X, queries[:3]])
    expected = neighbors.NearestNeighbors(n_neighbors=1, metric="cosine").fit(kept)
    expected = expected.kneighbors(queries)[0][:, 0]
    # rows are rounded to 8 bits: cosines move by about 1e-4
    np.testing.assert_allclose(model.score(queries, HEAD), expected, atol=2e-3)
    one_by_one = [model.score(row[None], HEAD)[0] for row in queries]
    np.testing.assert_allclose(one_by_one, model.score(queries, HEAD), atol=1e-5)


def test_calibration_is_leave_one_out_for_what_is_kept_and_plain_for_the_rest(rng):
    X, y = clusters(rng, [30, 30])
    model = fit_novelty(X, y, kept=20)
    rows = model.shipped.units
    assert np.bincount(model.shipped.codes).tolist() == [10, 10]
    similar = X / np.linalg.norm(X, axis=1, keepdims=True) @ rows.T
    itself = similar > 0.999
    assert itself.sum() == 20
    expected = np.sort(1 - np.where(itself, -1, similar).max(axis=1))
    np.testing.assert_allclose(model.calibration, expected, atol=1e-5)


@pytest.mark.parametrize("kept", [None, 30])
def test_few_known_samples_are_called_unknown(rng, kept):
    """Over many training parts, which is what the promise is about."""
    unknown = total = 0
    for _ in range(150):
        X, y = clusters(rng, [40, 20])
        queries, codes = clusters(rng, [20, 10])
        model = fit_novelty(X, y, alpha=0.1, kept=kept, seed=int(rng.integers(1000)))
        unknown += int(model.unknown(model.score(queries, HEAD), codes).sum())
        total += len(codes)
    # Samples of one training part share its limit: its own spread adds to that of the samples.
    spread = (0.1 * 0.9 * (1 / total + 1 / (150 * 60))) ** 0.5
    assert 0.04 < unknown / total < 0.1 + 4 * spread


def test_the_limit_is_the_conformal_quantile(rng):
    scores = np.sort(rng.normal(size=99)).astype(np.float32)
    model = Novelty(0.05, scores)
    assert model.limit == scores[94] and model.least_alpha == pytest.approx(0.01)
    assert model.unknown(np.array([scores[94], scores[95]]), np.zeros(2, int)).tolist() == [0, 1]
    assert dataclasses.replace(model, alpha=0.01).limit == scores[98]
    # Fewer than 19 scores can't promise 5 %: nothing is unknown then, rather than too much.
    assert Novelty(0.05, scores[:18]).limit == np.inf
    assert Novelty(0.05, scores[:19]).limit == scores[18]
    assert not Novelty(0.05, scores[:0]).unknown(np.array([1e9]), np.zeros(1, int)).any()


def test_a_learned_class_does_not_stay_unknown_and_the_old_model_stays(rng):
    X, y = clusters(rng, [30, 30, 30])
    known = y < 2
    model = fit_novelty(X[known], y[known])
    fresh = clusters(rng, [0, 0, 40])[0]

    def unknown(some):
        return some.unknown(some.score(fresh, HEAD), np.zeros(40, int)).mean()

    assert unknown(model) == 1
    taught = model.with_samples(X[~known][:10], y[~known][:10])
    assert unknown(taught) < 0.2 and unknown(model) == 1
    assert unknown(taught.base()) == 1
    assert taught.limit == model.limit


def test_models_that_grew_from_one_do_not_see_each_others_samples(rng):
    X, y = clusters(rng, [20, 20])
    model = fit_novelty(X, y)
    first, second, third = -X[:1], -X[20:21], -X[:1] * rng.uniform(0, 1, X.shape[1])
    grown = model.with_samples(first, y[:1])  # makes room for more
    left = grown.with_samples(second, y[:1])
    right = grown.with_samples(third.astype(np.float32), y[:1])
    assert left.score(second, HEAD)[0] < 1e-3 < 0.1 < right.score(second, HEAD)[0]
    assert grown.score(second, HEAD)[0] > 0.1 and grown.score(first, HEAD)[0] < 1e-3
    assert [len(some.learned) for some in (model, grown, left, right)] == [0, 1, 2, 2]


def test_what_the_head_takes_for_a_class_without_features_is_not_called_unknown(rng):
    X, y = clusters(rng, [30, 30])
    model = fit_novelty(X, y)
    far = np.array([9.0, 9.0])
    assert model.unknown(far, np.array([0, 2])).tolist() == [True, False]


def test_classes_are_followed_when_labels_change(rng):
    X, y = clusters(rng, [10, 10, 10])
    model = fit_novelty(X, y)
    moved = model.relabelled(("b", "c", "d"), ("a", "b", "d"))
    assert sorted(set(moved.shipped.codes.tolist())) == [1, 2]
    assert len(moved.shipped) == 20
    distance = moved.score(X[y == 1], HEAD)  # of the forgotten class
    assert distance.min() > 0.1 > model.score(X[y == 1], HEAD).max()
    assert model.relabelled(("b", "c", "d"), ("b", "c", "d")) is model
    nothing = model.relabelled(("b", "c", "d"), ("x", "y"))
    assert nothing.score(X[:2], HEAD).tolist() == [0, 0]


def test_what_was_learned_is_bounded_and_of_every_class_alike(rng):
    dim = 20_480  # 16 samples
    most = most_kept(dim, 2)
    assert most == KEPT // dim == 16
    model = fit_novelty(rng.normal(size=(20, dim)).astype(np.float32), np.arange(20) % 2)
    assert len(model.shipped) == most
    last = rng.normal(size=(100, dim)).astype(np.float32)
    for number, row in enumerate(last):
        model = model.with_samples(row[None], np.array([int(number > 3)]))
        assert len(model.learned) <= most + 32
    counts = np.bincount(model.learned.codes)
    assert counts[0] == 4  # the rare class kept all it had
    assert model.score(last[-8:], HEAD).max() < 0.01  # the newest are there
    assert model.score(last[4:12], HEAD).min() > 0.5  # the oldest are not


def test_a_settled_model_is_the_same_to_others_and_bounded(rng):
    X, y = clusters(rng, [20, 20, 20])
    known = y < 2
    model = fit_novelty(X[known], y[known]).with_samples(X[~known], y[~known])
    settled = model.settled()
    assert (len(settled.shipped), len(settled.learned)) == (60, 0)
    np.testing.assert_allclose(settled.score(X, HEAD), model.score(X, HEAD), atol=1e-6)
    assert settled.base().score(X, HEAD).max() < 1e-3
    wide = rng.normal(size=(40, 20_480)).astype(np.float32)
    wide = fit_novelty(wide, np.arange(40) % 2).with_samples(-wide, np.full(40, 2)).settled()
    assert len(wide.shipped) == 32 and np.bincount(wide.shipped.codes).min() >= 8


def test_energy_is_that_of_liu_and_calibrated_on_held_out_scores(rng):
    special = pytest.importorskip("scipy.special")
    scores = rng.normal(size=(9, 4)) * 300
    expected = -2.5 * special.logsumexp(scores / 2.5, axis=1)
    np.testing.assert_allclose(energy(scores, 2.5), expected, rtol=1e-12)
    X, y = clusters(rng, [60, 60, 60], dim=8)
    head = SoftmaxHead(C=1.0).fit(X, y)
    model = fit_energy(head, X, y, alpha=0.1)
    assert model.kind == "energy" and len(model.calibration) == 180
    queries, codes = clusters(rng, [300, 300, 300], dim=8)
    shares = model.unknown(model.score(queries, head), codes)
    assert shares.sum() <= binomial_bound(900, 0.1) + 900 * 4 * (0.09 / 180) ** 0.5
    assert model.with_samples(X, y) is model and model.base() is model


@pytest.mark.parametrize("kind", ["nearest", "energy"])
def test_arrays_come_back_through_a_bundles_file(rng, kind):
    X, y = clusters(rng, [20, 20])
    model = fit_novelty(X, y).with_samples(X[:3], y[:3])
    if kind == "energy":
        model = fit_energy(SoftmaxHead(C=1.0).fit(X, y), X, y)
    learning = dataclasses.replace(Learning.empty(48), novelty=model.arrays())
    read = Learning.from_bytes(learning.to_bytes(), "learning.safetensors")
    again = Novelty.from_arrays(read.novelty, dim=48, classes=2)
    assert (again.kind, again.limit, again.alpha) == (kind, model.limit, model.alpha)
    head = SoftmaxHead(C=1.0).fit(X, y)
    assert again.score(X, head).tolist() == model.score(X, head).tolist()
    for name, array in again.arrays().items():
        assert array.dtype == model.arrays()[name].dtype
        np.testing.assert_array_equal(array, model.arrays()[name])


def test_no_arrays_are_no_model():
    assert Novelty.from_arrays({}, dim=3, classes=2) is None


HOSTILE = {
    "a name that is none": lambda a: a.update(extra=np.zeros(1)),
    "no alpha": lambda a: a.pop("alpha"),
    "alpha of 1": lambda a: a.update(alpha=np.array(1.0)),
    "alpha that is no number": lambda a: a.update(alpha=np.array(np.nan)),
    "alpha as a list": lambda a: a.update(alpha=np.array([0.05])),
    "scores not ascending": lambda a: a.update(calibration=a["calibration"][::-1]),
    "scores not finite": lambda a: a["calibration"].__setitem__(-1, np.inf),
    "scores in double": lambda a: a.update(calibration=a["calibration"].astype(np.float64)),
    "scores in two axes": lambda a: a.update(calibration=a["calibration"][:, None]),
    "rows of another width": lambda a: a.update(shipped=a["shipped"][:, 1:]),
    "rows as floats": lambda a: a.update(shipped=a["shipped"].astype(np.float32)),
    "too few codes": lambda a: a.update(shipped_codes=a["shipped_codes"][1:]),
    "a class beyond the last": lambda a: a["shipped_codes"].__setitem__(0, 2),
    "a class below 0": lambda a: a["learned_codes"].__setitem__(0, -1),
    "rows without the learned ones": lambda a: a.pop("learned"),
}


@pytest.mark.parametrize("damage", HOSTILE)
def test_hostile_arrays_are_corrupt(rng, damage):
    X, y = clusters(rng, [20, 20])
    arrays = fit_novelty(X, y).with_samples(X[:2], y[:2]).arrays()
    arrays = {name: np.array(array) for name, array in arrays.items()}
    assert Novelty.from_arrays(arrays, dim=48, classes=2)
    HOSTILE[damage](arrays)
    with pytest.raises(CorruptError, match="novelty"):
        Novelty.from_arrays(arrays, dim=48, classes=2)


def test_unusable_arguments_are_refused(rng):
    X, y = clusters(rng, [5, 5])
    with pytest.raises(ValueError, match="alpha"):
        fit_novelty(X, y, alpha=0)
    with pytest.raises(ValueError, match="alpha"):
        fit_energy(SoftmaxHead(C=1.0).fit(X, y), X, y, alpha=1)
    with pytest.raises(ValueError, match="2 features"):
        fit_novelty(X, y, kept=1)


@pytest.fixture(scope="module")
def cache(make_cache):
    return make_cache()


@pytest.fixture(scope="module")
def flowers(assets, cache, tmp_path_factory):
    """A bundle that knows three kinds of flowers, and photos of what it does not know."""
    folder = tmp_path_factory.mktemp("flowers")
    labels = ["daisy", "dandelion", "roses"]
    for part, count in (("train", 25), ("test", 15)):
        for label in labels:
            (folder / "data" / part / label).mkdir(parents=True)
            found = sorted((assets / "data/flower_photos" / part / label).iterdir())
            for photo in found[:count]:
                shutil.copy(photo, folder / "data" / part / label)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGETL_CACHE_DIR", str(cache))
        bundle = edgetl.adapt(
            folder / "data",
            backbone="mobilenetv2_100",
            weights=assets / "weights/mobilenetv2_100.safetensors",
            output=folder / "flowers.edgetl",
        )
    return bundle, folder, assets / "data"


def test_an_adapted_bundle_knows_its_flowers_and_not_sketches(flowers):
    bundle, folder, data = flowers
    device = edgetl.load(bundle.path)
    known = device.predict(sorted((folder / "data/test").rglob("*.jpg")))
    assert 0 < len(known) == 45
    # The limit has the spread of 75 scores, and the share that of 45 samples.
    spread = 4 * (0.05 * 0.95 * (1 / 45 + 1 / 75)) ** 0.5
    assert sum(answer.unknown for answer in known) <= 45 * (0.05 + spread)
    sketches = sorted((data / "photo_sketch/sketch").rglob("*.*"))[::16]
    strange = device.predict(sketches)
    assert sum(answer.unknown for answer in strange) >= 0.8 * len(strange)
    assert all(answer.answer == "unknown" for answer in strange if answer.unknown)
    assert isinstance(device.drift, DriftMonitor)
    assert device.drift.report.answers == len(known) + len(strange)


def test_predict_prints_what_it_does_not_know(flowers, capsys):
    bundle, folder, data = flowers
    known = str(min((folder / "data/test/daisy").iterdir()))
    device = edgetl.load(bundle.path)
    sketches = sorted((data / "photo_sketch/sketch").rglob("*.*"))[::40]
    strange = str(next(photo for photo in sketches if device.predict(photo).unknown))
    assert main(["predict", str(bundle.path), known, strange]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "unknown" not in first and second.startswith(f"{strange}  unknown  ")
    assert main(["predict", str(bundle.path), strange, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["answer"] == "unknown" and told["unknown"] is True
    assert (
        told["novelty"]
        > Novelty.from_arrays(Bundle.load(bundle.path).learning.novelty, dim=1280, classes=3).limit
    )


def test_another_head_takes_the_model_along(flowers):
    """As a device does that has learned a class, and forgets another one."""
    bundle, _, data = flowers
    task = edgetl.load(bundle.path).task()
    tulips = sorted((data / "flower_photos/test/tulips").iterdir())[:20]
    features = np.stack(
        [p.features for p in edgetl.load(bundle.path).predict(tulips, features=True)]
    )
    head = type(task.head)().fit(
        np.concatenate([bundle.learning.features.astype(np.float32), features]),
        np.concatenate([bundle.learning.codes, np.full(20, 3)]),
    )
    labels = (*bundle.labels, "tulips")
    sample = features[:1]
    before = task.answer(sample)[0]
    task.drift.watch([0.0] * 64, [0] * 64)
    task.replace(labels, head, learned=(features, np.full(20, 3)))
    after = task.answer(sample)[0]
    assert after.label == "tulips" and not after.unknown
    assert after.novelty < 0.01 < before.novelty
    assert task.drift.report.answers == 1  # other classes: watched anew
    task.replace(labels[:3], bundle.head)  # forgotten again, by the labels alone
    assert task.answer(sample)[0].novelty == pytest.approx(before.novelty, abs=1e-6)
    task.replace(labels, head, learned=(features, np.full(20, 3)))
    task.replace(labels[1:], head, learned=(features[1:], np.full(19, 2)), anew=True)
    assert len(task.novelty.learned) == 19
    assert set(task.novelty.shipped.codes.tolist()) == {0, 1}
    task.replace(labels, head, anew=True)  # and back with all that the bundle had
    assert len(task.novelty.learned) == 0
    assert set(task.novelty.shipped.codes.tolist()) == {0, 1, 2}


def test_without_memory_there_is_energy(flowers, cache, monkeypatch):
    _, folder, data = flowers
    monkeypatch.setenv("EDGETL_CACHE_DIR", str(cache))
    small = edgetl.adapt(
        folder / "data",
        backbone="mobilenetv2_100",
        weights=data.parent / "weights/mobilenetv2_100.safetensors",
        options=edgetl.AdaptOptions(memory_mb=0),
        output=folder / "small.edgetl",
    )
    assert not small.learning.features.size
    assert (small.path / "learning.safetensors").stat().st_size < 6000
    device = edgetl.load(small.path)
    assert device.task().novelty.kind == "energy"
    known = device.predict(sorted((folder / "data/test").rglob("*.jpg")))
    assert sum(answer.unknown for answer in known) <= 45 * 0.25
    assert all(np.isfinite(answer.novelty) for answer in known)


def test_a_bundle_without_a_model_calls_nothing_unknown(flowers):
    bundle = dataclasses.replace(flowers[0], learning=None)
    device = edgetl.Runtime(bundle)
    (answer,) = device.predict([np.zeros((32, 32, 3), np.uint8)])
    assert (answer.novelty, answer.unknown, device.drift) == (None, False, None)


def test_samples_that_a_network_was_tuned_on_dont_set_the_limit():
    generator = np.random.default_rng(0)
    means = generator.normal(size=(4, 16))
    codes = np.arange(800) % 4
    tuned = np.arange(800) < 600
    spread = np.where(tuned, 0.05, 0.4)[:, None]
    features = (means[codes] + spread * generator.normal(size=(800, 16))).astype(np.float32)
    new = (means[codes] + 0.4 * generator.normal(size=(800, 16))).astype(np.float32)
    head = SoftmaxHead().fit(features[tuned], codes[tuned])

    def alarms(model):
        return model.unknown(model.score(new, head), codes).mean()

    assert alarms(fit_novelty(features, codes)) > 0.12
    assert alarms(fit_novelty(features, codes, unseen=~tuned)) < 0.09
    assert len(fit_energy(head, features, codes, unseen=~tuned).calibration) == 200
    assert alarms(fit_energy(head, features, codes, unseen=~tuned)) < 0.09
    for fit in (fit_novelty, lambda *given, **more: fit_energy(head, *given, **more)):
        assert not alarms(fit(features, codes, unseen=np.zeros(800, np.bool_)))
