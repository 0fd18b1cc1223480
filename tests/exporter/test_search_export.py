"""The search within an export to ONNX Runtime, and what it says when nothing will do."""

import json

import numpy as np
import pytest
from cost_model import (
    FLOAT_MS,
    MODEL,
    WIDTH,
    Bench,
    accept,
    in_int8,
    linear,
    refusing,
)

from edgetl.engines import OrtEngine
from edgetl.errors import AccuracyError, BudgetError
from edgetl.exporter import contest as contest_module
from edgetl.exporter.artefact import (
    Artefact,
    GraphOptions,
    Sources,
    build_for_onnxruntime,
)
from edgetl.exporter.search import SearchOptions
from edgetl.preprocess import Preprocess
from edgetl.targets import OnnxRuntime


def build(find_cost, judge, monkeypatch, **options):
    """The step of the export around the search, on photos."""
    bench = Bench(find_cost)
    monkeypatch.setattr(contest_module, "interleaved", bench.interleaved)
    monkeypatch.setattr(
        "edgetl.exporter.artefact.OrtEngine",
        lambda graph, **more: _Spy(bench, graph, **more),
    )
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 256, (24, 24, 3), dtype=np.uint8) for _ in range(6)]
    preprocess = Preprocess(size=16, resize=16)
    twin = Artefact(model=MODEL, preprocess=preprocess, dim=WIDTH, precision="fp32")
    return build_for_onnxruntime(
        twin,
        OnnxRuntime(precision="int8"),
        sources=Sources(calibration=photos, compared=photos),
        judge=lambda _: judge,
        options=GraphOptions(search=SearchOptions(rounds=1, chunks=3, **options)),
    )


class _Spy(OrtEngine):
    def __init__(self, bench, graph, **more):
        super().__init__(graph, **more)
        self.bench, self.bytes = bench, graph

    def __call__(self, batch):
        self.bench.last = self.bytes
        return super().__call__(batch)


def test_an_export_without_a_fast_graph_shows_what_was_tried(monkeypatch):
    with pytest.raises(BudgetError) as caught:
        build(lambda model: FLOAT_MS * 2, accept, monkeypatch)
    assert caught.value.exit_code == 6
    lines = str(caught.value).splitlines()
    assert lines[0] == (
        "the fastest int8 graph runs at 0.50 times the speed of float32; this was tried:"
    )
    assert lines[1].split() == ["ms", "speed", "cosine", "dB", "MB", "configuration"]
    assert lines[2].split()[:2] == ["20.00", "1.00"]
    assert sum("40.00" in line and "u8s8" in line for line in lines[3:]) >= 3
    made = build(lambda model: FLOAT_MS * 2, accept, monkeypatch, allow_slower=True)
    assert made.precision == "int8"
    assert made.search["float_ms"] == pytest.approx(FLOAT_MS)
    assert made.search["calibration_images"] == 6
    assert json.loads(json.dumps(made.search)) == made.search
    assert in_int8(made.model)


def test_an_export_without_an_accurate_graph_has_its_own_error(monkeypatch):
    with pytest.raises(AccuracyError, match=r"lost too much, number \d; this was tried") as caught:
        build(linear, refusing(100), monkeypatch)
    assert caught.value.exit_code == 5
    assert "; lost too much, number 1" in str(caught.value)
