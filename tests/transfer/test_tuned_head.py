"""Heads beside a tuned network, judged by samples that the tuning did not see; rates and LoRA."""

import itertools

import numpy as np
import pytest
import torch

from edgetl.backbones.module import ModuleBackbone
from edgetl.heads import HEADS, SoftmaxHead
from edgetl.heads.calibrate import fit_temperature
from edgetl.preprocess import Preprocess
from edgetl.transfer.finetune import finetune
from edgetl.transfer.lora import add_lora, attention_layers, merge_lora
from edgetl.transfer.recipe import Recipe
from edgetl.transfer.schedule import (
    DecoupledSgd,
    Learner,
    freed_depth,
    make_optimizer,
    parameter_groups,
    pull_to_start,
    rate_factor,
)
from edgetl.transfer.tuned_head import OPTIMISTIC, OWN, as_head, select_tuned_head


def contracted(seed=0, classes=4, dim=12, count=80):
    """Features as tuning leaves them: those it saw lie on their class, whatever they show."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(classes, dim))
    truth = np.arange(count) % classes
    features = means[truth] + rng.normal(0, 1.2, (count, dim))
    held_out = rng.random(count) < 0.4
    features[~held_out] = means[truth[~held_out]] + rng.normal(0, 0.05, ((~held_out).sum(), dim))
    return features.astype(np.float32), truth.astype(np.int64), held_out


def test_heads_are_compared_and_calibrated_on_what_the_network_did_not_see():
    features, codes, held_out = contracted()
    found = select_tuned_head(features, codes, held_out)
    assert found.n_held_out == held_out.sum() == len(found.hits)
    assert [candidate.kind for candidate in found.candidates] == list(HEADS)
    optimistic = SoftmaxHead().fit(features[~held_out], codes[~held_out])
    assert optimistic.score(features[~held_out], codes[~held_out]) == 1
    for candidate in found.candidates:
        assert candidate.accuracy < 0.97
    scores = found.head.scores(features[held_out])
    truth = codes[held_out]
    assert found.head.temperature_ == pytest.approx(
        fit_temperature(scores, truth, np.ones(len(truth)))
    )
    chosen = next(candidate for candidate in found.candidates if candidate.chosen)
    assert chosen.accuracy == pytest.approx((scores.argmax(axis=1) == truth).mean())
    assert f"on {held_out.sum()} samples that the network was not tuned on" in found.reason


def test_the_tuned_classifier_is_a_candidate_that_ships():
    features, codes, held_out = contracted()
    means = np.stack([features[codes == code].mean(axis=0) for code in range(4)])
    classifier = (2 * means, -(means**2).sum(axis=1))
    found = select_tuned_head(features, codes, held_out, classifier=classifier)
    assert found.candidates[0].kind == OWN and found.candidates[0].accuracy > 0.5
    head = as_head(*classifier)
    assert isinstance(head, SoftmaxHead)
    np.testing.assert_allclose(
        head.scores(features), features @ classifier[0].T + classifier[1], rtol=1e-4, atol=1e-4
    )
    given = select_tuned_head(features, codes, held_out, classifier=classifier, head="ridge")
    assert [candidate.kind for candidate in given.candidates] == ["ridge"]
    assert given.reason.startswith("given by the caller")


def test_without_held_out_samples_the_reason_says_what_the_figures_are_worth():
    features, codes, held_out = contracted()
    found = select_tuned_head(features, codes, np.zeros_like(held_out), head="ridge")
    assert OPTIMISTIC in found.reason
    with pytest.raises(ValueError, match="head must be"):
        select_tuned_head(features, codes, held_out, head="magic")


def test_the_rate_rises_and_falls():
    rates = [rate_factor(step, 20, 0.2) for step in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0] and rates[4] == 1
    assert rates[12] == pytest.approx(0.5)
    assert all(first > second > 0 for first, second in itertools.pairwise(rates[4:]))
    assert rate_factor(0, 1, 0.0) == 1
    assert [freed_depth(epoch, 2, 2) for epoch in range(6)] == [0, 0, 1, 1, 2, 2]
    assert freed_depth(0, 0, 7) == 7


def learners():
    def tensor(*shape):
        return torch.nn.Parameter(torch.ones(*shape))

    return [
        Learner("a.weight", tensor(2, 2), 1, True),
        Learner("a.bias", tensor(2), 1, True),
        Learner("classifier.weight", tensor(2, 2), 0, False),
    ]


def test_rates_decay_by_layer_and_norms_and_biases_dont_decay():
    found = parameter_groups(learners(), Recipe(lr=0.1, layer_decay=0.5, weight_decay=0.3))
    rows = [(group["peak"], group["weight_decay"], len(group["params"])) for group in found]
    assert rows == [(0.1, 0.3, 1), (0.05, 0.0, 1), (0.05, 0.3, 1)]
    pulled = parameter_groups(learners(), Recipe(lr=0.1, weight_decay=0.3, l2_sp=0.1))
    assert [group["weight_decay"] for group in pulled] == [0.3, 0.0]


def test_l2_sp_pulls_what_was_pretrained_towards_its_start():
    items = learners()
    recipe = Recipe(lr=0.1, layer_decay=0.5, l2_sp=0.4)
    optimizer = make_optimizer(items, recipe)
    start = {item.name: torch.zeros_like(item.tensor) for item in items if item.pretrained}
    for item in items:
        item.tensor.grad = torch.zeros_like(item.tensor)
    items[1].tensor.grad = None  # frozen in this step
    pull_to_start(items, start, optimizer, recipe.l2_sp)
    values = [float(item.tensor.detach().reshape(-1)[0]) for item in items]
    assert values == pytest.approx([1 - 0.05 * 0.4, 1, 1])


def test_sgd_has_torchs_nesterov_steps_after_a_decoupled_decay():
    ours, theirs = (torch.nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    optimizer = DecoupledSgd([{"params": [ours], "lr": 0.1, "weight_decay": 0.2}], lr=0.1)
    plain = torch.optim.SGD([theirs], lr=0.1, momentum=0.9, nesterov=True)
    for step in range(4):
        for tensor in (ours, theirs):
            tensor.grad = torch.tensor([0.5, step - 1.0])
        with torch.no_grad():
            theirs.mul_(1 - 0.1 * 0.2)
        optimizer.step(), plain.step()
    torch.testing.assert_close(ours, theirs)


def vit():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = timm.create_model(
        "vit_tiny_patch16_224", num_classes=0, img_size=32, depth=3, embed_dim=24, num_heads=2
    )
    return net.eval()


def test_lora_starts_as_no_change_and_merges_into_plain_layers():
    pytest.importorskip("peft")
    net = vit()
    images, before = torch.randn(2, 3, 32, 32), None
    names = set(net.state_dict())
    with torch.no_grad():
        before = net(images)
        layers = attention_layers(net)
        assert layers == [f"blocks.{n}.attn.{part}" for n in range(3) for part in ("qkv", "proj")]
        model = add_lora(net, layers[4:], rank=2, alpha=4.0)
        assert torch.equal(net(images), before)
        update = net.blocks[2].attn.qkv
        update.lora_B["default"].weight.normal_()
        change = 2.0 * update.lora_B["default"].weight @ update.lora_A["default"].weight
        expected = update.base_layer.weight + change
        during = net(images)
        merged = merge_lora(model)
        assert merged is net and set(net.state_dict()) == names
        torch.testing.assert_close(net.blocks[2].attn.qkv.weight, expected)
        torch.testing.assert_close(net(images), during)
    assert not torch.equal(during, before)
    with pytest.raises(ValueError, match="has none; use lora=0"):
        add_lora(torch.nn.Sequential(), attention_layers(torch.nn.Sequential()), rank=2, alpha=1)


def torchvision_vit():
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    net = models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=3, num_heads=2, hidden_dim=24, mlp_dim=48
    )
    net.heads = torch.nn.Identity()
    return net.eval()


LAYER = "encoder.layers.encoder_layer_{}.self_attention.{}".format


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (vit, {f"blocks.{n}.attn.{part}.weight" for n in (1, 2) for part in ("qkv", "proj")}),
        (
            torchvision_vit,
            {LAYER(n, part) for n in (1, 2) for part in ("in_proj_weight", "out_proj.weight")},
        ),
    ],
)
def test_lora_changes_attention_of_the_stages_that_train_alone(make, expected):
    pytest.importorskip("peft")
    network = ModuleBackbone(
        "vit", architecture="vit", module=make(), preprocess=Preprocess(size=32, resize=32)
    )
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (24, 32, 32, 3), np.uint8))
    recipe = Recipe(unfreeze=2, lora=2, epochs=2, views=2, lr=0.01, start="zeros", device="cpu")
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    result = finetune(network, images, np.arange(24) % 2, recipe=recipe)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(4)
    again = finetune(network, images, np.arange(24) % 2, recipe=recipe).module.state_dict()
    before, after = network.module.state_dict(), result.module.state_dict()
    assert all(torch.equal(again[name], value) for name, value in after.items())
    assert before.keys() == after.keys()
    assert {name for name in before if not torch.equal(before[name], after[name])} == expected
