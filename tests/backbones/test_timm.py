"""Backbones from timm against timm itself."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from edgetl.backbones import load_backbone
from edgetl.backbones.timm import preprocess_of
from edgetl.decode import read_image
from edgetl.engines import OrtEngine, cosines
from edgetl.errors import WeightsError
from edgetl.exporter.graph import feature_graph
from edgetl.preprocess import Preprocess


@pytest.mark.parametrize(
    "name",
    [
        "mobilenetv2_100",
        "tf_mobilenetv3_small_100",
        "inception_v3.tf_in1k",
        "vit_tiny_patch16_224",
        "resnet50.a1_in1k",
        "convnext_small.fb_in22k_ft_in1k_384",  # squash
        "tf_efficientnet_b0",
        "levit_128s",
    ],
)
def test_preprocessing_equals_timms_own_transform(name, photos):
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    transform = timm.data.create_transform(**config, is_training=False)
    preprocess = preprocess_of(config, name)
    for path in photos[:6]:
        with Image.open(path) as image:
            expected = transform(image.convert("RGB")).numpy()
        actual = preprocess.apply(read_image(path, preprocess=preprocess))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["mobilenetv2_100", "tf_mobilenetv3_small_100"])
def test_features_of_real_photos_equal_torchs(name, assets, photos, tmp_path):
    weights = assets / "weights" / f"{name}.safetensors"
    backbone = load_backbone(name, weights)
    ours = np.stack(
        [
            backbone.preprocess.apply(read_image(path, preprocess=backbone.preprocess))
            for path in photos
        ]
    )
    graph = feature_graph(backbone, probe=ours, cache_dir=tmp_path)
    actual = OrtEngine(graph.path, dim=graph.dim)(ours)

    model = timm.create_model(name, pretrained=False).eval()
    model.load_state_dict(load_file(weights))
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config, is_training=False)
    theirs = torch.stack([transform(Image.open(path).convert("RGB")) for path in photos])
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(theirs), pre_logits=True).numpy()

    assert actual.shape == (len(photos), backbone.dim)
    assert cosines(actual, expected).min() >= 0.9999
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_a_random_transformer_exports(save_weights, tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("test_vit", pretrained=False).eval()
    backbone = load_backbone("test_vit", save_weights(model))
    probe = np.random.default_rng(0).standard_normal((3, *backbone.preprocess.shape), np.float32)
    graph = feature_graph(backbone, probe=probe, cache_dir=tmp_path)
    with torch.inference_mode():
        images = torch.from_numpy(probe)
        expected = model.forward_head(model.forward_features(images), pre_logits=True).numpy()
    actual = OrtEngine(graph.path, dim=backbone.dim)(probe)
    assert cosines(actual, expected).min() >= 0.9999
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_the_classifier_of_a_finetuned_network_is_left_out(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", pretrained=False, num_classes=7)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "w.pth.tar")
    tuned = load_backbone("resnet10t", tmp_path / "w.pth.tar")
    model.reset_classifier(0)
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    bare = load_backbone("resnet10t", tmp_path / "bare.pth")
    assert tuned.fingerprint == bare.fingerprint
    assert tuned.dim == 512


def test_fingerprint_follows_weights_and_preprocessing(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", pretrained=False)
    tensors = dict(model.state_dict())

    def fingerprint(preprocess=None, name="resnet10t"):
        save_file(tensors, tmp_path / "w.safetensors")
        return load_backbone(name, tmp_path / "w.safetensors", preprocess=preprocess).fingerprint

    original = fingerprint()
    assert fingerprint() == original
    assert fingerprint(name="resnet10t.c3_in1k") == original, "the tag adds nothing to the weights"
    assert fingerprint(Preprocess(size=176, resize=256)) != original
    tensors["layer4.0.conv1.weight"] = tensors["layer4.0.conv1.weight"].clone()
    tensors["layer4.0.conv1.weight"][0, 0, 0, 0] += 1e-6
    assert fingerprint() != original


def test_another_version_of_the_code_is_another_backbone(tmp_path, monkeypatch):
    torch.manual_seed(0)
    save_file(
        timm.create_model("resnet10t", num_classes=0).state_dict(), tmp_path / "w.safetensors"
    )
    first = load_backbone("resnet10t", tmp_path / "w.safetensors")
    monkeypatch.setattr(timm, "__version__", "99.0")
    second = load_backbone("resnet10t", tmp_path / "w.safetensors")
    assert first.fingerprint != second.fingerprint


def test_weights_of_another_network(assets):
    with pytest.raises(WeightsError, match=r"does not fit resnet10t: \d+ tensors are missing"):
        load_backbone("resnet10t", assets / "weights" / "mobilenetv2_100.safetensors")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mobilenetv2_10", "did you mean .*mobilenetv2_100"),
        ("resnet50.a9_in1k", "resnet50 has no tag 'a9_in1k'; it has .*a1_in1k"),
        ("no_such_thing_at_all", "no network 'no_such_thing_at_all'"),
        ("owner/repository", "no network.*; a backbone is edgetl_nano, a name of timm's"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(ValueError, match=message):
        load_backbone(name)


def test_inputs_that_do_not_fit(tmp_path, save_weights):
    vit = save_weights(timm.create_model("vit_tiny_patch16_224", pretrained=False))
    with pytest.raises(ValueError, match="takes only 224 x 224"):
        load_backbone("vit_tiny_patch16_224", vit, preprocess=Preprocess(size=160))
    with pytest.raises(ValueError, match="layout='nchw'"):
        load_backbone("vit_tiny_patch16_224", vit, preprocess=Preprocess(layout="nhwc"))
    with pytest.raises(ValueError, match="takes float32, got dtype='bfloat16'"):
        load_backbone("vit_tiny_patch16_224", vit, preprocess=Preprocess(dtype="bfloat16"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_mode": "border"}, "border"),
        ({"interpolation": "nearest"}, "nearest"),
        ({"input_size": (3, 224, 320)}, "224 x 320"),
        ({"input_size": (1, 224, 224)}, "1 x 224"),
    ],
)
def test_preprocessing_that_is_not_supported(change, message):
    config = timm.data.resolve_data_config(
        pretrained_cfg=timm.get_pretrained_cfg("resnet50").to_dict()
    )
    with pytest.raises(ValueError, match=message):
        preprocess_of(dict(config, **change), "net")
