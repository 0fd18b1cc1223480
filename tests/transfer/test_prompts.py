"""Classes from sentences: prompts, directions and the head they make."""

import json

import numpy as np
import pytest

from edgetl.errors import DataError
from edgetl.heads import SoftmaxHead, load_head
from edgetl.transfer.prompts import (
    TEMPLATES,
    embed_classes,
    read_prompts,
    sentences,
    zero_shot_head,
)


def test_names_and_whole_sentences():
    found = sentences(
        ["car_side", "rust"],
        templates=("a photo of a {}", "{}, {} and {0}"),
        prompts={"rust": ["brown metal", "a {} is left as it is"]},
    )
    assert found == {
        "car_side": ("a photo of a car side", "car side, car side and {0}"),
        "rust": ("brown metal", "a {} is left as it is"),
    }
    assert sentences(["ok"], prompts={"ok": "all well"}) == {"ok": ("all well",)}
    assert len(set(sentences(["ok"])["ok"])) == len(TEMPLATES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"templates": ()}, "one or more sentences"),
        ({"templates": "a photo of a {}"}, "one or more sentences"),
        ({"templates": ("a photo",)}, r"needs \{\} where the class goes, got 'a photo'"),
        ({"prompts": {"rusty": "x"}}, "classes that there are not: rusty; the classes are rust, _"),
        ({"prompts": {"rust": []}}, "must be sentences"),
        ({"prompts": {"rust": ["x", " "]}}, "must be sentences"),
        ({}, "class '_' has no name"),
    ],
)
def test_bad_words_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sentences(["rust", "_"], **options)


def test_prompts_from_a_file(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"rust": ["brown metal"], "ok": "all well"}))
    assert read_prompts(path) == {"rust": ["brown metal"], "ok": "all well"}
    for content in ('["rust"]', '{"rust": 3}', '{"rust": [3]}', "{"):
        path.write_text(content)
        with pytest.raises(DataError, match=r"sentences by class|is not JSON"):
            read_prompts(path)
    with pytest.raises(DataError, match="can't be read"):
        read_prompts(tmp_path / "none.json")


def test_a_class_is_the_mean_direction_of_its_sentences():
    vectors = {"a": [2.0, 0, 0], "b": [0, 5.0, 0], "c": [0, 0, 0.1]}
    found = embed_classes(
        {"x": ("a", "b"), "y": ("c",)},
        lambda texts: np.array([vectors[text] for text in texts], np.float32),
    )
    np.testing.assert_allclose(found, [[0.5**0.5, 0.5**0.5, 0], [0, 0, 1]], atol=1e-7)


def test_the_head_is_a_softmax_over_scaled_cosines_stored_and_learning():
    generator = np.random.default_rng(0)
    directions = generator.normal(size=(3, 8))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    X = generator.normal(size=(50, 8)).astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    head = zero_shot_head(directions, scale=20.0)
    logits = 20.0 * X.astype(np.float64) @ directions.T
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(head.predict_proba(X), expected, atol=1e-12)
    stored = load_head(head.kind, head.arrays())
    assert type(stored) is SoftmaxHead
    np.testing.assert_allclose(stored.predict_proba(X), expected, atol=1e-5)
    # One sample moves the head towards its label, and little else.
    row = X[:1]
    label = int(expected[0].argmin())
    stored.partial_fit(row, [label])
    assert stored.predict_proba(row)[0, label] > expected[0, label]
    assert np.mean(stored.predict(X) == head.predict(X)) > 0.8
    with pytest.raises(ValueError, match="at least 2 classes"):
        zero_shot_head(directions[:1], scale=20.0)
