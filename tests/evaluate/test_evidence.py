"""Evidence as JSON that refuses what it can't be, and as a table that is safe to print."""

import copy
import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetl.bundle.evidence import Evidence, HeadRecord, RunRecord
from edgetl.errors import CorruptError
from edgetl.evaluate import evaluate_head

HEAD = HeadRecord(
    kind="softmax",
    temperature=1.5,
    candidates=(
        {"head": "softmax", "accuracy": 0.92345678, "log_loss": 0.25, "chosen": True},
        {"head": "ridge", "accuracy": 0.91, "log_loss": None, "chosen": False},
    ),
)
RUN = RunRecord(
    backbone="mobilenetv2_100",
    engine="onnxruntime 1.31.0 cpu",
    seed=7,
    started_at="2025-06-01T12:00:00Z",
    seconds=12.25,
    images_per_second=81.5,
    cache_hits=3,
    cache_misses=997,
    skipped=(("daisy/broken.jpg", "truncated JPEG"),),
    duplicates=(("train/a.jpg", "test/b.jpg"),),
    notes=("class folder 'x' is empty",),
    versions={"edgetl": "0.1.0", "numpy": np.__version__},
)


def evidence(classes=3, n=60, labels=None, run=RUN, wrong=0.2):
    generator = np.random.default_rng(0)
    targets = np.arange(n) % classes
    guesses = np.where(generator.random(n) < wrong, (targets + 1) % classes, targets)
    chances = np.full((n, classes), 0.2 / (classes - 1))
    chances[np.arange(n), guesses] = 0.8
    return evaluate_head(
        chances,
        targets,
        labels or [f"class {i}" for i in range(classes)],
        train_counts=np.arange(classes) + 10,
        head=HEAD,
        run=run,
        baselines={"knn": targets[::-1]},
    )


def test_json_keeps_everything():
    original = dataclasses.replace(evidence(), extra={"groups": {"speaker": [1, None, "x"]}})
    text = json.dumps(original.to_json(), allow_nan=False)
    read = Evidence.from_json(json.loads(text))
    assert read == original
    assert json.dumps(read.to_json()) == text
    assert type(read.per_class[0].n) is int
    assert isinstance(read.confusion[0], tuple)


def test_fields_with_a_default_may_be_absent():
    values = evidence().to_json()
    for name in ("ece_uncalibrated", "baselines", "confidence", "extra"):
        del values[name]
    read = Evidence.from_json(values)
    assert (read.ece_uncalibrated, read.baselines, read.confidence) == (None, {}, 0.95)


