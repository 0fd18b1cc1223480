"""Group-balanced weights and group-DRO: by their definitions, and against a plain solver."""

import numpy as np
import pytest

from edgetl.data import Dataset
from edgetl.heads import SoftmaxHead
from edgetl.transfer.group_balance import GroupBalanced, GroupDro
from edgetl.transfer.group_cells import Cells, balanced_weights
from edgetl.transfer.group_dro import group_dro
from edgetl.transfer.method import HeadTask
from edgetl.transfer.methods import load_method

optimize = pytest.importorskip("scipy.optimize")


def drawn(seed=0, n=600, share=0.1):
    """Two classes; in the small group the strongest feature speaks for the other class."""
    generator = np.random.default_rng(seed)
    small = generator.random(n) < share
    y = generator.integers(0, 2, n)
    X = generator.normal(size=(n, 4))
    X[:, 0] += 3 * (y - 0.5) * np.where(small, -1, 1)
    X[:, 1] += 2 * (y - 0.5)
    X[:, 2] += 2 * small
    return X.astype(np.float32), y, np.where(small, "small", "large")


def cell_losses(head, X, y, cells):
    scores = head.scores(X)
    scores = scores - scores.max(axis=1, keepdims=True)
    loss = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(y)), y]
    return np.array([loss[cells.codes == cell].mean() for cell in range(len(cells.counts))])


def test_every_cell_weighs_the_same():
    _, y, groups = drawn()
    weights = balanced_weights(y, groups)
    assert weights.mean() == pytest.approx(1)
    totals = [
        weights[(groups == group) & (y == label)].sum() for group in set(groups) for label in (0, 1)
    ]
    assert totals == pytest.approx([len(y) / 4] * 4)


def test_small_cells_go_together_by_class():
    y = np.array([0] * 20 + [1] * 20 + [0, 1, 0, 1])
    groups = np.array(["a"] * 40 + ["b", "b", "c", "c"])
    cells = Cells.of(y, groups, min_samples=5)
    assert cells.names == (("a", 0), ("a", 1), (None, 0), (None, 1))
    assert cells.counts.tolist() == [20, 20, 2, 2]
    assert Cells.of(y, groups, min_samples=1).names[-1] == ("c", 1)
    with pytest.raises(ValueError, match="groups of shape"):
        Cells.of(y, groups[:3])


@pytest.mark.parametrize("C", [0.02, 1.0])
def test_dro_finds_the_least_worst_loss(C):
    """Against scipy's SLSQP on the epigraph: the least t that is above every cell's loss."""
    X, y, groups = drawn(n=300)
    found = group_dro(X, y, groups, C=C, min_samples=2)
    cells, n = found.cells, len(y)
    sign = np.where(y == 1, 1.0, -1.0)

    def losses(point):
        # Two classes: coefficients w and -w have a penalty of 2 |w|^2 / (2 C n).
        margins = sign * 2 * (X.astype(np.float64) @ point[:4] + point[4])
        loss = np.logaddexp(0, -margins)
        penalty = float(np.square(point[:4]).sum()) / (C * n)
        return np.bincount(cells.codes, loss) / cells.counts + penalty

    start = np.append(np.zeros(5), 1.0)
    solved = optimize.minimize(
        lambda point: point[5],
        start,
        constraints={"type": "ineq", "fun": lambda point: point[5] - losses(point)},
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-10},
    )
    assert solved.success
    penalty = float(np.square(found.head.coef_).sum()) / (2 * C * n)
    assert found.losses.max() + penalty == pytest.approx(solved.fun, rel=0.02)
    assert found.losses.max() + penalty >= solved.fun - 1e-4
    np.testing.assert_allclose(found.losses, cell_losses(found.head, X, y, cells), rtol=1e-4)
    assert found.shares.sum() == pytest.approx(1) and found.gap <= 0.02 * found.losses.max()
    plain = SoftmaxHead(C=C).fit(X, y)
    assert found.losses.max() < cell_losses(plain, X, y, cells).max() * 0.8


def test_both_methods_mend_the_worst_group_of_new_samples():
    X, y, groups = drawn(seed=1)
    new, truth, where = drawn(seed=2, n=4000)
    task = HeadTask(
        features=X,
        targets=y,
        labels=("no", "yes"),
        samples=Dataset(
            tuple(map(str, range(len(y)))), (b"",) * len(y), y, ("no", "yes"), groups=tuple(groups)
        ),
        network=None,
    )
    small = where == "small"
    plain = SoftmaxHead().fit(X, y).predict(new) == truth
    for method in (GroupBalanced(), GroupDro(C=(0.01, 1.0))):
        task.details.clear()
        selection = method.fit(task)
        right = selection.head.predict(new) == truth
        assert right[small].mean() > plain[small].mean() + 0.2
        assert right.mean() < plain.mean(), "which has its price"
        assert selection.head.temperature_ > 0 and selection.n_held_out == len(y)
        assert sum(cell["share"] for cell in task.details["cells"]) == pytest.approx(1)
        assert {(cell["group"], cell["class"]) for cell in task.details["cells"]} == {
            (group, label) for group in ("small", "large") for label in ("no", "yes")
        }
    assert task.details["gap"] >= 0 and len(task.details["strengths"]) == 2
    with pytest.raises(ValueError, match="fits a softmax head"):
        GroupDro().fit(HeadTask(**{**vars(task), "head": "ridge"}))


def test_options_are_parsed_and_checked():
    assert load_method("group-dro", {"C": "0.1,1", "rounds": "5"}) == GroupDro(
        C=(0.1, 1.0), rounds=5
    )
    for options in ({"C": ""}, {"C": "-1"}, {"rounds": "0"}, {"min_samples": "0"}):
        with pytest.raises(ValueError, match=r"got|or more"):
            load_method("group-dro", options)
    with pytest.raises(ValueError, match="must be positive"):
        group_dro(*drawn(n=50), C=0.0)
