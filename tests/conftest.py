"""Fixtures shared by all tests."""

import hashlib
import itertools
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

# The engine hides it from openvino; tests that import openvino themselves must not fork a sender.
sys.modules.setdefault("openvino_telemetry", None)
# The tests' processes are as many as small machines have cores; threads of OpenMP that wait for
# each other spin, which made torch many times slower here. Tests that need more ask for them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "kits"))  # for `colours`


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Makes a folder's content once for all processes of the tests: ``once(name, make)``.

    ``make(folder)`` runs in the process that comes first; others wait for it, and find the folder.
    """
    import fcntl

    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # the processes' folders lie side by side
    root = root / "once"
    root.mkdir(exist_ok=True)

    def once(name, make):
        folder, made = root / name, root / f"{name}.made"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of one that failed half way
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def make_cache(once, tmp_path_factory):
    """Makes empty folders for EDGETL_CACHE_DIR, which have one cache of graphs between them.

    To export a real network takes seconds. What the cache of graphs itself does, is tested in
    folders of tests' own.
    """
    graphs = once("graphs", lambda folder: None)

    def make():
        folder = tmp_path_factory.mktemp("shared-cache")
        (folder / "graphs").symlink_to(graphs)
        return folder

    return make


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real weights and data sets; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("EDGETL_ASSETS", ROOT.parent / "shared" / "assets"))
    if not (folder / "weights").is_dir():
        pytest.skip(f"no assets at {folder}; set EDGETL_ASSETS")
    return folder.resolve()


@pytest.fixture(scope="session")
def copy_flowers(assets):
    """Copies the first so many real photos of each part and class into a folder."""

    def copy(root, labels, **counts):
        for part, count in counts.items():
            for label in labels:
                folder = root / part / label
                folder.mkdir(parents=True)
                found = sorted((assets / "data/flower_photos" / part / label).iterdir())
                for photo in found[:count]:
                    shutil.copy(photo, folder)
        return root

    return copy


@pytest.fixture(scope="session")
def flowers(assets, make_cache, request):
    """(X_train, y_train, X_test, y_test) of mobilenetv2_100, 1,280 features, 5 classes.

    They take half a minute, and are kept in pytest's cache.
    """
    import fcntl

    import numpy as np

    from edgetl._adapt import AdaptOptions
    from edgetl._fewshot import task_features
    from edgetl.backbones import load_backbone
    from edgetl.features import ExtractOptions

    weights = assets / "weights/mobilenetv2_100.safetensors"
    identity = load_backbone("mobilenetv2_100", weights).fingerprint
    folder = request.config.cache.mkdir("flowers")
    file = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.npz"
    with (folder / "lock").open("w") as lock, pytest.MonkeyPatch.context() as patch:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the tests' other process waits and reads
        if not file.is_file():
            patch.setenv("EDGETL_CACHE_DIR", str(make_cache()))
            train, test, _ = task_features(
                assets / "data/flower_photos",
                backbone="mobilenetv2_100",
                weights=weights,
                options=AdaptOptions(cache=False, extract=ExtractOptions(strict=True)),
            )
            parts = {"train": train.features, "test": test.features}
            codes = {"train_codes": train.targets, "test_codes": test.targets}
            np.savez(folder / "unfinished.npz", **parts, **codes)
            (folder / "unfinished.npz").replace(file)
    with np.load(file) as kept:
        return kept["train"], kept["train_codes"], kept["test"], kept["test_codes"]


@pytest.fixture(scope="session")
def caches(tmp_path_factory):
    """Paths where nothing is yet; to have pytest number thousands of folders takes long."""
    root = tmp_path_factory.mktemp("caches")
    return (root / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def private_cache(caches, monkeypatch):
    """Keep every test out of the user's cache and off the network."""
    monkeypatch.setenv("EDGETL_CACHE_DIR", str(next(caches)))
    monkeypatch.setenv("EDGETL_OFFLINE", "1")
    monkeypatch.setenv("EDGETL_REQUIRE_NATIVE", "1")


@pytest.fixture
def open_clip_pair(tmp_path):
    """A folder as open_clip saves it for the hub: a pair of two small towers, random weights."""
    open_clip = pytest.importorskip("open_clip", reason="needs the extra clip")
    import torch
    from safetensors.torch import save_file

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
    import torch

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
    import torch

    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.ndim > 1:
                tensor.normal_(0, size * tensor.shape[-1] ** -0.5 * 4)
