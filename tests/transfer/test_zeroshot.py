"""Zero-shot against the papers' formulas, on planted attributes and on real photos and words."""

import numpy as np
import pytest

from edgetl.errors import DataError
from edgetl.heads import RidgeHead, load_head
from edgetl.transfer.descriptions import SeenSpace, embed_texts
from edgetl.transfer.generalised import (
    calibrated_stacking,
    seen_unseen_curve,
    stacking_penalty,
)
from edgetl.transfer.prior_blend import blend_with_prior
from edgetl.transfer.zeroshot import ConSE, Eszsl, class_folds


@pytest.fixture(scope="module")
def planted():
    """Classes whose mean features are a linear map of their attributes: (described, draw)."""
    generator = np.random.default_rng(0)
    attributes = {f"c{place:02d}": generator.normal(size=6) for place in range(16)}
    turn = generator.normal(size=(6, 30))

    def draw(labels, count, noise=1.0):
        own = np.random.default_rng([count, len(labels)])
        y = np.repeat(labels, count)
        means = np.stack([attributes[label] @ turn for label in y.tolist()])
        return (means + noise * own.normal(size=means.shape) + 3).astype(np.float32), y

    return attributes, draw


def names(first, last):
    return [f"c{place:02d}" for place in range(first, last)]


def test_eszsl_is_the_papers_closed_form(planted):
    attributes, draw = planted
    X, y = draw(names(0, 9), 4)
    method = Eszsl(0.5, penalty=2.0).fit(X, y, attributes)
    # d x m features, d x a descriptions as columns, as the paper writes them.
    middle = X.astype(np.float64).mean(0)
    size = np.sqrt(np.mean((X - middle) ** 2))
    features = ((X - middle) / size).T
    raw = np.stack([attributes[label] for label in names(0, 9)])
    S = (raw - raw.mean(0)).T
    S /= np.linalg.norm(S, axis=0)
    Y = np.where(y[:, None] == np.array(names(0, 9)), 1.0, -1.0)

    def mean_eigenvalue(gram):
        values = np.linalg.eigvalsh(gram)
        return values[values > 1e-9 * values.max()].mean()

    gram, small = features @ features.T, S @ S.T
    left = np.linalg.inv(gram + 0.5 * mean_eigenvalue(gram) * np.eye(30))
    right = np.linalg.inv(small + 2.0 * mean_eigenvalue(small) * np.eye(6))
    V = left @ features @ Y @ S.T @ right
    new = {label: attributes[label] for label in names(9, 16)}
    queries, _ = draw(names(9, 16), 3)
    s = np.stack(list(new.values())) - raw.mean(0)
    s /= np.linalg.norm(s, axis=1, keepdims=True)
    expected = (queries - middle) / size @ V @ s.T
    np.testing.assert_allclose(method.scores(queries, new), expected, rtol=1e-6, atol=1e-9)


def test_conse_is_the_papers_combination(planted):
    attributes, draw = planted
    X, y = draw(names(0, 9), 5)
    method = ConSE(RidgeHead(1.0), top=3).fit(X, y, attributes)
    queries, _ = draw(names(9, 16), 2)
    new = {label: attributes[label] for label in names(9, 16)}
    chances = RidgeHead(1.0).fit(X, y).predict_proba(queries)
    space = SeenSpace(attributes, np.array(names(0, 9)))
    for row, chance in zip(method.scores(queries, new), chances, strict=True):
        top = np.argsort(-chance)[:3]
        place = sum(chance[c] * space.seen[c] for c in top) / sum(chance[c] for c in top)
        for score, vector in zip(row, space.place(new), strict=True):
            cosine = place @ vector / np.linalg.norm(place) / np.linalg.norm(vector)
            assert score == pytest.approx(cosine, abs=1e-9)


