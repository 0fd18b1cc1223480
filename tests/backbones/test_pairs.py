"""Image-text pairs against open_clip and transformers themselves, with small random weights."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from edgetl.backbones import load_backbone
from edgetl.decode import read_image
from edgetl.engines import OrtEngine
from edgetl.errors import MissingDependencyError, WeightsError
from edgetl.exporter.graph import feature_graph
from edgetl.preprocess import Preprocess
from edgetl.transfer.prompts import embed_classes, sentences, zero_shot_head

NAMES = ["daisy", "car_side", "old watch"]
TEMPLATES = ("a photo of a {}", "a drawing of the {}")


@pytest.fixture(params=["open_clip", "hf-clip"])
def kind(request):
    return request.param


@pytest.fixture
def folder(kind, open_clip_pair, hf_pair):
    return {"open_clip": open_clip_pair, "hf-clip": hf_pair}[kind]


@pytest.fixture
def photos(tmp_path):
    generator = np.random.default_rng(0)
    for place, size in enumerate([(40, 64, 3), (70, 41, 3), (32, 32, 3), (33, 90, 3)]):
        pixels = generator.integers(0, 256, size, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{place}.png")
    return sorted(tmp_path.glob("*.png"))


def reference_open_clip(folder, photos):
    """Probabilities by open_clip's own transform, tokenizer and zero-shot classifier."""
    import open_clip

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    names = [name.replace("_", " ") for name in NAMES]
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    classes = open_clip.build_zero_shot_classifier(model, tokenizer, names, TEMPLATES)
    with torch.inference_mode():
        images = torch.stack([transform(Image.open(photo).convert("RGB")) for photo in photos])
        features = model.encode_image(images, normalize=True)
        return (model.logit_scale.exp() * features @ classes).softmax(dim=-1).numpy()


def reference_hf(folder, photos):
    """Probabilities by transformers, with the mean direction of the templates written out."""
    from transformers import AutoTokenizer, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    model = CLIPModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    images = [Image.open(photo).convert("RGB") for photo in photos]
    pixels = processor(images, return_tensors="pt")["pixel_values"]
    directions = []
    with torch.inference_mode():
        for name in NAMES:
            lines = [template.format(name.replace("_", " ")) for template in TEMPLATES]
            tokens = tokenizer(lines, padding=True, return_tensors="pt")
            found = model(**tokens, pixel_values=pixels)
            mean = found.text_embeds.mean(dim=0)
            directions.append(mean / mean.norm())
        logits = model.logit_scale.exp() * found.image_embeds @ torch.stack(directions).T
    return logits.softmax(dim=-1).numpy()


def test_zero_shot_probabilities_are_the_references(kind, folder, photos, tmp_path):
    backbone = load_backbone(f"{kind}/{folder}")
    pixels = np.stack(
        [
            backbone.preprocess.apply(read_image(photo, preprocess=backbone.preprocess))
            for photo in photos
        ]
    )
    graph = feature_graph(backbone, probe=pixels, cache_dir=tmp_path / "cache")
    features = OrtEngine(graph.path, dim=graph.dim)(pixels)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    tower = backbone.text_tower
    texts = sentences(NAMES, templates=TEMPLATES)
    head = zero_shot_head(embed_classes(texts, tower.embed), scale=tower.scale)
    expected = {"open_clip": reference_open_clip, "hf-clip": reference_hf}[kind](folder, photos)
    assert np.ptp(expected, axis=0).max() > 1e-3, "the photos must not all be one to the reference"
    np.testing.assert_allclose(head.predict_proba(features), expected, atol=2e-5)
    stored = type(head).from_arrays(head.arrays())
    np.testing.assert_allclose(stored.predict_proba(features), expected, atol=2e-5)


def test_a_tower_refuses_what_it_would_cut(kind, folder):
    tower = load_backbone(f"{kind}/{folder}").text_tower
    assert tower.embed(["a " * (tower.context - 2)]).shape == (1, 16)
    with pytest.raises(ValueError, match=rf"has {tower.context + 1} tokens.*reads {tower.context}"):
        tower.embed(["a " * (tower.context - 1)])
    with pytest.raises(ValueError, match="texts must be words"):
        tower.embed(["a photo", " "])
    with pytest.raises(TypeError, match="sequence of strings"):
        tower.embed("a photo")


def test_the_fingerprints_tell_the_towers_apart(kind, folder, tmp_path):
    first = load_backbone(f"{kind}/{folder}")
    (file,) = folder.glob("*model.safetensors")
    tensors = load_file(file)

    def changed(name):
        more = {key: value.clone() for key, value in tensors.items()}
        more[name].view(-1)[0] += 1
        save_file(more, tmp_path / "w.safetensors")
        return load_backbone(f"{kind}/{folder}", tmp_path / "w.safetensors")

    text = changed("logit_scale")
    assert text.fingerprint == first.fingerprint
    assert text.text_tower.fingerprint != first.text_tower.fingerprint
    assert text.text_tower.scale == pytest.approx(np.e * first.text_tower.scale)
    names = {"open_clip": "visual.conv1.weight", "hf-clip": "visual_projection.weight"}
    image = changed(names[kind])
    assert image.fingerprint != first.fingerprint
    assert image.text_tower.fingerprint == first.text_tower.fingerprint


