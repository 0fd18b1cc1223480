"""Backbones from torchvision against torchvision itself."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision import models

from edgetl.backbones import load_backbone
from edgetl.backbones.torchvision import preprocess_of, rename_old
from edgetl.decode import read_image
from edgetl.engines import OrtEngine, cosines
from edgetl.errors import WeightsError
from edgetl.exporter.graph import feature_graph


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("resnet50", "IMAGENET1K_V1"),
        ("resnet50", "IMAGENET1K_V2"),
        ("inception_v3", "DEFAULT"),
        ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1"),
        ("efficientnet_b3", "DEFAULT"),
        ("swin_t", "DEFAULT"),
    ],
)
def test_preprocessing_equals_torchvisions_preset(name, tag, photos):
    preset = models.get_model_weights(name)[tag].transforms()
    preprocess = preprocess_of(preset)
    for path in photos[:6]:
        with Image.open(path) as image:
            expected = preset(image.convert("RGB")).numpy()
        actual = preprocess.apply(read_image(path, preprocess=preprocess))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6)


def test_features_of_real_photos_equal_torchs(assets, photos, tmp_path):
    weights = assets / "weights" / "squeezenet1_1.safetensors"
    backbone = load_backbone("torchvision/squeezenet1_1", weights)
    ours = np.stack(
        [
            backbone.preprocess.apply(read_image(path, preprocess=backbone.preprocess))
            for path in photos
        ]
    )
    graph = feature_graph(backbone, probe=ours, cache_dir=tmp_path)
    actual = OrtEngine(graph.path, dim=graph.dim)(ours)

    model = models.squeezenet1_1().eval()
    model.load_state_dict(load_file(weights))
    preset = models.SqueezeNet1_1_Weights.DEFAULT.transforms()
    theirs = torch.stack([preset(Image.open(path).convert("RGB")) for path in photos])
    with torch.inference_mode():
        expected = model.features(theirs).mean(dim=(2, 3)).numpy()
    assert actual.shape == (len(photos), 512)
    assert cosines(actual, expected).min() >= 0.9999
    np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.fixture
def give_weights(monkeypatch):
    """Stand in for a weights file; those of some families would fill the disk."""

    def give(tensors):
        monkeypatch.setattr("edgetl.backbones.torchvision.read_weights", lambda path: tensors)
        return "given.safetensors"

    return give


# Architecture, its classifier's layer, and the length of the features.
FAMILIES = [
    ("shufflenet_v2_x0_5", "fc", 1024),
    ("mobilenet_v3_small", "classifier.3", 1024),
    ("regnet_x_400mf", "fc", 400),
    ("mnasnet0_5", "classifier.1", 1280),
    ("resnet50", "fc", 2048),
    ("alexnet", "classifier.6", 4096),
    ("swin_t", "head", 768),
    ("convnext_tiny", "classifier.2", 768),
    ("efficientnet_b0", "classifier.1", 1280),
    ("inception_v3", "fc", 2048),
    ("googlenet", "fc", 1024),
    ("vit_b_32", "heads.head", 768),
]


@pytest.mark.parametrize(("name", "classifier", "dim"), FAMILIES)
def test_features_are_what_the_classifier_sees(name, classifier, dim, give_weights):
    torch.manual_seed(0)
    options = {}
    if name in ("inception_v3", "googlenet"):
        options = {"init_weights": False, "transform_input": True}  # as with pretrained weights
    model = models.get_model(name, weights=None, **options).eval()
    seen = []
    model.get_submodule(classifier).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    backbone = load_backbone(f"torchvision/{name}", give_weights(model.state_dict()))
    probe = np.random.default_rng(0).standard_normal((2, *backbone.preprocess.shape), np.float32)
    with torch.inference_mode():
        model(torch.from_numpy(probe))
    actual = backbone.features(probe)
    assert actual.shape == (2, dim) == (2, backbone.dim)
    np.testing.assert_allclose(actual, seen[0].numpy(), rtol=1e-4, atol=1e-5)


def test_a_random_network_exports(save_weights, tmp_path):
    torch.manual_seed(0)
    model = models.resnet50().eval()
    backbone = load_backbone("torchvision/resnet50.IMAGENET1K_V1", save_weights(model))
    assert backbone.preprocess.resize == 256
    probe = np.random.default_rng(0).standard_normal((3, 3, 224, 224), np.float32)
    graph = feature_graph(backbone, probe=probe, cache_dir=tmp_path)
    model.fc = torch.nn.Identity()
    with torch.inference_mode():
        expected = model(torch.from_numpy(probe)).numpy()
    actual = OrtEngine(graph.path, dim=2048)(probe)
    assert cosines(actual, expected).min() >= 0.9999
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("densenet121", {".norm1.": ".norm.1.", ".conv2.": ".conv.2."}),
        ("vit_b_32", {".mlp.0.": ".mlp.linear_1.", ".mlp.3.": ".mlp.linear_2."}),
    ],
)
def test_files_with_names_of_older_releases(name, changes):
    with torch.device("meta"):
        current = models.get_model(name, weights=None).state_dict()
    older = {}
    for key, value in current.items():
        for new, old in changes.items():
            key = key.replace(new, old)
        older[key] = value
    assert older.keys() != current.keys()
    assert rename_old(older, torch.nn.Identity()).keys() == current.keys()
    assert rename_old(current, torch.nn.Identity()).keys() == current.keys()


def test_another_version_of_the_code_is_another_backbone(save_weights, monkeypatch):
    torch.manual_seed(0)
    path = save_weights(models.squeezenet1_1())
    first = load_backbone("torchvision/squeezenet1_1", path)
    monkeypatch.setattr("torchvision.__version__", "99.0")
    assert load_backbone("torchvision/squeezenet1_1", path).fingerprint != first.fingerprint


def test_weights_of_another_network(assets):
    with pytest.raises(WeightsError, match=r"does not fit torchvision/resnet18: \d+ tensors are m"):
        load_backbone("torchvision/resnet18", assets / "weights" / "squeezenet1_1.safetensors")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision/resnet5", "did you mean resnet50"),
        ("torchvision/resnet50.V3", "no weights 'V3'; it has IMAGENET1K_V1, IMAGENET1K_V2"),
        ("torchvision/fcn_resnet50", "no classifier"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(ValueError, match=message):
        load_backbone(name)
