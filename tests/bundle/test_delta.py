"""Head updates: what they say, what they refuse, and that they are small."""

import dataclasses

import numpy as np
import pytest
from delta_kit import NEW, OLD, bundle_of, contents, samples

from edgetl.bundle import (
    Bundle,
    Delta,
    ExportRecord,
    Limits,
    apply_delta,
    head_after,
    make_delta,
    roll_back,
)
from edgetl.bundle.delta import head_digest
from edgetl.errors import (
    ReplayError,
    WrongBaseError,
)
from edgetl.heads import HEADS, KnnHead, PrototypeHead, RidgeHead, SoftmaxHead
from edgetl.preprocess import Preprocess


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_a_receiver_has_the_senders_head(tmp_path, kind):
    base = bundle_of(tmp_path / "old", OLD, kind)
    sender = bundle_of(tmp_path / "new", NEW, kind, seed=1)
    delta = make_delta(base, sender)
    data = delta.to_bytes(sign=None)
    after = apply_delta(base, Delta.load(data, trust=None))
    assert set(after.labels) == set(NEW)
    assert after.labels[:4] == OLD, "codes that a receiver keeps must stay what they are"
    opened = Bundle.load(base.path)
    assert opened.labels == after.labels
    assert head_digest(opened.head) == delta.result
    features, _ = samples(7)
    columns = [after.labels.index(label) for label in NEW]
    found = opened.head.predict_proba(features)[:, columns]
    wanted = sender.head.predict_proba(features)
    assert np.abs(found - wanted).max() < 0.005
    assert (found.argmax(1) == wanted.argmax(1)).mean() > 0.98
    assert delta.evidence.difference <= delta.evidence.tolerance == 0.005
    exact = make_delta(base, sender, tolerance=0).to_bytes(sign=None)
    assert kind == "knn" or len(data) < 0.8 * len(exact)


def test_a_prototype_sends_the_new_row_alone(tmp_path):
    base = bundle_of(tmp_path / "old", OLD, "prototype")
    features, codes = samples(0)
    head = HEADS["prototype"].from_arrays(base.head.arrays())
    head.partial_fit(features[codes == 4], np.full((codes == 4).sum(), 4))
    grown = (*OLD, "aster")
    record = dataclasses.replace(base.manifest.record(), labels=grown)
    sender = base.with_fitted(record, dataclasses.replace(base.fitted(), head=head))
    delta = make_delta(base, sender)
    assert delta.arrays["head.prototypes/runs"][:, :2].tolist() == [[0, 4], [-1, 1]]
    assert delta.arrays["head.prototypes/runs"][0, 2] == 0
    assert (delta.added, delta.removed) == (("aster",), ())


def test_without_samples_nothing_is_rounded(tmp_path):
    base = bundle_of(tmp_path / "old", OLD, keep=0)
    sender = bundle_of(tmp_path / "new", NEW, seed=1, keep=0)
    delta = make_delta(base, sender)
    head = delta.head(base.head)
    order = [NEW.index(label) for label in delta.labels]
    np.testing.assert_array_equal(head.coef_, sender.head.coef_[order])
    assert delta.evidence.compared == 0
    rounded = make_delta(base, sender, features=samples(3)[0])
    assert rounded.evidence.compared == 200
    assert len(rounded.to_bytes(sign=None)) < 0.8 * len(delta.to_bytes(sign=None))


