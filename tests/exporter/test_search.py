"""The search decides by what is measured; here a model of costs takes the clock's place."""

import json

import numpy as np
import onnx
import pytest
from cost_model import (
    CALIBRATION,
    FLOAT_MS,
    LAYERS,
    MODEL,
    SAMPLES,
    WIDTH,
    Bench,
    accept,
    in_int8,
    linear,
    refusing,
    wanting,
    weights_of,
)
from networks import run
from onnx import helper, numpy_helper

from edgetl.errors import EdgetlError
from edgetl.exporter import contest as contest_module
from edgetl.exporter import search as search_module
from edgetl.exporter.calibrate import calibrate
from edgetl.exporter.ends import with_uint8_input
from edgetl.exporter.errors_by_node import node_errors
from edgetl.exporter.prepare import prepare
from edgetl.exporter.quantize import QuantConfig, quantize
from edgetl.exporter.search import Candidate, SearchOptions, Verdict, fittest, search_int8
from edgetl.preprocess import Preprocess


@pytest.fixture
def find(monkeypatch):
    def find(cost=linear, judge=accept, rounds=1, chunks=3, **options):
        bench = Bench(cost)
        monkeypatch.setattr(contest_module, "interleaved", bench.interleaved)
        monkeypatch.setattr(contest_module, "_KEPT", 100)  # tests look into the graphs
        monkeypatch.setattr(search_module, "saturates", lambda: False)
        return search_int8(
            MODEL,
            CALIBRATION,
            samples=SAMPLES,
            float_graph=MODEL.SerializeToString(),
            open_engine=bench.open,
            judge=judge,
            options=SearchOptions(rounds=rounds, chunks=chunks, **options),
        )

    return find


def test_the_fastest_kind_is_chosen(find):
    def cost(model):
        signed = next(weights_of(model), (None, np.uint8))[1] == np.int8
        return linear(model) - 3 * signed

    result = find(cost)
    assert result.chosen.config.activations == "s8"
    assert result.chosen.speedup == pytest.approx(FLOAT_MS / (FLOAT_MS - LAYERS - 3))
    assert result.chosen.milliseconds == pytest.approx(FLOAT_MS - LAYERS - 3)
    assert result.float_milliseconds == pytest.approx(FLOAT_MS)
    assert result.chosen.speedup == max(item.speedup for item in result.candidates)
    assert result.chosen in result.candidates
    assert result.reason == "fine"


def test_what_is_as_fast_is_decided_by_the_error(find):
    result = find()
    assert not result.chosen.config.keep_float
    whole = [item for item in result.candidates if not item.config.keep_float]
    assert len(whole) >= 7  # four kinds, and the best of them with other ranges
    best = max(whole, key=lambda item: item.sqnr)
    # Up to the half decibel that a bias correction has to gain.
    assert result.chosen.sqnr >= best.sqnr - 0.5
    uncorrected = [item for item in whole if not item.config.bias_correction]
    assert result.chosen.sqnr >= max(item.sqnr for item in uncorrected)
    # The figures are those of numpy.
    wanted = run(MODEL, SAMPLES)
    found = run(onnx.load_model_from_string(result.chosen.graph), SAMPLES)
    noise = ((wanted.astype(np.float64) - found) ** 2).sum()
    assert result.chosen.sqnr == pytest.approx(
        10 * np.log10((wanted.astype(np.float64) ** 2).sum() / noise), abs=0.05
    )
    cosines = (wanted * found).sum(1) / np.linalg.norm(wanted, axis=1)
    assert result.chosen.cosine == pytest.approx(
        (cosines / np.linalg.norm(found, axis=1)).mean(), abs=1e-5
    )


@pytest.mark.parametrize("slow", [{0}, {2, 4}])
def test_regions_that_are_slow_in_int8_stay_float(find, slow):
    def cost(model):
        return linear(model) + 4 * len(in_int8(model) & slow)

    result = find(cost, chunks=LAYERS, rounds=2)
    left = set(range(LAYERS)) - in_int8(onnx.load_model_from_string(result.chosen.graph))
    assert left == slow
    assert result.chosen.speedup == pytest.approx(FLOAT_MS / (FLOAT_MS - LAYERS + len(slow)))


def test_without_rounds_the_graph_is_taken_as_a_whole(find):
    result = find(lambda model: linear(model) + 4 * (2 in in_int8(model)), rounds=0)
    assert not result.chosen.config.keep_float


