"""Adapted accuracy against the common way: torch's features and LogisticRegressionCV.

Both sides see the same photos and the same split. The features of both are also compared photo by
photo.
"""

from __future__ import annotations

import sys
import tempfile
import warnings

import numpy as np
import timm
import torch
import torchvision
from measure import ASSETS, Bar, finish, machine, parser
from PIL import Image
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegressionCV

import edgetl

BACKBONES = ("mobilenetv2_100", "torchvision/squeezenet1_1")
SETS = ("flower_photos", "caltech101_20")


def common_model(name: str):
    """The network without its classifier, and its own evaluation transform."""
    weights = load_file(ASSETS / "weights" / f"{name.split('/')[-1]}.safetensors")
    if name.startswith("torchvision/"):
        model = torchvision.models.get_model(name.split("/")[1], weights=None)
        model.load_state_dict(weights)
        model.eval()
        preset = torchvision.models.get_model_weights(name.split("/")[1]).DEFAULT.transforms()
        return (lambda x: model.features(x).mean((2, 3))), preset
    model = timm.create_model(name, num_classes=1000)
    model.load_state_dict(weights)
    model.reset_classifier(0)
    model.eval()
    config = timm.data.resolve_model_data_config(model)
    return model, timm.data.create_transform(**config, is_training=False)


def common_features(name: str, paths: list) -> np.ndarray:
    """(n, dim) float32 features of photos, as a torch user would have them."""
    model, transform = common_model(name)
    rows = []
    with torch.inference_mode():
        for start in range(0, len(paths), 32):
            photos = [Image.open(path).convert("RGB") for path in paths[start : start + 32]]
            rows.append(model(torch.stack([transform(photo) for photo in photos])).numpy())
    return np.concatenate(rows)


def compare(name: str, data: str) -> dict:
    """Accuracies of both sides and the least agreement of their features."""
    folder = ASSETS / "data" / data
    weights = ASSETS / "weights" / f"{name.split('/')[-1]}.safetensors"
    with tempfile.TemporaryDirectory() as scratch:
        bundle = edgetl.adapt(folder, backbone=name, weights=weights, output=f"{scratch}/b.edgetl")
        runtime = edgetl.load(f"{scratch}/b.edgetl")
        dataset = edgetl.load_dataset(folder)
        train, test = dataset.split()
        ours = [
            np.stack([p.features for p in runtime.predict(list(part.sources), features=True)])
            for part in (train, test)
        ]
    theirs = [common_features(name, list(part.sources)) for part in (train, test)]
    cosine = min(
        float((np.sum(a * b, 1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())
        for a, b in zip(ours, theirs, strict=True)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence and of options to come
        peer = LogisticRegressionCV(Cs=10, cv=5, max_iter=1000).fit(theirs[0], train.targets)
    return {
        "backbone": name,
        "data": data,
        "head": bundle.evidence.head.kind,
        "accuracy": bundle.evidence.accuracy,
        "interval": [bundle.evidence.accuracy_low, bundle.evidence.accuracy_high],
        "ece": bundle.evidence.ece,
        "peer_accuracy": float(peer.score(theirs[1], test.targets)),
        "min_cosine": cosine,
        "n_test": len(test),
    }


def main() -> int:
    arguments = parser(__doc__).parse_args()
    rows, bars = [], []
    for name in BACKBONES:
        for data in SETS:
            row = compare(name, data)
            rows.append(row)
            if not arguments.json:
                print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            what = f"{name} on {data}"
            short = 100 * (row["peer_accuracy"] - row["accuracy"])
            bars.append(Bar(f"{what}: pp below LogisticRegressionCV", round(short, 6), "<=", 0.5))
            bars.append(Bar(f"{what}: least cosine to torch", row["min_cosine"], ">=", 0.9999))
    figures = {"machine": machine("torch", "timm", "scikit-learn", "onnxruntime"), "rows": rows}
    return finish(figures, bars, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