def test_a_smaller_tolerance_costs_bytes(pair):
    sizes = [len(make_delta(*pair, tolerance=t).to_bytes(sign=None)) for t in (0, 1e-4, 1e-2)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3
    exact = make_delta(*pair, tolerance=0)
    order = [NEW.index(label) for label in exact.labels]
    np.testing.assert_array_equal(exact.head(pair[0].head).coef_, pair[1].head.coef_[order])


def test_classes_go(tmp_path):
    base, sender = bundle_of(tmp_path / "old", NEW), bundle_of(tmp_path / "new", OLD, seed=1)
    delta = make_delta(base, sender)
    assert delta.removed == ("aster",)
    novelty = {
        "alpha": np.array(0.05),
        "shipped": np.arange(10, dtype=np.int8).reshape(5, 2),
        "shipped_codes": np.array([0, 1, 2, 1, 4]),
    }
    before = dataclasses.replace(base.learning, novelty=novelty)
    base = Bundle.load(dataclasses.replace(base, learning=before).save(tmp_path / "n.edgetl").path)
    after = apply_delta(base, delta)
    assert after.labels == OLD
    kept = Bundle.load(base.path).learning
    old = np.array(NEW)[before.codes]
    assert np.array(OLD)[kept.codes].tolist() == old[old != "aster"].tolist()
    assert kept.novelty["shipped"].tolist() == [[0, 1], [4, 5], [8, 9]]
    assert kept.novelty["shipped_codes"].tolist() == [0, 1, 3]
    back = roll_back(Bundle.load(base.path))
    assert back.labels == NEW
    np.testing.assert_array_equal(Bundle.load(base.path).learning.codes, before.codes)


def test_evidence_tells_what_was_forgotten(pair):
    base, sender = pair
    found = make_delta(base, sender).evidence
    truth = np.array(NEW)[sender.learning.guard_codes]
    features = sender.learning.guard_features.astype(np.float32)
    before = np.array(OLD)[base.head.predict(features)] == truth
    known = truth != "aster"
    assert found.guard == 40
    assert found.accuracy_before == pytest.approx(before.mean())
    assert found.known_before == pytest.approx(before[known].mean())
    assert found.known_before > found.accuracy_before
    assert found.accuracy_after > found.accuracy_before


def test_a_further_update_builds_on_either_head(pair, tmp_path):
    base, sender = pair
    shipped = bundle_of(tmp_path / "copy", OLD)
    first = make_delta(base, sender)
    later = bundle_of(tmp_path / "later", NEW, seed=2)
    second = make_delta(shipped, later, generation=2)
    device = apply_delta(base, first)
    third = make_delta(device, later, generation=5)
    for delta, number in ((second, 2), (third, 5)):
        device = Bundle.load(base.path)
        device = apply_delta(device, delta)
        assert device.manifest.update.generation == number
        assert head_digest(device.head) == delta.result


def test_rolling_back_gives_the_head_before_and_no_second_chance(pair):
    base, sender = pair
    before = head_digest(base.head)
    delta = make_delta(base, sender)
    device = apply_delta(base, delta)
    assert (device.manifest.update.generation, device.manifest.update.applied) == (1, 1)
    assert device.manifest.learning == base.manifest.learning, "kept samples are not written again"
    device = roll_back(Bundle.load(base.path))
    assert device.labels == OLD and head_digest(device.head) == before
    assert device.manifest.update.generation == 2
    device = Bundle.load(base.path)
    with pytest.raises(ReplayError, match="number 1, 1 was applied"):
        apply_delta(device, delta)
    with pytest.raises(ValueError, match="nothing to roll back"):
        roll_back(device)
    files = {file.name for file in base.path.iterdir()}
    assert files == set(device.manifest.files) | {"manifest.json"}, "no file is left over"
    moved = device.save(base.path.parent / "moved.edgetl")
    assert Bundle.load(moved.path).labels == OLD


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"graph": "e" * 64}, WrongBaseError, "for the backbone ffffffffffff"),
        ({"seed": 5}, WrongBaseError, "for the head"),
        ({"kind": "ridge"}, WrongBaseError, "for the head"),
        ({"task": "health"}, WrongBaseError, "for the task 'main'"),
        ({"labels": ("daisy", "rose", "gänse", "tulip")}, WrongBaseError, "for the head"),
    ],
)
def test_another_base_is_refused(pair, tmp_path, change, error, message):
    delta = make_delta(*pair)
    other = bundle_of(tmp_path / "other", change.pop("labels", OLD), **change)
    before = contents(other)
    with pytest.raises(error, match=message) as caught:
        apply_delta(other, delta)
    assert caught.value.exit_code == 8
    assert contents(other) == before