def test_only_what_pays_goes_to_int8(find):
    """From a graph of which nearly all is slow in int8, one part after the other goes back."""

    def cost(model):
        fast = in_int8(model) & {2, 3}
        return FLOAT_MS + 0.7 * len(in_int8(model) - fast) - 2 * len(fast)

    result = find(cost, chunks=3, rounds=2)
    assert in_int8(onnx.load_model_from_string(result.chosen.graph)) == {2, 3}


def test_refused_graphs_are_followed_by_ones_with_more_in_float(find):
    judge = wanting(LAYERS - 2)
    result = find(judge=judge)
    assert result.chosen.verdict.reason == "fine"
    layers = [len(in_int8(onnx.load_model_from_string(graph))) for graph in judge.seen]
    assert layers[0] == LAYERS  # and the same with other ranges, which are as fast
    assert layers == sorted(layers, reverse=True)
    assert layers[-1] <= LAYERS - 2 < layers[-2]
    refused = [item for item in result.candidates if item.verdict and not item.verdict.accepted]
    assert {item.graph for item in refused} == set(judge.seen[:-1])
    # Whole regions went back: an activation function never without its convolution.
    for item in (*refused, result.chosen):
        names = item.config.keep_float
        kept = {int(name.removeprefix("relu")) for name in names if name.startswith("relu")}
        assert {f"conv{number}" for number in kept} <= names


def test_a_slower_kind_is_judged_where_the_fastest_is_refused(find):
    def cost(model):  # a scale for each channel costs time
        shapes = {tuple(item.dims) for item in model.graph.initializer if "scale" in item.name}
        return linear(model) + (2 if (WIDTH,) in shapes else 0)

    def judge(graph):
        model = onnx.load_model_from_string(graph)
        shapes = {tuple(item.dims) for item in model.graph.initializer if "scale" in item.name}
        return Verdict(accepted=(WIDTH,) in shapes, accuracy=0.5, reason="channels")

    result = find(cost, judge, rounds=0)
    assert result.chosen.config.per_channel
    assert not next(item for item in result.candidates if item.speedup > 1.35).config.per_channel


def test_graphs_that_were_let_go_are_built_again(find, monkeypatch):
    judge = refusing(2)
    kept = find(judge=judge)
    monkeypatch.setattr(contest_module, "_KEPT", 1)
    again = refusing(2)
    bench = Bench(linear)
    monkeypatch.setattr(contest_module, "interleaved", bench.interleaved)
    result = search_int8(
        MODEL,
        CALIBRATION,
        samples=SAMPLES,
        float_graph=MODEL.SerializeToString(),
        open_engine=bench.open,
        judge=again,
        options=SearchOptions(rounds=1, chunks=3),
    )
    assert sum(bool(item.graph) for item in result.candidates) <= 2 + len(again.seen)
    assert again.seen == judge.seen
    assert result.chosen.graph == kept.chosen.graph


def test_features_that_are_not_finite_lose(find, monkeypatch):
    real = contest_module.quantize

    def broken(model, config, **more):
        made = real(model, config, **more)
        if config.per_channel:
            scale = next(item for item in made.graph.initializer if item.name.endswith("_scale"))
            values = np.full_like(numpy_helper.to_array(scale), np.nan)
            scale.CopyFrom(numpy_helper.from_array(values, scale.name))
        return made

    monkeypatch.setattr(contest_module, "quantize", broken)
    assert not find().chosen.config.per_channel


def test_nothing_accurate_enough_is_said_with_the_last_verdict(find):
    judge = refusing(100)
    result = find(judge=judge)
    assert result.chosen is None
    assert result.reason == (
        f"no int8 graph is accurate enough: lost too much, number {len(judge.seen)}"
    )
    assert 2 <= len(judge.seen) <= 8
    verdicts = [item.verdict for item in result.candidates if item.verdict]
    assert len(verdicts) == len(judge.seen)


def test_int8_is_never_slower_unless_that_is_allowed(find):
    def cost(model):
        return FLOAT_MS + 1 + 0.1 * len(in_int8(model))

    judge = refusing(0)
    result = find(cost, judge)
    assert result.chosen is None
    assert result.reason.startswith("the fastest int8 graph runs at 0.9")
    assert "accurate" not in result.reason
    assert judge.seen == []
    assert len(result.candidates) > 10
    assert all(item.speedup < 1 for item in result.candidates)
    allowed = find(cost, judge, allow_slower=True)
    assert allowed.chosen.speedup < 1
    assert allowed.chosen.verdict.accepted