BROKEN = {
    "missing": lambda v: v.pop("accuracy"),
    "unknown": lambda v: v.update(verdict="fine"),
    "unknown below": lambda v: v["run"].update(host="x"),
    "not a number": lambda v: v.update(accuracy="0.9"),
    "true is no number": lambda v: v.update(accuracy=True),
    "NaN": lambda v: v.update(log_loss=float("nan")),
    "infinite": lambda v: v.update(log_loss=float("inf")),
    "huge integer": lambda v: v.update(log_loss=10**400),
    "fraction of a sample": lambda v: v.update(n_test=60.0),
    "outside": lambda v: v.update(accuracy_high=1.2),
    "reversed interval": lambda v: v.update(accuracy_low=0.9, accuracy_high=0.1),
    "confidence": lambda v: v.update(confidence=95),
    "other count": lambda v: v.update(n_test=61),
    "negative count": lambda v: v.update(n_train=-1),
    "repeated label": lambda v: v.update(labels=["a", "a", "b"]),
    "label too many": lambda v: v["labels"].append("more"),
    "text for a list": lambda v: v.update(labels="abc"),
    "class out of range": lambda v: v["confusion_counts"][0].__setitem__(1, 3),
    "entry too short": lambda v: v["confusion_counts"][0].pop(),
    "list for an object": lambda v: v.update(run=[]),
    "object in a row": lambda v: v["head"]["candidates"][0].update(accuracy={}),
    "none": lambda v: v.update(ece=None),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_json_is_refused(name):
    values = evidence().to_json()
    BROKEN[name](values)
    with pytest.raises(CorruptError):
        Evidence.from_json(values)


@pytest.mark.parametrize("values", [None, [], "x", 1, {}])
def test_json_that_is_no_evidence(values):
    with pytest.raises(CorruptError):
        Evidence.from_json(values)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_replaced_value_is_read_or_refused(data):
    """A hostile manifest meets CorruptError, or gives evidence that can be printed."""
    values = copy.deepcopy(VALUES)
    node = values
    while True:
        keys = sorted(node) if isinstance(node, dict) else range(len(node))
        key = data.draw(st.sampled_from(list(keys)))
        below = node[key]
        if not (isinstance(below, dict | list) and below and data.draw(st.booleans())):
            break
        node = below
    node[key] = data.draw(JSON)
    try:
        read = Evidence.from_json(values)
    except CorruptError:
        return
    assert str(read).isprintable() or "\n" in str(read)


VALUES = evidence().to_json()


def test_all_are_counted_and_the_first_are_kept():
    names = tuple((f"{i}.jpg", "empty file") for i in range(1500))
    run = dataclasses.replace(RUN, skipped=names, duplicates=())
    assert (run.n_skipped, run.skipped) == (1500, names[:1000])
    assert RunRecord(**{**run.__dict__}) == run
    assert "1500: 0.jpg (empty file), " in str(evidence(run=run))
    assert ", and 1495 more" in str(evidence(run=run))


def test_the_table_has_what_one_decides_by():
    found = evidence()
    text = str(found)
    assert max(map(len, text.splitlines())) <= 160
    assert len(text.splitlines()) <= 40
    for part in (
        f"{100 * found.accuracy:.1f} %",
        f"{100 * found.accuracy_low:.1f} to {100 * found.accuracy_high:.1f} %",
        "of 60 test images right",
        "majority",
        "knn",
        "before temperature 1.5",
        "0.9235",
        "33 training and 60 test images",
        "daisy/broken.jpg (truncated JPEG)",
        "train/a.jpg = test/b.jpg",
        "class folder 'x' is empty",
        "mobilenetv2_100 on onnxruntime 1.31.0 cpu",
        "3 features cached, 997 computed",
        f"numpy {np.__version__}",
    ):
        assert part in text, part
    for row, label in zip(found.confusion, found.labels, strict=True):
        line = next(x for x in text.splitlines() if x[2:].startswith(label) and "%" not in x)
        assert line.split()[3:] == [str(count) if count else "." for count in row]


def test_the_verdict_on_a_baseline_follows_the_interval():
    better, worse = str(evidence(wrong=0.05)), str(evidence(wrong=0.99))
    assert "baseline; the model is better: +" in better
    assert "baseline; the model is WORSE: -" in worse
    assert "baseline; no clear difference to it: " in str(evidence(n=6, classes=2, wrong=0.5))


def test_many_classes_fit_on_a_screen():
    found = evidence(classes=200, n=1000)
    text = str(found)
    assert len(text.splitlines()) <= 60
    assert "worst 12 of 200" in text
    assert "most confused" in text
    worst = min(found.per_class, key=lambda score: score.f1)
    assert f"{100 * worst.f1:.1f} %" in text
    assert "no test image was confused" in str(evidence(classes=200, n=1000, wrong=0))


def test_labels_cannot_steer_the_terminal():
    labels = ["\x1b[2Jcleared", "new\nline", "right\u202eto left"]
    run = dataclasses.replace(RUN, skipped=(("\x1b]0;x\x07.jpg", "\r\n"),))
    text = str(evidence(labels=labels, run=run))
    assert all(line.isprintable() for line in text.splitlines())
    assert "?[2Jcleared" in text


def test_columns_are_aligned_for_wide_letters():
    text = str(evidence(labels=["ひまわり", "rose", "e\u0301te\u0301"]))
    rows = [
        x for x in text.splitlines() if x.startswith(("ひまわり ", "rose ", "e\u0301te\u0301 "))
    ]
    shown = [x.replace("\u0301", "").replace("ひまわり", "ひ" * 8) for x in rows]
    assert len(rows) == 3
    assert len({x.index("%") for x in shown}) == 1


def test_long_names_are_shortened():
    labels = ["x" * 500, "y", "z"]
    assert max(map(len, str(evidence(labels=labels)).splitlines())) < 250
