"""Stages of real architectures (random weights), and cuts that change nothing."""

import pytest
import torch

from edgetl.transfer.network_split import clean_cuts, split_after, trace_units
from edgetl.transfer.stages import find_stages, stage_of

timm = pytest.importorskip("timm")
models = pytest.importorskip("torchvision.models")


def timm_net(name, **options):
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=0, **options).eval().requires_grad_(False)


def torchvision_net(name, classifier, **options):
    torch.manual_seed(0)
    net = models.get_model(name, weights=None, **options).eval().requires_grad_(False)
    setattr(net, classifier, torch.nn.Identity())
    return net


def small_torchvision_vit():
    torch.manual_seed(0)
    net = models.VisionTransformer(
        image_size=64, patch_size=16, num_layers=3, num_heads=2, hidden_dim=32, mlp_dim=64
    )
    net.heads = torch.nn.Identity()
    return net.eval().requires_grad_(False)


NETWORKS = {
    "mobilenetv2_100": lambda: timm_net("mobilenetv2_100"),
    "resnet18": lambda: timm_net("resnet18"),
    "vit": lambda: timm_net("vit_tiny_patch16_224", img_size=64, depth=3),
    "convnext": lambda: timm_net("convnext_atto"),
    "torchvision mobilenet": lambda: torchvision_net("mobilenet_v2", "classifier"),
    "torchvision vit": lambda: small_torchvision_vit(),
}
EXPECTED = {
    "mobilenetv2_100": ["conv_stem", *(f"blocks.{place}" for place in range(7))],
    "resnet18": ["conv1", "layer1", "layer2", "layer3", "layer4"],
    "vit": ["patch_embed", "blocks.0", "blocks.1", "blocks.2"],
    "convnext": ["stem", "stages.0", "stages.1", "stages.2", "stages.3.downsample"],
    "torchvision mobilenet": [f"features.{place}" for place in (0, 1, 2, 4, 7, 11, 14, 17)],
    "torchvision vit": [
        "encoder.dropout",
        *(f"encoder.layers.encoder_layer_{place}" for place in range(3)),
    ],
}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_stages_are_those_the_field_names_and_cuts_between_them_change_nothing(name):
    net = NETWORKS[name]()
    stages = find_stages(net, 64)
    assert [stage.name for stage in stages] == EXPECTED[name]
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        whole = net(images)
        for stage in (stages[0], stages[len(stages) // 2], stages[-2]):
            split = split_after(net, stage.end)
            assert torch.equal(split.suffix(split.prefix(images)), whole)


def test_every_parameter_of_a_cnn_is_in_one_stage_and_the_last_has_the_last_convolution():
    net = NETWORKS["mobilenetv2_100"]()
    stages = find_stages(net, 64)
    assert all(stage_of(stages, name) is not None for name, _ in net.named_parameters())
    assert sum(stage.parameters for stage in stages) == sum(p.numel() for p in net.parameters())
    assert {"blocks.6", "conv_head", "bn2"} <= set(stages[-1].units)
    assert stages[5].shape == (96, 4, 4)


def test_parts_share_the_networks_parameters_and_modes():
    net = NETWORKS["resnet18"]()
    split = split_after(net, "layer3.0")
    own = dict(net.named_parameters())
    names = {name for name, tensor in split.suffix.named_parameters() if tensor is own[name]}
    assert names == {name for name in own if name.startswith(("layer3.1", "layer4"))}
    split.suffix.train()
    assert net.layer4.training and not net.layer2.training


class Skipping(torch.nn.Module):
    """Its first layer is used again at the end."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (torch.nn.Conv2d(3, 3, 1) for _ in range(3))

    def forward(self, x, scale=None):
        a = self.a(x)
        if scale is not None:
            a = a * scale
        c = self.c(self.b(a) + a)
        return (c * c).mean((2, 3))


def test_a_cut_that_something_passes_by_is_refused():
    net = Skipping().eval()
    assert clean_cuts(trace_units(net, ())) == ["a", "c"]
    with pytest.raises(ValueError, match="can't be cut after 'b'"):
        split_after(net, "b")
    with pytest.raises(ValueError, match="no module 'd' to cut after; its outermost are a, b, c"):
        split_after(net, "d")
    whole = split_after(net, None)
    assert whole.prefix is None and whole.suffix is net


class Tied(torch.nn.Module):
    """Its middle layer is called on both sides of a cut after `b`."""

    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(3, 3, 1), torch.nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.a(self.b(self.a(x))).mean((2, 3))


def test_a_cut_through_shared_weights_is_refused():
    with pytest.raises(ValueError, match=r"can't be cut after 'b': a\.weight is on both sides"):
        split_after(Tied().eval(), "b")


def test_what_lies_before_a_cut_is_not_in_the_second_part():
    suffix = split_after(NETWORKS["vit"](), "blocks.0").suffix
    names = {name.partition(".")[0] for name, _ in suffix.named_parameters()}
    assert names == {"blocks", "norm"}  # neither pos_embed nor cls_token


class Choosing(torch.nn.Module):
    """Its code depends on the values of its input."""

    def __init__(self):
        super().__init__()
        self.a = torch.nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.a(x if x.mean() > 0 else -x).mean((2, 3))


def test_code_that_depends_on_values_is_refused_by_name():
    with pytest.raises(ValueError, match="code of Choosing can't be traced"):
        find_stages(Choosing(), 8)
    with pytest.raises(ValueError, match="no parameters"):
        find_stages(torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten()), 8)
