"""int8 graphs: weights are those of a quantizer in numpy, and what should stay float does."""

import dataclasses
import logging

import numpy as np
import onnx
import pytest
import torch
from int8_parts import SQUEEZENET, constants, makers, network
from networks import run
from onnx import helper
from safetensors.numpy import load_file
from test_fold import Network as Cifar

from edgetl.errors import EdgetlError
from edgetl.exporter.calibrate import calibrate
from edgetl.exporter.fold import fold_graph
from edgetl.exporter.histogram import METHODS
from edgetl.exporter.prepare import prepare
from edgetl.exporter.quantize import QuantConfig, describe, quantizable, quantize

VARIANTS = [
    QuantConfig(),
    QuantConfig(operators="compute"),
    QuantConfig(per_channel=False),
    QuantConfig(activations="s8"),
    QuantConfig(activations="s8", per_channel=False),
    QuantConfig(seven_bit=True),
    QuantConfig(seven_bit=True, per_channel=False),
    QuantConfig(weights="u8", per_channel=False),
    QuantConfig(weights="u8", per_channel=False, seven_bit=True),
]


@pytest.fixture(scope="module")
def squeezenet(assets, networks_folder):
    return network(SQUEEZENET, assets, networks_folder)


@pytest.fixture(scope="module")
def cifar(assets):
    """The CIFAR ResNet-20 with its true float32 weights, and 64 of the photos it knows."""
    model = prepare(
        fold_graph(Cifar(load_file(assets / "weights/resnet20_cifar10.safetensors")).model())
    )
    pixels = np.load(assets / "data/cifar10_small/cifar10_small.npz")["x_test"][:64]
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    batch = ((pixels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)
    return model, np.ascontiguousarray(batch, np.float32)


def quantized_in_numpy(weight, config, least_scale):
    """Integers and scales of a weight, (out, in, ...); symmetric unless unsigned."""
    flat = weight.reshape(len(weight), -1) if config.per_channel else weight.reshape(1, -1)
    flat = flat.astype(np.float64)
    if config.weights == "s8":
        most = 64 if config.seven_bit else 127
        scale, zero = np.abs(flat).max(axis=1, keepdims=True) / most, 0
        least = -most
    else:
        most, least = (127 if config.seven_bit else 255), 0
        low, high = np.minimum(flat.min(), 0), np.maximum(flat.max(), 0)
        scale = np.array([[(high - low) / most]])
        zero = np.rint(-low / scale)
    if config.per_channel or len(least_scale) == 1:
        scale = np.maximum(scale, least_scale.reshape(-1, 1))
    codes = np.clip(np.rint(flat / scale) + zero, least, most)
    return codes.reshape(weight.shape), scale.reshape(-1)


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_every_kind_runs_with_the_weights_of_numpy(config, squeezenet):
    made = quantize(squeezenet.model, config, ranges=squeezenet.ranges())
    values, sources = constants(made), makers(made)
    exact = constants(squeezenet.model)
    originals = {node.name: node for node in squeezenet.model.graph.node}
    convolutions = [node for node in made.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 25
    for node in convolutions:
        image, weight, bias = (sources[name] for name in node.input)
        assert {image.op_type, weight.op_type, bias.op_type} == {"DequantizeLinear"}
        integers, scale, zero = (values[name] for name in weight.input)
        original = exact[originals[node.name].input[1]]
        # A bias has to fit into 32 bits at the scale of input times weight.
        needed = np.abs(exact[originals[node.name].input[2]]).astype(np.float64)
        needed = 1.0001 * 2 * needed / (2.0**32 - 2) / values[image.input[1]]
        wanted, wanted_scale = quantized_in_numpy(
            original, config, needed if config.per_channel else needed.max(keepdims=True)
        )
        np.testing.assert_allclose(scale.reshape(-1), wanted_scale, rtol=1e-4)
        # Halves may be rounded the other way, as their scale is a float32.
        assert np.abs(integers - wanted).max() <= 1
        assert (integers != wanted).mean() < 1e-3
        if config.weights == "s8":
            assert not zero.any()
        if config.seven_bit:
            assert np.abs(integers.astype(int)).max() <= (64 if config.weights == "s8" else 127)
        bits = values[image.input[2]]
        assert bits.dtype == (np.uint8 if config.activations == "u8" else np.int8)
        if config.activations == "s8":
            assert not bits.any()
    features = squeezenet.features(made)
    wanted = squeezenet.features(squeezenet.model)
    norms = np.linalg.norm(features, axis=1) * np.linalg.norm(wanted, axis=1)
    assert ((features * wanted).sum(axis=1) / norms).min() > 0.97


@pytest.mark.parametrize("method", METHODS)
def test_every_way_of_taking_ranges_gives_a_usable_graph(method, squeezenet):
    made = quantize(squeezenet.model, QuantConfig(method=method), ranges=squeezenet.ranges(method))
    found, wanted = squeezenet.features(made), squeezenet.features(squeezenet.model)
    assert 10 * np.log10((wanted**2).sum() / ((found - wanted) ** 2).sum()) > 18


def test_nodes_kept_float_have_float_weights(squeezenet):
    nodes = [node.name for node in squeezenet.model.graph.node if node.op_type == "Conv"][4:9]
    config = QuantConfig(keep_float=frozenset(nodes))
    made = quantize(squeezenet.model, config, ranges=squeezenet.ranges())
    values, exact = constants(made), constants(squeezenet.model)
    for node in made.graph.node:
        if node.name in nodes:
            for name in node.input[1:]:
                assert values[name].dtype == np.float32
                np.testing.assert_array_equal(values[name], exact[name])
        elif node.op_type == "Conv":
            assert makers(made)[node.input[1]].op_type == "DequantizeLinear"


def test_features_do_not_lie_on_a_grid_of_8_bits(squeezenet):
    made = quantize(squeezenet.model, QuantConfig(), ranges=squeezenet.ranges())
    pool = next(node for node in made.graph.node if node.op_type == "GlobalAveragePool")
    before, features = run(
        made_with(made, pool.input[0]), squeezenet.photos, names=[pool.input[0], "features"]
    )
    assert len(np.unique(before)) <= 256
    assert len(np.unique(features)) > 256 * 4
    operators = [node.op_type for node in made.graph.node]
    assert "QuantizeLinear" not in operators[operators.index("GlobalAveragePool") :]


def made_with(model, *names):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    return copy


@pytest.mark.parametrize(("which", "bits"), [("squeezenet", 8), ("cifar", 7)])
def test_bias_correction_takes_the_mean_error_out(which, bits, request):
    """Each convolution alone, on the inputs that it has in the float graph, by torch."""
    if which == "cifar":
        model, batch = request.getfixturevalue("cifar")
        calibration = calibrate(model, [batch[:32]])
    else:
        squeezenet = request.getfixturevalue("squeezenet")
        model, batch, calibration = (
            squeezenet.model,
            squeezenet.photos[:8],
            squeezenet.calibration,
        )
    config = QuantConfig(per_channel=False, seven_bit=bits == 7)
    arguments = {"ranges": calibration.ranges(), "channel_means": calibration.channel_means}
    plain = quantize(model, config, **arguments)
    corrected = quantize(model, dataclasses.replace(config, bias_correction=True), **arguments)

    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    names = [node.input[0] for node in convolutions]
    inner = sorted({name for name in names if name != "images"})
    found = run(made_with(model, *inner), batch, names=inner)
    inputs = dict(zip(inner, found, strict=True)) | {"images": batch}
    exact = constants(model)
    before, after = [], []
    for node in convolutions:
        wanted = outputs(node, inputs[node.input[0]], *(exact[name] for name in node.input[1:]))
        for made, errors in ((plain, before), (corrected, after)):
            weight, bias = dequantized(made, node.name)
            output = outputs(node, inputs[node.input[0]], weight, bias)
            error = np.abs(output.mean(axis=(0, 2, 3)) - wanted.mean(axis=(0, 2, 3)))
            errors.append(error.mean() / wanted.std())
    # Not all of it: padding makes borders differ, and the samples here are not all the same ones.
    assert np.mean(after) < 0.35 * np.mean(before)
    assert np.mean(np.array(after) < np.array(before)) > 0.9


def outputs(node, image, weight, bias):
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    pads = attributes.get("pads", [0, 0, 0, 0])
    assert pads[:2] == pads[2:]
    return torch.nn.functional.conv2d(
        torch.tensor(image),
        torch.tensor(weight, dtype=torch.float32),
        torch.tensor(bias, dtype=torch.float32),
        stride=attributes.get("strides", [1, 1]),
        padding=pads[:2],
        groups=attributes.get("group", 1),
    ).numpy()


def dequantized(model, name):
    """Weight and bias of a convolution as it sees them."""
    values, sources = constants(model), makers(model)
    node = next(node for node in model.graph.node if node.name == name)
    results = []
    for tensor in node.input[1:]:
        integers, scale, zero = (values[item] for item in sources[tensor].input)
        results.append((integers.astype(np.float64) - zero.astype(np.float64)) * scale)
    return results


def test_corrected_biases_bring_the_features_nearer(cifar):
    model, batch = cifar
    calibration = calibrate(model, [batch[:32]])
    config = QuantConfig(per_channel=False, seven_bit=True)
    arguments = {"ranges": calibration.ranges(), "channel_means": calibration.channel_means}
    wanted = run(model, batch[32:])  # photos that the means do not come from
    shifts = []
    for correction in (False, True):
        made = quantize(model, dataclasses.replace(config, bias_correction=correction), **arguments)
        shifts.append(np.abs((run(made, batch[32:]) - wanted).mean(axis=0)).mean())
    assert shifts[1] < shifts[0]


def test_the_given_graph_and_the_log_stay_as_they_are(squeezenet, caplog):
    before = squeezenet.model.SerializeToString(deterministic=True)
    disabled = logging.root.manager.disable
    with caplog.at_level(logging.DEBUG):
        quantize(squeezenet.model, QuantConfig(), ranges=squeezenet.ranges())
    assert squeezenet.model.SerializeToString(deterministic=True) == before
    assert caplog.records == []
    assert logging.root.manager.disable == disabled


def test_nothing_to_quantize_is_a_mistake(squeezenet):
    every = frozenset(node.name for node in quantizable(squeezenet.model, QuantConfig()))
    with pytest.raises(ValueError, match="every node stays float"):
        quantize(squeezenet.model, QuantConfig(keep_float=every), ranges=squeezenet.ranges())


def test_what_the_quantizer_can_not_do_is_its_error(squeezenet):
    with pytest.raises(EdgetlError, match="quantizer failed \\(u8s8, per-channel, fused, minmax"):
        quantize(squeezenet.model, QuantConfig(), ranges={})


def test_configurations_name_themselves():
    config = QuantConfig(seven_bit=True, bias_correction=True, keep_float=frozenset("ba"))
    assert str(config) == (
        "u8s8, per-channel, 7-bit weights, fused, minmax, bias corrected, 2 nodes in float"
    )
    assert describe(config)["keep_float"] == ["a", "b"]
    assert QuantConfig(**{**describe(config), "keep_float": frozenset("ab")}) == config