def test_a_refused_fast_graph_with_slow_successors_tells_both(find):
    def cost(model):
        return FLOAT_MS - 5 if len(in_int8(model)) == LAYERS else FLOAT_MS * 2

    judge = wanting(LAYERS - 1)
    result = find(cost, judge)
    assert result.chosen is None
    assert len(judge.seen) >= 1
    assert f"accurate enough (lost too much, number {len(judge.seen)})" in result.reason
    assert "0.50 times the speed of float32" in result.reason
    slower = find(cost, wanting(LAYERS - 1), allow_slower=True)
    assert slower.chosen.speedup == pytest.approx(0.5)


def test_portable_graphs_have_weights_of_seven_bits(find):
    result = find(portable=True)
    config = result.chosen.config
    assert config.seven_bit or config.weights == "u8"  # whose kernels do not overflow
    kinds = set()
    for item in result.candidates:
        for integers, activations in weights_of(onnx.load_model_from_string(item.graph)):
            kinds.add((integers.dtype.name, activations.name))
            if integers.dtype == np.int8:  # onnxruntime may turn s8 activations into u8
                assert np.abs(integers.astype(int)).max() <= 64
    assert kinds == {("int8", "uint8"), ("int8", "int8"), ("uint8", "uint8")}
    used = [
        np.abs(integers.astype(int)).max()
        for integers, _ in weights_of(onnx.load_model_from_string(find().chosen.graph))
    ]
    assert max(used) == 127


def test_what_can_not_be_quantized_is_passed_over(find, monkeypatch):
    def picky(model, config, **more):
        if config.per_channel:
            raise EdgetlError(f"no kernel for {config}")
        return quantize(model, config, **more)

    monkeypatch.setattr(contest_module, "quantize", picky)
    assert not find().chosen.config.per_channel

    def never(model, config, **more):
        raise EdgetlError(f"no kernel for {config.activations}{config.weights}")

    monkeypatch.setattr(contest_module, "quantize", never)
    with pytest.raises(EdgetlError, match=r"no int8 graph could be made.*u8s8.*s8s8"):
        find()


def candidate(speedup, sqnr):
    return Candidate(
        config=QuantConfig(),
        size=0,
        graph=b"",
        milliseconds=1 / speedup,
        speedup=speedup,
        cosine=1.0,
        sqnr=sqnr,
    )


@pytest.mark.parametrize(
    ("figures", "best"),
    [
        ([(2.0, 20), (1.5, 40)], 0),
        ([(2.0, 20), (1.95, 40)], 1),
        ([(2.0, 20), (1.901, 30), (1.95, 25)], 1),
        ([(1.02, 20), (0.99, 40)], 0),  # as fast within the noise, but slower than float
        ([(1.02, 20), (1.0, 40)], 1),
        ([(0.9, 20), (0.88, 40)], 1),
    ],
)
def test_ties(figures, best):
    found = [candidate(*pair) for pair in figures]
    assert fittest(found) is found[best]


def test_rows_of_the_table_are_plain_json(find):
    result = find()
    rows = [item.to_json() for item in result.candidates]
    assert json.loads(json.dumps(rows)) == rows
    assert {row["verdict"] for row in rows} == {None, "fine"}
    (row,) = (row for row in rows if row["verdict"])
    assert row["accuracy"] == 0.9
    assert row["mb"] == len(result.chosen.graph) / 1e6


def test_errors_of_tensors_are_those_of_numpy(find):
    result = find()
    assert list(result.node_errors.values()) == sorted(result.node_errors.values())
    assert set(result.node_errors) <= {name for node in MODEL.graph.node for name in node.output}
    assert len(result.node_errors) == LAYERS
    graph = onnx.load_model_from_string(result.chosen.graph)
    last = f"r{LAYERS - 1}"
    (pool,) = (node for node in graph.graph.node if node.op_type == "GlobalAveragePool")
    both = []
    for model, name in ((MODEL, last), (graph, pool.input[0])):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        copy.graph.output.append(helper.make_empty_tensor_value_info(name))
        both.append(run(copy, SAMPLES[:4], names=[name], optimize=False)[0].astype(np.float64))
    wanted = 10 * np.log10((both[0] ** 2).sum() / ((both[0] - both[1]) ** 2).sum())
    assert result.node_errors[last] == pytest.approx(wanted, abs=0.05)


def test_errors_of_a_graph_of_bytes():
    preprocess = Preprocess(size=16, resize=16)
    model, _ = with_uint8_input(MODEL, preprocess)
    model = prepare(model)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    ranges = calibrate(model, [pixels]).ranges()
    graph = quantize(model, QuantConfig(), ranges=ranges).SerializeToString()
    found = node_errors(model, graph, pixels[:4])
    assert {f"r{number}" for number in range(LAYERS)} <= set(found)
    assert min(found.values()) > 10
    nothing = node_errors(model, model.SerializeToString(), pixels)
    assert nothing == {}
