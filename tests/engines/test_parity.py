"""An engine that disagrees with the reference is refused."""

import numpy as np
import pytest

from edgetl.engines import OrtEngine, check_parity, cosines
from edgetl.errors import ParityError


def changed(engine, change):
    return lambda batch: change(engine(batch))


def test_an_engine_that_agrees(graph, reference, batch):
    smallest = check_parity(OrtEngine(graph, dim=6), batch, reference(batch), what="ort")
    assert 0.999999 < smallest <= 1 + 1e-9


def swap_rows(features):
    return features[::-1]


def one_wrong(features):
    features[3, 0] += 1
    return features


def one_nan(features):
    features[2, 1] = np.nan
    return features


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda features: features * 1.02, "5 of 5 samples .*lengths differ by up to 2.00%"),
        (one_wrong, "1 of 5 samples disagree; smallest cosine 0"),
        (swap_rows, "4 of 5 samples disagree"),
        (np.zeros_like, "5 of 5 samples disagree; smallest cosine 0.0"),
        (one_nan, "features of 1 of 5 samples are not finite"),
        (lambda features: features[:, :4], r"shape \(5, 4\), expected \(5, 6\)"),
    ],
)  # fmt: skip
def test_an_engine_that_disagrees(graph, reference, batch, change, message):
    engine = changed(OrtEngine(graph, dim=6), change)
    with pytest.raises(ParityError, match=f"ort against numpy: .*{message}") as caught:
        check_parity(engine, batch, reference(batch), what="ort against numpy")
    assert caught.value.exit_code == 4


def test_a_looser_tolerance(graph, reference, batch):
    engine = changed(OrtEngine(graph, dim=6), lambda features: features * 1.02)
    assert check_parity(engine, batch, reference(batch), min_cosine=0.999, what="bf16") > 0.999


def test_a_broken_reference(graph, batch):
    with pytest.raises(ParityError, match="the reference's features of 5 of 5"):
        check_parity(
            OrtEngine(graph, dim=6), batch, np.full((5, 6), np.inf, np.float32), what="ort"
        )


def test_nothing_to_compare(graph, reference, batch):
    with pytest.raises(ValueError, match="at least one sample"):
        check_parity(OrtEngine(graph, dim=6), batch[:0], reference(batch[:0]), what="ort")


def test_cosines_of_zero_rows():
    rows = np.array([[0, 0], [3, 4], [0, 0]], np.float32)
    others = np.array([[0, 0], [6, 8], [1, 0]], np.float32)
    np.testing.assert_allclose(cosines(rows, others), [1, 1, 0])
