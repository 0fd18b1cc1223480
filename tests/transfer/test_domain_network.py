"""AdaBN and stages trained on both domains, on tiny torch networks."""

import numpy as np
import pytest
import torch
from torch import nn

from edgetl.transfer.adabn import adapt_batchnorm
from edgetl.transfer.domain_network import StageTraining, train_stages, unfreeze


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 4, 1),
        nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ).eval()


def photos(n, *, seed=0, shift=0.0):
    """Photos (n, 3, 6, 6) of two colours, and their classes."""
    generator = np.random.default_rng(seed)
    codes = np.arange(n) % 2
    X = generator.normal(size=(n, 3, 6, 6)) * 0.5 + shift
    X[:, 0] += np.where(codes, 1, -1)[:, None, None]
    return X.astype(np.float32), codes


def test_adabn_has_the_targets_statistics():
    module, (target, _) = network(), photos(24, shift=2.0)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    whole = adapt_batchnorm(module, [target])
    with torch.no_grad():
        first = module[0](torch.from_numpy(target)).double()
        mean, variance = first.mean((0, 2, 3)), first.var((0, 2, 3))
        np.testing.assert_allclose(whole[1].running_mean, mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(whole[1].running_var, variance, rtol=1e-5)
        # Of one batch, the second layer saw what the adapted first one gives, but for n / (n - 1).
        second = module[3](whole[1](module[0](torch.from_numpy(target))).relu()).double()
        np.testing.assert_allclose(whole[4].running_mean, second.mean((0, 2, 3)), atol=2e-3)
        np.testing.assert_allclose(whole[4].running_var, second.var((0, 2, 3)), rtol=1e-2)
    parts = adapt_batchnorm(module, [target[:8], target[8:18], target[18:]])
    np.testing.assert_allclose(parts[1].running_mean, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(parts[1].running_var, variance, rtol=1e-5)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} of the given network changed"
    for name, value in whole.named_parameters():
        assert torch.equal(value, before[name]), f"{name} was trained"
    assert not any(layer.training for layer in whole.modules())
    assert whole[1].momentum == module[1].momentum
    half = adapt_batchnorm(module, [target], share=0.5)
    np.testing.assert_allclose(half[1].running_mean, mean / 2, rtol=1e-5, atol=1e-6)


def test_adabn_takes_out_a_shift_of_its_input():
    module, (source, _), (target, _) = network(), photos(40), photos(40, shift=3.0)
    ours, theirs = adapt_batchnorm(module, [source]), adapt_batchnorm(module, [target])
    with torch.no_grad():
        # The same photos but for a constant, which the first batch norm takes away.
        np.testing.assert_allclose(
            theirs(torch.from_numpy(target)), ours(torch.from_numpy(source)), atol=1e-4
        )
        moved = module(torch.from_numpy(target)) - module(torch.from_numpy(source))
    assert float(moved.abs().mean()) > 0.1


@pytest.mark.parametrize("penalty", ["mmd", "dann"])
def test_named_stages_alone_are_trained(penalty):
    module, (source, codes), (target, _) = network(), photos(24), photos(30, seed=1, shift=0.5)
    options = StageTraining(
        stages=("3",), penalty=penalty, epochs=2, batch=8, learning_rate=1e-2, seed=3
    )
    said = []
    trained = train_stages(module, source, codes, target, options, say=said.append)
    given = module.state_dict()
    changed = {n for n, value in trained.state_dict().items() if not torch.equal(value, given[n])}
    assert changed == {"3.weight", "3.bias"}
    assert len(said) == 2 and said[0].startswith("epoch 1/2: loss ")
    assert not any(p.requires_grad for p in trained.parameters())
    again = train_stages(module, source, codes, target, options)
    assert all(
        torch.equal(a, b) for a, b in zip(trained.parameters(), again.parameters(), strict=True)
    )


def test_training_stages_brings_the_domains_together():
    from edgetl.transfer.mmd import mmd2

    module, (source, codes), (target, _) = network(), photos(40), photos(40, seed=1, shift=1.0)
    options = StageTraining(stages=("0", "3"), weight=5.0, epochs=15, learning_rate=1e-2)

    def gap(network):
        with torch.no_grad():
            rows = [network(torch.from_numpy(X)).numpy() for X in (source, target)]
        return mmd2(*rows)

    assert gap(train_stages(module, source, codes, target, options)) < 0.3 * gap(module)


def test_mistakes_are_refused():
    module, (source, codes) = network(), photos(8)
    with pytest.raises(ValueError, match=r"no parameter's name begins with 'head'.* 0, 1, 3, 4"):
        unfreeze(module, ["head"])
    with pytest.raises(ValueError, match="name one stage or more"):
        unfreeze(module, [])
    with pytest.raises(ValueError, match="need 2 photos or more of each domain, got 8 and 1"):
        train_stages(module, source, codes, source[:1], StageTraining(stages=("3",)))
    with pytest.raises(ValueError, match="no batch norm"):
        adapt_batchnorm(nn.Linear(2, 2), [np.ones((4, 2), np.float32)])
    with pytest.raises(ValueError, match="one sample has no statistics"):
        adapt_batchnorm(module, [source[:1]])
    with pytest.raises(ValueError, match="nothing to adapt to"):
        adapt_batchnorm(module, [])
    with pytest.raises(ValueError, match="share must be above 0"):
        adapt_batchnorm(module, [source], share=0.0)
