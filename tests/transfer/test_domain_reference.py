"""Agreement with the package `adapt`, whose figures `domain_reference.py` wrote."""

from pathlib import Path

import numpy as np
import pytest

from edgetl.transfer.coral import CoralMap
from edgetl.transfer.mmd import mmd2
from edgetl.transfer.subspace_alignment import SubspaceMap

RIDGE, AXES, GAMMA = 0.05, 3, 0.25
WEIGHT, RATE = 0.7, 0.1
"""As in `domain_reference.py`."""


@pytest.fixture(scope="module")
def reference():
    with np.load(Path(__file__).with_name("domain_reference.npz")) as file:
        return dict(file)


def test_coral(reference):
    source, target = reference["source"], reference["target"]
    moved = CoralMap(source, target, ridge=RIDGE, center=False)(source)
    np.testing.assert_allclose(moved, reference["coral"], rtol=0, atol=1e-10)


def test_subspace_alignment_up_to_the_signs_of_axes(reference):
    source, target = reference["source"], reference["target"]
    found = SubspaceMap(source, target, axes=AXES)
    ours, theirs = found.of_target(target), reference["subspace_target"]
    signs = np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours * signs, theirs, rtol=0, atol=1e-10)
    moved = found.of_source(source) * signs
    np.testing.assert_allclose(moved, reference["subspace_source"], rtol=0, atol=1e-10)


def test_mmd(reference):
    found = mmd2(reference["source"], reference["target"], widths=[1 / GAMMA], unbiased=False)
    assert found == pytest.approx(float(reference["mmd"]), abs=1e-12)


def test_one_step_of_dann(reference):
    torch = pytest.importorskip("torch")
    from edgetl.transfer.dann import discriminator, domain_loss
    from edgetl.transfer.domain_training import LinearNetwork, adapted_loss, descend

    before = {name.removeprefix("before_"): reference[name] for name in reference}
    network = LinearNetwork(before["task_w"].T.astype(float), before["task_b"].astype(float))
    judge = discriminator(5, 6, seed=0)
    layers = {
        "encoder": network.encoder,
        "task": network.classifier,
        "judge": judge[0],
        "out": judge[2],
    }
    with torch.no_grad():
        for name, layer in layers.items():
            layer.weight.copy_(torch.from_numpy(before[f"{name}_w"].T.copy()))
            layer.bias.copy_(torch.from_numpy(before[f"{name}_b"]))
    optimiser = torch.optim.SGD([*network.parameters(), *judge.parameters()], lr=RATE)
    source = torch.from_numpy(reference["source"][:30].astype(np.float32))
    target = torch.from_numpy(reference["target"].astype(np.float32))
    loss = adapted_loss(
        network,
        (source, torch.from_numpy(reference["codes"][:30]), target),
        lambda step: domain_loss(judge, step.source, step.target, WEIGHT),
        progress=0.0,
    )
    descend(loss, optimiser)
    # `adapt` adds 1.2e-7 inside its logarithms of chances, some of which are below 0.01 here.
    for name, layer in layers.items():
        moved = np.abs(reference[f"after_{name}_w"] - reference[f"before_{name}_w"]).max()
        assert moved > 1e-3, "the reference's step must be one"
        np.testing.assert_allclose(
            layer.weight.detach().numpy().T, reference[f"after_{name}_w"], rtol=0, atol=1e-5
        )
        np.testing.assert_allclose(
            layer.bias.detach().numpy(), reference[f"after_{name}_b"], rtol=0, atol=1e-5
        )