@pytest.mark.parametrize("method", [Eszsl(), ConSE(), ConSE(top=1), ConSE(top=100)])
def test_unseen_classes_are_told_apart(planted, method):
    attributes, draw = planted
    X, y = draw(names(0, 11), 10)
    queries, truth = draw(names(11, 16), 30)
    unseen = {label: attributes[label] for label in names(11, 16)}
    found = method.unfitted().fit(X, y, attributes)
    assert np.mean(found.predict(queries, unseen) == truth) > 0.5
    shuffled = dict(zip(unseen, [*list(unseen.values())[1:], unseen["c11"]], strict=True))
    assert np.mean(found.predict(queries, shuffled) == truth) < 0.3


def test_strengths_and_temperature_come_from_classes_held_out(planted):
    attributes, draw = planted
    X, y = draw(names(0, 12), 8)
    method = Eszsl((1e-6, 1.0, 1e9), penalty=(1.0,)).fit(X, y, attributes)
    assert method.accuracy_ > 0.6
    assert method.temperature_ != 1.0
    few = Eszsl().fit(*draw(names(0, 3), 8), attributes)
    assert few.accuracy_ is None and few.temperature_ == 1.0
    assert (few.gamma_, few.penalty_) == (10.0, 1.0)


def test_it_becomes_a_linear_head_exactly(planted):
    attributes, draw = planted
    method = Eszsl().fit(*draw(names(0, 12), 8), attributes)
    unseen = {label: attributes[label] for label in reversed(names(12, 16))}
    queries, _ = draw(names(12, 16), 5)
    head = method.head(unseen)
    assert head.classes_.tolist() == names(12, 16)
    np.testing.assert_allclose(head.scores(queries), method.scores(queries, unseen)[:, ::-1])
    np.testing.assert_array_equal(head.predict(queries), method.predict(queries, unseen))
    stored = load_head("ridge", head.arrays())
    np.testing.assert_allclose(
        stored.predict_proba(queries), head.predict_proba(queries), atol=1e-4
    )
    with pytest.raises(ValueError, match="2 classes"):
        method.head({"c15": attributes["c15"]})
    with pytest.raises(ValueError, match="prepare_learning"):
        head.partial_fit(queries[:1], ["c12"])


def test_what_does_not_fit_is_refused(planted):
    attributes, draw = planted
    X, y = draw(names(0, 5), 3)
    for method in (Eszsl(), ConSE()):
        with pytest.raises(ValueError, match="not fitted"):
            method.scores(X, attributes)
        with pytest.raises(ValueError, match=r"no description of the classes \['c04'\]"):
            method.fit(X, y, {label: attributes[label] for label in names(0, 4)})
        with pytest.raises(ValueError, match="2 classes"):
            method.fit(X, ["c00"] * len(X), attributes)
        method.fit(X, y, attributes)
        with pytest.raises(ValueError, match="have 3 numbers, those of training 6"):
            method.scores(X, {"x": np.ones(3)})
        with pytest.raises(ValueError, match="one length"):
            method.scores(X, {"x": np.ones(6), "y": np.ones(5)})
    with pytest.raises(ValueError, match="top"):
        ConSE(top=0).fit(X, y, attributes)


def test_equal_descriptions_and_equal_features_are_survived(planted):
    _, draw = planted
    X, y = draw(names(0, 5), 3)
    same = {label: np.ones(6) for label in names(0, 7)}
    for method in (Eszsl(), ConSE()):
        assert np.isfinite(method.fit(X, y, same).scores(X, same)).all()
    flat = Eszsl().fit(np.ones_like(X), y, {label: np.eye(7)[i] for i, label in enumerate(same)})
    assert np.isfinite(flat.scores(X, {"a": np.ones(7), "b": np.zeros(7)})).all()


def test_class_folds():
    folds = class_folds(11, seed=1)
    assert np.bincount(folds).tolist() == [3, 2, 2, 2, 2]
    assert set(class_folds(3)) == {0} and set(class_folds(4)) == {0, 1}


