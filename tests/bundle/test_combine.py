"""Several heads on one backbone."""

import dataclasses

import delta_kit
import numpy as np
import pytest

from edgetl.bundle import Bundle, Checks, Manifest, apply_delta, combine, make_delta, with_task
from edgetl.bundle.delta import head_digest
from edgetl.errors import WrongBaseError
from edgetl.heads import HEADS, SoftmaxHead
from edgetl.preprocess import Preprocess

DIM = 12


def bundle_of(folder, labels, *, seed=0, kind="softmax", **changes):
    folder.mkdir()
    rng = np.random.default_rng(seed)
    codes = np.arange(80) % len(labels)
    features = rng.normal(size=(80, DIM)).astype(np.float32)
    features[np.arange(80), codes] += 3
    (folder / "graph.onnx").write_bytes(b"\x08\x08" + bytes(500))
    manifest = Manifest(
        **{
            "labels": labels,
            "preprocess": Preprocess(size=32, resize=40),
            "backbone": "tiny",
            "dim": DIM,
            "graph": "backbone.onnx",
            "graph_fingerprint": "f" * 64,
            "head": kind,
        }
        | changes
    )
    checks = Checks(
        probe_features=np.zeros((1, DIM), np.float32),
        train_digests=np.arange(seed, seed + 5, dtype=np.uint64),
    )
    head = HEADS[kind]().fit(features, codes)
    bundle = Bundle(manifest, head, folder / "graph.onnx", checks=checks)
    return Bundle.load(bundle.save(folder / "b.edgetl").path)


@pytest.fixture
def species(tmp_path):
    return bundle_of(tmp_path / "species", ("rose", "tulip", "daisy"))


@pytest.fixture
def health(tmp_path):
    return bundle_of(tmp_path / "health", ("well", "ill"), seed=7, kind="prototype")


def test_two_heads_survive_storage(species, health, tmp_path):
    combine({"species": species, "health": health}).save(tmp_path / "both.edgetl")
    both = Bundle.load(tmp_path / "both.edgetl")
    assert (both.manifest.task, list(both.manifest.tasks)) == ("species", ["health"])
    assert both.manifest.record("health").labels == ("well", "ill")
    assert head_digest(both.fitted().head) == head_digest(species.head)
    assert head_digest(both.fitted("health").head) == head_digest(health.head)
    assert both.size < 1.5 * species.size + 10_000
    digests = [np.uint64(number).tobytes()[::-1] for number in range(12)]
    assert np.flatnonzero(both.checks.trained_on(digests)).tolist() == [0, 1, 2, 3, 4]
    seen = both.checks.trained_on(digests, task="health")
    assert np.flatnonzero(seen).tolist() == [7, 8, 9, 10, 11]


def test_tasks_of_tasks_come_along(species, health, tmp_path):
    third = bundle_of(tmp_path / "third", ("wet", "dry"), seed=3)
    pair = combine({"health": health, "soil": third}).save(tmp_path / "pair.edgetl")
    whole = combine({"species": species, "plant": Bundle.load(pair.path)})
    saved = Bundle.load(whole.save(tmp_path / "all.edgetl").path)
    assert [saved.manifest.task, *saved.manifest.tasks] == ["species", "plant", "soil"]
    assert head_digest(saved.fitted("soil").head) == head_digest(third.head)
    digests = [np.uint64(number).tobytes()[::-1] for number in range(3, 8)]
    assert saved.checks.trained_on(digests, task="soil").all()


def test_bundles_that_do_not_share_a_pass_are_refused(species, tmp_path):
    graph = bundle_of(tmp_path / "graph", ("a", "b"), graph_fingerprint="e" * 64)
    pixels = bundle_of(tmp_path / "pixels", ("a", "b"), preprocess=Preprocess(size=24, resize=40))
    with pytest.raises(ValueError, match="different backbones"):
        combine({"species": species, "x": graph})
    with pytest.raises(ValueError, match="prepare photos differently"):
        combine({"species": species, "x": pixels})
    with pytest.raises(ValueError, match="at least 2"):
        combine({"species": species})


