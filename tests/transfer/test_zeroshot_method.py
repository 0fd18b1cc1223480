"""Methods few and zeroshot behind the seam, on features."""

from types import SimpleNamespace

import numpy as np
import pytest

from edgetl.errors import DataError
from edgetl.heads import HEADS, PrototypeHead, RidgeHead, SoftmaxHead, load_head
from edgetl.transfer.few import Few
from edgetl.transfer.fewshot import choose_few
from edgetl.transfer.method import HeadTask, NetworkTask
from edgetl.transfer.prior_blend import blend_with_prior
from edgetl.transfer.prompts import zero_shot_head
from edgetl.transfer.zeroshot_method import Zeroshot

DIM, CLASSES, SCALE = 24, 5, 30.0


class Tower:
    """Embeds a class's name near what its photos are embedded as."""

    fingerprint, scale = "of a made-up tower", SCALE

    def __init__(self, directions):
        self.directions = directions
        self.seen = []

    def check(self, texts):
        self.seen += texts

    def embed(self, texts):
        places = [next(i for i in range(CLASSES) if f"thing {i}" in text) for text in texts]
        return self.directions[places].astype(np.float32)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def made(shots, *, off=1.2, spread=1.2, seed=0):
    """A task with a pair whose words are `off` from its photos; queries and their classes."""
    generator = np.random.default_rng(seed)
    middles = generator.normal(size=(CLASSES, DIM))

    def draw(count):
        y = np.repeat(np.arange(CLASSES), count)
        return unit(middles[y] + spread * generator.normal(size=(len(y), DIM))), y

    X, y = draw(shots)
    tower = Tower(unit(middles + off * generator.normal(size=middles.shape)))
    network = SimpleNamespace(name="pair", text_tower=tower)
    labels = tuple(f"thing_{i}" for i in range(CLASSES))
    task = HeadTask(features=X, targets=y, labels=labels, samples=None, network=network)
    return task, *draw(60)


def test_words_alone_are_the_pairs_classifier():
    task, queries, _ = made(3)
    selection = Zeroshot(templates=("a {}", "the {}")).fit(task)
    tower = task.network.text_tower
    expected = zero_shot_head(tower.directions, scale=SCALE)
    np.testing.assert_allclose(
        selection.head.predict_proba(queries), expected.predict_proba(queries), atol=1e-5
    )
    assert type(selection.head) is SoftmaxHead
    (row,) = selection.candidates
    assert row.accuracy == expected.score(task.features, task.targets)
    probabilities = expected.predict_proba(task.features)
    own = probabilities[np.arange(len(task.targets)), task.targets]
    assert row.log_loss == pytest.approx(-np.log(own).mean(), rel=1e-5)
    assert selection.n_held_out == len(task.targets)
    assert task.details["scale"] == SCALE
    assert task.details["sentences"]["thing_0"] == ["a thing 0", "the thing 0"]
    assert len(tower.seen) == 2 * CLASSES


def test_the_blend_beats_words_and_photos():
    gains, over = [], []
    for seed in range(8):
        task, queries, truth = made(4, off=0.9, seed=seed)
        selection = Zeroshot(blend=True).fit(task)
        words = Zeroshot().fit(task).head.score(queries, truth)
        photos = RidgeHead().fit(task.features, task.targets).score(queries, truth)
        both = selection.head.score(queries, truth)
        gains.append(both - words)
        over.append(both - photos)
        chosen = [row for row in selection.candidates if row.chosen]
        assert [row.parameters["share"] for row in chosen] == [task.details["share"]]
        stored = load_head(selection.head.kind, selection.head.arrays())
        np.testing.assert_allclose(
            stored.predict_proba(queries), selection.head.predict_proba(queries), atol=1e-4
        )
        losses = [row.log_loss for row in selection.candidates[1:]]
        assert chosen[0].log_loss == min(losses)
        if task.details["share"] > 0:  # ridge alone is on its own scale
            assert chosen[0].temperature == pytest.approx(selection.head.temperature_)
        assert selection.hits.mean() == chosen[0].accuracy
    assert np.mean(gains) > 0.02 and np.mean(over) > 0.02


def test_the_blend_is_that_of_prior_blend():
    task, queries, _ = made(4)
    selection = Zeroshot(blend=True).fit(task)
    prior = zero_shot_head(task.network.text_tower.directions, scale=SCALE)
    expected = blend_with_prior(prior, task.features, task.targets, errors=0).head
    np.testing.assert_allclose(
        selection.head.predict_proba(queries), expected.predict_proba(queries), atol=1e-5
    )


def test_with_one_photo_per_class_words_stand_alone():
    task, queries, _ = made(1)
    selection = Zeroshot(blend=True).fit(task)
    assert "can't be judged" in selection.reason
    np.testing.assert_array_equal(
        selection.head.predict(queries), Zeroshot().fit(task).head.predict(queries)
    )