def test_unfit_weights_are_refused(kind, folder, tmp_path):
    save_file({"something": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="tensors are missing"):
        load_backbone(f"{kind}/{folder}", tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="takes only 32 x 32 pixels"):
        load_backbone(f"{kind}/{folder}", preprocess=Preprocess(size=64, resize=64))
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="config"):
        load_backbone(f"{kind}/{tmp_path / 'empty'}")


def test_open_clips_names(open_clip_pair):
    with pytest.raises(ValueError, match=r"no pair 'ViT-B-23'.*did you mean ViT-B-32"):
        load_backbone("open_clip/ViT-B-23")
    with pytest.raises(ValueError, match="has no tag 'nobody'; it has openai"):
        load_backbone("open_clip/ViT-B-32.nobody")
    with pytest.raises(ValueError, match="names no pretrained weights; add a tag"):
        load_backbone("open_clip/ViT-B-32")
    with pytest.raises(WeightsError, match="OFFLINE"):
        load_backbone("open_clip/ViT-B-32.laion2b_s34b_b79k")
    config = json.loads((open_clip_pair / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["resize_mode"] = "longest"
    (open_clip_pair / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="resize_mode='longest'"):
        load_backbone(f"open_clip/{open_clip_pair}")


def test_a_tag_decides_which_gelu_is_meant(open_clip_pair, monkeypatch):
    """The same weights with the other activation are another backbone."""
    config = json.loads((open_clip_pair / "open_clip_config.json").read_text())
    weights = open_clip_pair / "open_clip_model.safetensors"
    import open_clip

    monkeypatch.setattr(open_clip, "get_model_config", lambda name: config["model_cfg"])
    monkeypatch.setattr(open_clip, "create_model", _builder(open_clip.create_model, open_clip_pair))
    plain = load_backbone("open_clip/ViT-B-32.laion2b_e16", weights)
    quick = load_backbone("open_clip/ViT-B-32.openai", weights)
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), np.float32)
    assert np.abs(plain.features(images) - quick.features(images)).max() > 1e-4
    assert plain.fingerprint != quick.fingerprint


def _builder(create, folder):
    def build(name, **options):
        assert name == "ViT-B-32"
        return create(f"local-dir:{folder}", **options)

    return build


def test_transformers_names(hf_pair):
    with pytest.raises(ValueError, match="neither a folder nor OWNER/NAME"):
        load_backbone("hf-clip/nowhere")
    with pytest.raises(WeightsError, match="OFFLINE"):
        load_backbone("hf-clip/openai/clip-vit-base-patch32")
    config = json.loads((hf_pair / "config.json").read_text())
    (hf_pair / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(ValueError, match="type 'bert'; 'clip' is supported"):
        load_backbone(f"hf-clip/{hf_pair}")


@pytest.mark.parametrize("name", ["open_clip/ViT-B-32.laion2b_s34b_b79k", "hf-clip/some/pair@v1"])
def test_a_pair_in_the_hubs_cache_is_used_offline(
    name, open_clip_pair, hf_pair, monkeypatch, tmp_path
):
    asked = []

    def cached(repository, filename, revision):
        asked.append((repository, revision))
        path = (hf_pair if name.startswith("hf") else open_clip_pair) / filename
        return str(path) if path.is_file() else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    if name.startswith("open_clip"):
        import open_clip

        config = json.loads((open_clip_pair / "open_clip_config.json").read_text())
        monkeypatch.setattr(open_clip, "get_model_config", lambda name: config["model_cfg"])
        build = _builder(open_clip.create_model, open_clip_pair)
        monkeypatch.setattr(open_clip, "create_model", build)
        expected = ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", None)
    else:
        expected = ("some/pair", "v1")
    backbone = load_backbone(name)
    assert set(asked) == {expected}
    assert backbone.name == name
    assert backbone.text_tower.embed(["a photo of a watch"]).shape == (1, backbone.dim)


def test_a_tokenizer_that_is_not_here(kind, folder):
    if kind == "open_clip":
        config = json.loads((folder / "open_clip_config.json").read_text())
        config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "someone/words"
        (folder / "open_clip_config.json").write_text(json.dumps(config))
    else:
        for file in folder.glob("tokenizer*"):
            file.unlink()
    backbone = load_backbone(f"{kind}/{folder}")
    assert backbone.features(np.zeros((1, 3, 32, 32), np.float32)).shape == (1, 16)
    with pytest.raises(WeightsError, match=r"the tokenizer of .* can't be had"):
        backbone.text_tower.embed(["a photo"])


@pytest.mark.parametrize(
    ("name", "package"), [("open_clip/ViT-B-32", "open_clip"), ("hf-clip/a/b", "transformers")]
)
def test_a_missing_package_names_its_extra(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"{package} .*edgetl\[clip\]"):
        load_backbone(name)
