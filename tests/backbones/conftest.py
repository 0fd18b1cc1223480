"""Fixtures of the backbones' tests: real photos, random weights as files, small image-text pairs."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture(scope="session")
def photos(assets):
    """Twelve photos of all sizes: flowers and objects."""
    data = assets / "data"
    folders = sorted((data / "flower_photos" / "test").iterdir())
    folders += sorted((data / "caltech101_20" / "test").iterdir())[:7]
    return [sorted(folder.iterdir())[0] for folder in folders]


@pytest.fixture
def save_weights(tmp_path):
    """Save a module's tensors as safetensors; returns the file."""

    def save(module: torch.nn.Module, name: str = "weights.safetensors") -> Path:
        path = tmp_path / name
        save_file({key: value.contiguous() for key, value in module.state_dict().items()}, path)
        return path

    return save


@pytest.fixture
def open_clip_pair(tmp_path):
    """A folder as open_clip saves it for the hub: a pair of two small towers, random weights."""
    open_clip = pytest.importorskip("open_clip", reason="needs the extra clip")
    folder = tmp_path / "open_clip_pair"
    folder.mkdir()
    config = {
        "model_cfg": {
            "embed_dim": 16,
            "vision_cfg": {
                **{"image_size": 32, "layers": 1, "width": 32},
                **{"patch_size": 8, "head_width": 16},
            },
            "text_cfg": {
                **{"context_length": 24, "vocab_size": 49408},
                **{"width": 32, "heads": 2, "layers": 1},
            },
        },
        "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = open_clip.CLIP(**config["model_cfg"])
    _spread(model, 0.4)
    save_file(dict(model.state_dict()), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture
def hf_pair(tmp_path):
    """A folder as transformers saves a CLIPModel: two small towers, a tokenizer of letters."""
    transformers = pytest.importorskip("transformers", reason="needs the extra clip")
    folder = tmp_path / "hf_pair"
    marks = ["<|startoftext|>", "<|endoftext|>"]
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    words = [*marks, *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = transformers.CLIPTokenizer(
        vocab={word: place for place, word in enumerate(words)}, merges=[]
    )
    shared = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    shared["intermediate_size"] = 48
    config = transformers.CLIPConfig(
        projection_dim=16,
        text_config={
            **shared,
            **{"vocab_size": len(words), "max_position_embeddings": 40},
            **{"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
        },
        vision_config={**shared, "image_size": 32, "patch_size": 8},
    )
    torch.manual_seed(0)
    model = transformers.CLIPModel(config)
    _spread(model, 0.4)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor = {
        **{"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}},
        **{"resample": 3, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25]},
        **{"do_resize": True, "do_center_crop": True, "do_normalize": True, "do_rescale": True},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def _spread(model, size):
    """Larger random weights: as they begin, every photo is much like any other to a pair."""
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim > 1:
                tensor.normal_(0, size * tensor.shape[-1] ** -0.5 * 4)
