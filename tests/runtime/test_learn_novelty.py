"""What a device learns is no longer unknown to it: kept, undone, found again and saved."""

import dataclasses

import numpy as np
import pytest
from learning_kit import LABELS, drawn, save_bundle

from edgetl.bundle import Bundle
from edgetl.runtime.novelty import fit_novelty
from edgetl.runtime.options import LearningOptions
from edgetl.runtime.teachable import Teachable

SPREAD = 0.3


def opened(path):
    return Teachable(Bundle.load(path), LearningOptions(guard="off"))


def share_unknown(device, label="rust"):
    answers = device.tasks["main"].answer(drawn([label] * 40, 9, spread=SPREAD))
    return sum(answer.unknown for answer in answers) / 40


@pytest.fixture(params=["prototype", "softmax"])
def path(request, tmp_path):
    bundle = Bundle.load(save_bundle(tmp_path / "plain", request.param))
    names = [LABELS[i % len(LABELS)] for i in range(80)]
    model = fit_novelty(drawn(names, 5, spread=SPREAD), np.arange(80) % len(LABELS))
    learning = dataclasses.replace(bundle.learning, novelty=model.arrays())
    return dataclasses.replace(bundle, learning=learning).save(tmp_path / "flowers.edgetl").path


def test_learned_classes_are_known_until_undone(path):
    samples = drawn(["rust"] * 12, 1, spread=SPREAD)
    with opened(path) as device:
        model = device.tasks["main"]
        assert share_unknown(device) == 1 and share_unknown(device, "rose") < 0.3
        device.learn_features(samples[:10], "rust")
        assert share_unknown(device) < 0.3 and len(model.novelty.learned) == 10
        assert set(model.novelty.learned.codes.tolist()) == {4}
        device.learn_features(samples[10:], "rust")
        device.undo()
        assert len(model.novelty.learned) == 10
        device.undo()
        assert len(model.novelty.learned) == 0 and share_unknown(device) == 1
        device.rollback(2)
        assert len(model.novelty.learned) == 12 and share_unknown(device) < 0.3
        device.forget("rust")
        assert len(model.novelty.learned) == 0 and share_unknown(device) == 1
        device.forget("rose")
        assert set(model.novelty.shipped.codes.tolist()) == {0, 1, 2}
        assert share_unknown(device, "rose") > 0.9 and share_unknown(device, "poppy") < 0.3
        device.undo()
        assert share_unknown(device, "rose") < 0.3 and share_unknown(device, "poppy") < 0.3


def test_what_is_known_is_found_again_and_saved(path, tmp_path):
    samples = drawn(["rust"] * 10, 1, spread=SPREAD)
    with opened(path) as device:
        device.learn_features(samples, "rust")
    with opened(path) as device:  # it was not saved
        device.learner  # noqa: B018
        assert len(device.tasks["main"].novelty.learned) == 10 and share_unknown(device) < 0.3
        device.save()
        device.forget("rose")
        device.save(tmp_path / "other.edgetl")
    opened(path).save(tmp_path / "copy.edgetl")
    with opened(tmp_path / "copy.edgetl") as copy:  # a bundle of its own: there is no history
        assert len(copy.tasks["main"].novelty.learned) == 0
        copy.learn_features(samples[:1], "daisy")
        assert share_unknown(copy) < 0.3
    saved = opened(path)
    assert share_unknown(saved) < 0.3  # before it learns
    with saved:
        saved.learner  # noqa: B018
        assert len(saved.tasks["main"].novelty.learned) == 10
    other = opened(tmp_path / "other.edgetl")
    novelty = other.tasks["main"].novelty
    assert other.tasks["main"].labels == ("daisy", "tulip", "poppy", "rust")
    assert (len(novelty.learned), set(novelty.shipped.codes.tolist())) == (0, {0, 1, 2, 3})
    assert share_unknown(other) < 0.3 and share_unknown(other, "rose") > 0.9
    with other:
        other.learn_features(samples[:1], "daisy")
        assert share_unknown(other) < 0.3
