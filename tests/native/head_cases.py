"""What the tests of the head kernels share: sizes, arrays, and what is not finite."""

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# The fixtures only choose an instruction set, once per test.
SHAPES = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SIZES = st.tuples(st.integers(0, 9), st.integers(1, 70), st.integers(1, 12), st.integers(0, 2**31))
BAD = [np.nan, np.inf, -np.inf]


def linear(n, dim, classes, seed, *, kind=np.float64):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, dim), dtype=np.float32)
    return features, rng.standard_normal((classes, dim)).astype(kind), rng.standard_normal(classes)