def test_names_are_checked(species, health):
    with pytest.raises(ValueError, match="already"):
        with_task(species, "main", health)
    with pytest.raises(ValueError, match="letters, digits"):
        species.with_task("../health", health)
    both = species.with_task("health", health)
    with pytest.raises(ValueError, match="already"):
        both.with_task("health", health)
    with pytest.raises(ValueError, match="already"):
        combine({"health": both, "other": species})


def test_a_head_that_was_updated_keeps_its_way_back(species, health, tmp_path):
    other = bundle_of(tmp_path / "new", ("well", "ill", "dead"), seed=8, kind="prototype")
    shipped = head_digest(health.head)
    changed = apply_delta(health, make_delta(health, other, generation=4))
    both = combine({"species": species, "health": Bundle.load(changed.path)})
    opened = Bundle.load(both.save(tmp_path / "both.edgetl").path)
    record = opened.manifest.record("health")
    assert record.labels == ("well", "ill", "dead")
    assert (record.update.applied, record.update.generation) == (4, 4)
    arrays = opened.read_compiled(record.update.base_arrays)
    assert arrays == (health.path / "head.safetensors").read_bytes()
    assert shipped != head_digest(opened.fitted("health").head)


def test_an_updated_head_that_learned_comes_without_the_one_before(tmp_path):
    """Kept features of the head that was replaced are of no use beside another bundle's."""
    shipped = delta_kit.bundle_of(tmp_path / "shipped", delta_kit.OLD, "ridge")
    other = delta_kit.bundle_of(tmp_path / "other", delta_kit.NEW, "ridge")
    apply_delta(shipped, make_delta(shipped, other))
    changed = Bundle.load(shipped.path)
    assert changed.manifest.update.previous.learning != changed.manifest.learning
    first = delta_kit.bundle_of(tmp_path / "first", delta_kit.OLD)
    both = combine({"species": first, "health": changed}).save(tmp_path / "both.edgetl")
    opened = Bundle.load(both.path)
    record = opened.manifest.record("health")
    assert record.labels == changed.labels and record.update.previous is None
    assert opened.read_compiled(record.update.base_arrays) == changed.read_compiled(
        changed.manifest.update.base_arrays
    )


def test_each_task_is_updated_alone(species, health, tmp_path):
    both = combine({"species": species, "health": health}).save(tmp_path / "both.edgetl")
    both = Bundle.load(both.path)
    sick = bundle_of(tmp_path / "new", ("well", "ill", "dead"), seed=8, kind="prototype")
    delta = make_delta(health, sick)
    with pytest.raises(WrongBaseError, match="for the task 'main', the bundle has species, health"):
        apply_delta(both, delta)
    with pytest.raises(WrongBaseError, match="for the head"):
        apply_delta(both, delta, task="species")
    apply_delta(both, delta, task="health")
    opened = Bundle.load(both.path)
    assert opened.manifest.record("health").labels == ("well", "ill", "dead")
    assert opened.labels == species.labels and opened.manifest.update is None
    later = bundle_of(tmp_path / "later", ("well", "ill", "dead", "odd"), seed=9, kind="prototype")
    renamed = combine({"species": species, "health": later})
    second = make_delta(
        opened, Bundle.load(renamed.save(tmp_path / "l.edgetl").path), task="health"
    )
    assert (second.task, second.generation) == ("health", 2)
    apply_delta(opened, second)
    assert Bundle.load(both.path).manifest.record("health").labels[-1] == "odd"


def test_a_learned_state_is_kept_apart(species, health, tmp_path):
    """Files of tasks don't collide, whatever their names."""
    names = {"species": species, "1": health, "head": health, "learning": health}
    both = Bundle.load(combine(names).save(tmp_path / "both.edgetl").path)
    assert len(both.manifest.files) == len(set(both.manifest.files)) == 6
    assert dataclasses.replace(both.manifest, files={}).tasks.keys() == {"1", "head", "learning"}
    assert isinstance(both.head, SoftmaxHead)