def test_a_backbone_without_words_is_refused_before_any_work():
    network = SimpleNamespace(name="mobilenetv2_100")
    train = SimpleNamespace(labels=("a", "b"))
    with pytest.raises(ValueError, match=r"mobilenetv2_100 has no text tower.*vectors=FILE\.npz"):
        Zeroshot().network(NetworkTask(network=network, train=train))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"templates": ("photo",)}, r"needs \{\}"),
        ({"vectors": "x.npz"}, "vectors and unseen go together"),
        ({"unseen": ("a",)}, "vectors and unseen go together"),
        ({"vectors": "x.npz", "unseen": ("a",), "blend": True}, "blend goes with"),
    ],
)
def test_options_that_contradict_each_other(options, message):
    with pytest.raises(ValueError, match=message):
        Zeroshot(**options)


@pytest.fixture
def carried(tmp_path):
    """Classes whose photos follow their words' vectors; word vectors on disk."""
    generator = np.random.default_rng(1)
    labels = tuple(f"word{letter}" for letter in "abcdefghijkl")
    vectors = generator.normal(size=(len(labels), 6))
    np.savez(tmp_path / "words.npz", words=np.array(labels), vectors=vectors.astype(np.float32))
    turn = generator.normal(size=(6, DIM))

    def draw(count):
        y = np.repeat(np.arange(len(labels)), count)
        noise = 0.3 * generator.normal(size=(len(y), DIM))
        return (vectors[y] @ turn + noise).astype(np.float32), y

    X, y = draw(8)
    network = SimpleNamespace(name="any", text_tower=None)
    task = HeadTask(features=X, targets=y, labels=labels, samples=None, network=network)
    return task, *draw(30), str(tmp_path / "words.npz")


def test_word_vectors_carry_over_to_classes_without_photos(carried):
    task, queries, truth, vectors = carried
    unseen = ("wordb", "wordk")
    selection = Zeroshot(vectors=vectors, unseen=unseen).fit(task)
    codes = [task.labels.index(label) for label in unseen]
    new = np.isin(truth, codes)
    answers = selection.head.predict(queries)
    assert np.mean(answers[new] == truth[new]) > 0.5, "chance is 1 in 12"
    assert np.mean(answers[~new] == truth[~new]) > 0.5
    assert task.details["training photos not looked at"] == 16
    # What the unseen classes' training photos show does not matter.
    features = task.features.copy()
    features[np.isin(task.targets, codes)] = 100
    other = HeadTask(**{**vars(task), "features": features, "details": {}})
    same = Zeroshot(vectors=vectors, unseen=unseen).fit(other)
    np.testing.assert_array_equal(same.head.predict(queries), answers)


def test_unfit_word_vectors_and_classes(carried, tmp_path):
    task, _, _, vectors = carried
    train = SimpleNamespace(labels=task.labels)
    around = NetworkTask(network=task.network, train=train)
    with pytest.raises(ValueError, match=r"unseen classes must be among.*okapi are not"):
        Zeroshot(vectors=vectors, unseen=("okapi",)).network(around)
    with pytest.raises(ValueError, match="at least 4 seen classes"):
        Zeroshot(vectors=vectors, unseen=task.labels[3:]).network(around)
    with pytest.raises(DataError, match="can't be read"):
        Zeroshot(vectors=str(tmp_path / "none.npz"), unseen=("worda",)).network(around)
    around.train.labels = (*task.labels, "okapi")
    with pytest.raises(DataError, match=r"'okapi' has a vector.*--prompts FILE"):
        Zeroshot(vectors=vectors, unseen=("worda",)).network(around)
    np.savez(tmp_path / "other.npz", numbers=np.zeros(3))
    with pytest.raises(DataError, match="must hold words and vectors"):
        Zeroshot(vectors=str(tmp_path / "other.npz"), unseen=("worda",)).network(around)


def test_few_gives_what_the_choice_gives(make_clusters):
    X, y, queries, _ = make_clusters(4, 4)
    labels = tuple("abcd")
    task = HeadTask(features=X, targets=y, labels=labels, samples=None, network=None, seed=3)
    selection, choice = Few().fit(task), choose_few(X, y, seed=3)
    np.testing.assert_array_equal(
        selection.head.predict_proba(queries), choice.head.predict_proba(queries)
    )
    assert task.details == {"chosen": choice.method}
    assert [row.kind for row in selection.candidates] == [one.method for one in choice.candidates]
    assert selection.hits.mean() == next(row.accuracy for row in selection.candidates if row.chosen)
    assert selection.n_held_out == 16
    assert type(selection.head) in HEADS.values()


def test_few_takes_the_head_it_is_told(make_clusters):
    X, y, _, _ = make_clusters(3, 3)
    task = {"features": X, "targets": y, "labels": tuple("abc"), "samples": None, "network": None}
    assert type(Few().fit(HeadTask(**task, head="ridge")).head) is RidgeHead
    assert type(Few(methods=("prototype",)).fit(HeadTask(**task)).head) is PrototypeHead
    for head in ("knn", RidgeHead()):
        with pytest.raises(ValueError, match="method few chooses among"):
            Few().fit(HeadTask(**task, head=head))
    with pytest.raises(ValueError, match="methods must be some of"):
        Few(methods=("magic",))