def test_texts_are_means_of_centred_word_vectors():
    vectors = np.array([[1.0, 0], [0, 1], [5, 5]])
    found = embed_texts({"x": "Red, unknown RED-cat!", 7: "cat"}, ["red", "cat", "of"], vectors)
    np.testing.assert_allclose(found["x"], [2 / 3 - 2, 1 / 3 - 2])
    np.testing.assert_allclose(found[7], [0 - 2, 1 - 2])
    with pytest.raises(DataError, match="no word of the description 'ketch'"):
        embed_texts({"x": "ketch"}, ["red", "cat", "of"], vectors)
    with pytest.raises(ValueError, match="2 words"):
        embed_texts({"x": "red"}, ["red", "cat"], vectors)


def test_the_curve_is_that_of_trying_every_penalty():
    generator = np.random.default_rng(0)
    seen = np.array([True, True, False, True, False])
    codes = generator.integers(0, 5, 60)
    scores = np.round(generator.normal(size=(60, 5)) + 1.5 * np.eye(5)[codes] + seen, 1)
    curve = seen_unseen_curve(scores, codes, seen)
    for penalty in (-50.0, *np.linspace(-4.03, 4.07, 40), 50.0):
        answers = calibrated_stacking(scores, seen, penalty).argmax(1)
        right = np.array([np.mean(answers[codes == c] == c) for c in range(5)])
        place = np.searchsorted(curve.penalties, penalty, side="right") - 1
        assert curve.seen[place] == pytest.approx(right[seen].mean())
        assert curve.unseen[place] == pytest.approx(right[~seen].mean())
    assert curve.seen[-1] == pytest.approx(0, abs=1e-12) and curve.unseen[0] == 0
    slow = 0.0
    for place in range(1, len(curve.unseen)):
        height = (curve.seen[place] + curve.seen[place - 1]) / 2
        slow += height * (curve.unseen[place] - curve.unseen[place - 1])
    assert curve.area == pytest.approx(slow)
    answers = calibrated_stacking(scores, seen, curve.best).argmax(1)
    right = np.array([np.mean(answers[codes == c] == c) for c in range(5)])
    one, other = right[seen].mean(), right[~seen].mean()
    assert 2 * one * other / (one + other) == pytest.approx(curve.harmonic.max())
    with pytest.raises(ValueError, match="seen and of unseen"):
        seen_unseen_curve(scores[seen[codes]], codes[seen[codes]], seen)


class Vain(Eszsl):
    """One that likes what it has seen, by 3."""

    def unfitted(self):
        return Vain(self.gamma, penalty=self.penalty, seed=self.seed)

    def scores(self, X, descriptions):
        seen = np.isin(list(descriptions), self.classes_)
        return super().scores(X, descriptions) + 3.0 * seen


@pytest.mark.parametrize("method", [Vain(), ConSE()])
def test_stacking_with_a_penalty_from_seen_classes_helps(planted, method):
    attributes, draw = planted
    X, y = draw(names(0, 11), 20, noise=2)
    queries, truth = draw(names(0, 16), 20, noise=2)
    labels = names(0, 16)
    seen = np.array([label in set(y) for label in labels])
    codes = np.array([labels.index(label) for label in truth])
    before = vars(method).copy()
    penalty = stacking_penalty(method, X, y, attributes)
    assert vars(method) == before
    scores = method.unfitted().fit(X, y, attributes).scores(queries, attributes)
    found = {}
    for constant in (0.0, penalty):
        answers = calibrated_stacking(scores, seen, constant).argmax(1)
        right = np.array([np.mean(answers[codes == c] == c) for c in range(16)])
        one, other = right[seen].mean(), right[~seen].mean()
        found[constant] = 2 * one * other / (one + other)
    assert found[penalty] > found[0.0] + 0.2
    assert found[penalty] > 0.9 * seen_unseen_curve(scores, codes, seen).harmonic.max()
    with pytest.raises(ValueError, match="at least 4 seen"):
        stacking_penalty(method, *draw(names(0, 3), 5), attributes)


