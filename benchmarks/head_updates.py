"""Size of a head update for one new class, and what rounding does to photos nobody had measured.

A bundle is adapted to five kinds of flowers, another one to a class more; the update that makes the
one's head into the other's is signed. It is compared with the head's own file in float32, which is
what would be sent otherwise, and with the bundle. Answers are compared on photos that neither the
heads nor the choice of the rounding have seen.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import ASSETS, Bar, finish, machine, parser

import edgetl
from edgetl.bundle import Bundle, SigningKey, generate_keys

HEADS = ("softmax", "ridge", "lda", "prototype", "knn")
BACKBONE = "mobilenetv2_100"
NEW = "Faces"
BYTES = 12_000


def photos(folder: Path, *, more: bool) -> Path:
    """Class folders of flowers, with `more` also those of the new class."""
    for part in ("train", "test"):
        (folder / part).mkdir(parents=True)
        found = list((ASSETS / "data/flower_photos" / part).iterdir())
        if more:
            found.append(ASSETS / "data/caltech101_20" / part / NEW)
        for source in found:
            (folder / part / source.name).symlink_to(source)
    return folder


def unseen() -> list[Path]:
    """Photos of other things, which all heads are unsure of."""
    folders = sorted((ASSETS / "data/caltech101_20/test").iterdir())
    return [file for folder in folders if folder.name != NEW for file in sorted(folder.iterdir())]


def measure(kind: str, data: tuple[Path, Path], scratch: Path, key: SigningKey) -> dict:
    """One kind of head."""
    weights = ASSETS / "weights" / f"{BACKBONE}.safetensors"
    before, after = (
        edgetl.adapt(
            folder, backbone=BACKBONE, weights=weights, head=kind, output=scratch / f"{kind}{n}"
        )
        for n, folder in enumerate(data)
    )
    start = time.perf_counter()
    delta = edgetl.diff(before, after)
    made = time.perf_counter() - start
    sent = scratch / f"{kind}.etlh"
    size = delta.save(sent, sign=key)
    features = edgetl.load(after.path).features(unseen())
    order = [after.labels.index(label) for label in delta.labels]
    wanted = after.head.predict_proba(features)[:, order]
    device = edgetl.load(before.path)
    start = time.perf_counter()
    device.apply(sent, trust=scratch / "pub.pem")
    applied = time.perf_counter() - start
    found = Bundle.load(before.path).head.predict_proba(features)
    return {
        "head": kind,
        "bytes": size,
        "head_file_bytes": after.manifest.files[after.manifest.arrays].size,
        "bundle_bytes": after.size,
        "compared": delta.evidence.compared,
        "bound": delta.evidence.difference,
        "unseen": len(features),
        "largest_difference": float(np.abs(found - wanted).max()),
        "same_class": float((found.argmax(1) == wanted.argmax(1)).mean()),
        "known_before": delta.evidence.known_before,
        "known_after": delta.evidence.known_after,
        "seconds_to_make": made,
        "seconds_to_apply": applied,
    }


def main() -> int:
    arguments = parser(__doc__).parse_args()
    rows, bars = [], []
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        os.environ.setdefault("EDGETL_CACHE_DIR", str(scratch / "cache"))
        generate_keys(scratch / "key.pem", scratch / "pub.pem")
        key = SigningKey.load(scratch / "key.pem")
        data = photos(scratch / "5", more=False), photos(scratch / "6", more=True)
        for kind in HEADS:
            row = measure(kind, data, scratch, key)
            rows.append(row)
            if not arguments.json:
                shown = (f"{v:.4g}" if isinstance(v, float) else f"{v}" for v in row.values())
                print("  ".join(f"{k} {v}" for k, v in zip(row, shown, strict=True)), flush=True)
            if kind != "knn":  # which sends samples, not coefficients
                bars.append(Bar(f"{kind}: bytes", row["bytes"], "<=", BYTES))
            moved = row["largest_difference"]
            bars.append(Bar(f"{kind}: change of a probability, unseen", moved, "<=", 0.005))
    figures = {"machine": machine("numpy", "cryptography", "onnxruntime"), "rows": rows}
    if not arguments.json:
        print(figures["machine"])
    return finish(figures, bars, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
