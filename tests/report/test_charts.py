"""Charts against independent figures: scikit-learn's calibration curve, and plain arithmetic."""

import numpy as np
import pytest
from report_kit import Reader
from sklearn.calibration import calibration_curve

from edgetl.data import Dataset
from edgetl.evaluate.metrics import expected_calibration_error
from edgetl.preprocess import Preprocess
from edgetl.report.answers import Answers
from edgetl.report.charts import Contender, contest, reliability
from edgetl.report.draw import Line, Scale, forest, strip_scale
from edgetl.report.tables import heat_map, shade


def answers(n=400, classes=3, seed=0):
    generator = np.random.default_rng(seed)
    scores = generator.normal(0, 2, (n, classes))
    chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    targets = np.array([generator.choice(classes, p=row) for row in chances])
    samples = Dataset(
        names=tuple(f"{i:03d}.png" for i in range(n)),
        sources=(b"",) * n,
        targets=targets,
        labels=tuple("abcdefgh"[:classes]),
    )
    return Answers(
        samples=samples,
        probabilities=chances,
        place="nowhere",
        recorded=True,
        trained=0,
        skipped=0,
        engine="none",
        preprocess=Preprocess(),
    )


def test_bins_are_those_of_scikit_learn_and_give_the_error():
    found = answers()
    bins = found.bins()
    share, confidence = calibration_curve(found.right, found.confidence, n_bins=15)
    np.testing.assert_allclose([item.accuracy for item in bins], share)
    np.testing.assert_allclose([item.confidence for item in bins], confidence)
    assert sum(item.n for item in bins) == 400
    gap = sum(item.n * abs(item.accuracy - item.confidence) for item in bins) / 400
    assert gap == pytest.approx(found.ece)
    assert found.ece == expected_calibration_error(found.confidence, found.right)


def test_the_reliability_diagram_has_every_bin_in_its_place():
    bins = answers().bins()
    page = Reader(reliability(bins, label="about it"))
    (svg,) = page.all("svg")
    assert svg["role"] == "img" and svg["aria-label"] == "about it"
    dots = page.all("circle")
    across, up = Scale(0, 1, 44, 368), Scale(0, 1, 262, 12)
    for dot, item in zip(dots, bins, strict=True):
        assert float(dot["cx"]) == pytest.approx(across(item.confidence), abs=0.01)
        assert float(dot["cy"]) == pytest.approx(up(item.accuracy), abs=0.01)
    heights = np.array([float(bar["height"]) for bar in page.all("rect")])
    counts = np.array([item.n for item in bins])
    np.testing.assert_allclose(heights / heights.max(), counts / counts.max(), atol=1e-3)


def test_the_worst_come_first_and_ties_go_by_name():
    found = answers(50)
    wrong = found.worst(100)
    assert not found.right[wrong].any() and len(wrong) == int((~found.right).sum())
    assert list(found.confidence[wrong]) == sorted(found.confidence[wrong], reverse=True)
    hardest = found.hardest(5)
    assert found.right[hardest].all() and found.worst(2) == wrong[:2]
    assert list(found.confidence[hardest]) == sorted(found.confidence[found.right])[:5]
    even = answers(6)
    same = np.tile([[0.5, 0.3, 0.2]], (6, 1))
    even = Answers(**{**vars(even), "probabilities": same, "samples": even.samples})
    names = [even.samples.names[i] for i in even.worst(6)]
    assert names == sorted(names)


def test_scales_and_ticks():
    assert Scale(0, 1, 0, 100).ticks() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert Scale(-0.07, 0.8, 0, 1).ticks() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert Scale(1.5, 60, 0, 1, log=True).ticks() == [2, 5, 10, 20, 50]
    assert Scale(1, 100, 0, 200, log=True)(10) == pytest.approx(100)
    assert Scale(0, 1, 0, 100)(7) == 100 and Scale(0, 1, 0, 100)(-7) == 0
    many = Scale(1e-3, 1e4, 0, 1, log=True).ticks()
    assert 3 <= len(many) <= 6


def test_a_forest_puts_figures_on_one_scale():
    lines = [
        Line(label="a", note="10", value=0.1, low=0.05, high=0.3),
        Line(label="b", note="-20", value=-0.2),
    ]
    page = Reader(forest(lines, strip_scale(-0.5, 0.5), unit="points", zero=0.0))
    dots = [circle["cx"] for circle in page.all("circle")]
    assert dots == ["59.70%", "30.60%"]
    ranges = [line for line in page.all("line") if line["class"] == "range"]
    assert [(line["x1"], line["x2"]) for line in ranges] == [("54.85%", "79.10%")]
    zeros = [line["x1"] for line in page.all("line") if line["class"] == "zero"]
    assert zeros == ["50.00%", "50.00%"]
    assert "\u221240" in page.text and page.text.endswith("points")


@pytest.mark.parametrize("slowest", [3.0, 90.0])
def test_the_contest_joins_the_pareto_set(slowest):
    def one(mark, accuracy, ms, pareto):
        return Contender(
            mark=mark,
            name=f"net {mark}",
            accuracy=accuracy,
            low=accuracy - 0.05,
            high=accuracy + 0.02,
            milliseconds=ms,
            fast=ms * 0.9,
            slow=ms * 1.2,
            pareto=pareto,
            recommended=mark == "1",
        )

    rivals = [one("1", 0.95, 2.0, True), one("2", 0.8, 1.0, True), one("3", 0.7, slowest, False)]
    page = Reader(contest(rivals, budget=2.5, label="x"))
    (front,) = page.all("polyline")
    points = [circle for circle in page.all("circle") if circle["class"] == "point"]
    places = {p["cx"]: p["cy"] for p in points}
    assert len(places) == 3
    ends = [tuple(map(float, pair.split(","))) for pair in front["points"].split()]
    assert [round(x) for x, _ in ends] == [round(float(points[i]["cx"])) for i in (1, 0)]
    assert len([c for c in page.all("circle") if c["class"] == "halo"]) == 1
    assert "at most 2.5 ms" in page.text
    heights = [float(point["cy"]) for point in points]
    assert heights == sorted(heights)  # the more accurate, the higher up
    for point in points:
        assert 44 <= float(point["cx"]) <= 368 and 12 <= float(point["cy"]) <= 268


def test_shades_grow_with_the_share():
    assert shade(0, 50, "right") is None and shade(3, 0, "wrong") is None
    assert shade(50, 50, "right") == "right7" and shade(1, 50, "right") == "right1"
    assert [shade(n, 100, "wrong") for n in (1, 4, 25, 100)] == [
        "wrong1",
        "wrong2",
        "wrong4",
        "wrong7",
    ]
    page = Reader(heat_map(["a", "b"], [[3, 1], [0, 4]], "which is which"))
    assert [cell.get("class") for cell in page.all("td")] == [
        *("right6", "wrong4", "sum"),
        *(None, "right7", "sum"),
    ]