def test_the_penalty_undoes_a_constant(planted):
    attributes, draw = planted
    X, y = draw(names(0, 11), 20, noise=2)
    plain = stacking_penalty(Eszsl(), X, y, attributes)
    assert stacking_penalty(Vain(), X, y, attributes) == pytest.approx(plain + 3)


def test_a_prior_is_blended_in_where_it_helps(planted):
    attributes, draw = planted
    method = Eszsl().fit(*draw(names(0, 11), 10, noise=2), attributes)
    prior = method.head({label: attributes[label] for label in names(11, 16)})
    X, y = draw(names(11, 16), 2, noise=6)
    queries, truth = draw(names(11, 16), 200, noise=6)
    blend = blend_with_prior(prior, X, y)
    assert 0 < blend.share <= 1 and len(blend.accuracies) == 11
    assert type(blend.head) is RidgeHead
    alone = RidgeHead().fit(X, y).score(queries, truth)
    assert blend.head.score(queries, truth) > alone
    stored = load_head("ridge", blend.head.arrays())
    chances = blend.head.predict_proba(queries)
    np.testing.assert_allclose(stored.predict_proba(queries), chances, atol=1e-4)


def test_a_prior_that_misleads_is_left_out(planted):
    attributes, draw = planted
    method = Eszsl().fit(*draw(names(0, 11), 10), attributes)
    others = [attributes[label] for label in [*names(12, 16), "c11"]]
    wrong = dict(zip(names(11, 16), others, strict=True))
    X, y = draw(names(11, 16), 4)
    queries, truth = draw(names(11, 16), 50)
    blend = blend_with_prior(method.head(wrong), X, y)
    assert blend.share == 0.0
    assert blend.accuracies[0] > blend.accuracies[-1]
    assert blend.head.score(queries, truth) > 0.9


def test_the_ends_of_the_blend_are_the_heads_themselves(planted):
    attributes, draw = planted
    method = Eszsl().fit(*draw(names(0, 11), 10), attributes)
    prior = method.head({label: attributes[label] for label in names(11, 16)})
    queries, _ = draw(names(11, 16), 20)
    X, y = draw(names(11, 16), 3)
    none = blend_with_prior(prior, X, y, shares=[0.0]).head
    np.testing.assert_array_equal(none.predict(queries), RidgeHead().fit(X, y).predict(queries))
    noisy, labels = draw(names(11, 16), 2, noise=5)
    whole = blend_with_prior(prior, noisy, labels, shares=[1.0])
    assert whole.share == 1.0
    np.testing.assert_array_equal(whole.head.predict(queries), prior.predict(queries))
    one = blend_with_prior(prior, X[::3], y[::3])
    assert (one.share, one.accuracies) == (0.0, ())
    with pytest.raises(ValueError, match="the prior's"):
        blend_with_prior(prior, *draw(names(10, 16), 3))
    with pytest.raises(ValueError, match="between 0 and 1"):
        blend_with_prior(prior, X, y, shares=[2.0])


def test_real_words_place_like_things_near_each_other(assets):
    glove = np.load(assets / "weights/text/glove_twitter_25d_12k.npz")
    texts = {
        "car": "car with wheels and an engine",
        "motorbike": "motorcycle, a bike with wheels and an engine",
        "turtle": "sea turtle, an animal in the ocean",
        "starfish": "sea animal, a fish in the ocean",
        "laptop": "computer with a screen and a keyboard",
    }
    described = embed_texts(texts, glove["words"].tolist(), glove["vectors"])
    place = SeenSpace(described, np.array(list(texts))).seen
    cosines = place @ place.T - 2 * np.eye(5)
    assert cosines.argmax(1)[:4].tolist() == [1, 0, 3, 2]