def test_other_preprocessing_is_refused(pair, tmp_path):
    other = dataclasses.replace(
        pair[0], manifest=dataclasses.replace(pair[0].manifest, preprocess=Preprocess(size=24))
    )
    with pytest.raises(WrongBaseError, match="prepared otherwise"):
        head_after(other, make_delta(*pair))


def test_other_names_of_the_same_head_are_refused(pair):
    renamed = dataclasses.replace(
        pair[0], manifest=dataclasses.replace(pair[0].manifest, labels=("a", "b", "c", "d"))
    )
    with pytest.raises(WrongBaseError, match="of the classes"):
        head_after(renamed, make_delta(*pair))


def test_older_and_equal_generations_are_refused(pair, tmp_path):
    base, sender = pair
    apply_delta(base, make_delta(base, sender, generation=7))
    device = Bundle.load(base.path)
    before = contents(device)
    shipped = bundle_of(tmp_path / "copy", OLD)
    for number in (1, 6, 7):
        with pytest.raises(ReplayError, match=f"number {number}, 7 was applied") as caught:
            apply_delta(device, make_delta(shipped, sender, generation=number))
        assert caught.value.exit_code == 8
    assert contents(device) == before
    apply_delta(device, make_delta(shipped, sender, generation=8))


def test_what_can_not_be_made(pair, tmp_path):
    base, sender = pair
    with pytest.raises(ValueError, match="nothing to send"):
        make_delta(base, base)
    with pytest.raises(ValueError, match="generation 0 is not above"):
        make_delta(base, sender, generation=0)
    with pytest.raises(ValueError, match="tolerance"):
        make_delta(base, sender, tolerance=1)
    with pytest.raises(ValueError, match="different backbones"):
        make_delta(base, bundle_of(tmp_path / "a", NEW, graph="e" * 64))
    with pytest.raises(ValueError, match="--head softmax"):
        make_delta(base, bundle_of(tmp_path / "b", NEW, "ridge"))
    export = ExportRecord(
        engine="onnxruntime",
        precision="fp32",
        fused=True,
        limits=Limits(least_cosine=0.9, mean_cosine=0.9, agreement=0.9, max_drop=1),
        source="",
        source_digest="",
        float_bytes=1,
    )
    fused = bundle_of(tmp_path / "c", NEW, seed=1, export=export)
    for two in ((base, fused), (fused, sender)):
        with pytest.raises(ValueError, match="head inside"):
            make_delta(*two)
    with pytest.raises(ValueError, match="head inside"):
        head_after(fused, make_delta(base, sender))


def test_kinds_know_what_they_send():
    """Every array of every kind of head is one that an update knows how to code."""
    from edgetl.bundle.delta_make import _OF_CLASSES, _OF_SAMPLES

    features, codes = samples(0)
    for kind in (KnnHead, PrototypeHead, RidgeHead, SoftmaxHead, HEADS["lda"]):
        arrays = kind().fit(features, codes).arrays()
        with_rows = {name for name, array in arrays.items() if array.ndim} - {"classes"}
        assert with_rows <= _OF_CLASSES | _OF_SAMPLES


def test_numbers_go_on_from_what_was_applied(pair, tmp_path):
    """A later update, made from a device's copy, gets a number that the device takes."""
    base, sender = pair
    apply_delta(base, make_delta(base, sender, generation=7))
    later = bundle_of(tmp_path / "later", NEW, seed=2)
    device = roll_back(Bundle.load(base.path))
    delta = make_delta(Bundle.load(base.path), later)
    assert delta.generation == 9 and device.manifest.update.generation == 8
    apply_delta(device, delta)
    with pytest.raises(ValueError, match="not above the base's 9"):
        make_delta(Bundle.load(base.path), sender, generation=9)
