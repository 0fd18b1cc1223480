"""What needs no torch, shown in processes that can't import it: adapt, export and the device."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from edgetl.backbones.nano import shipped_weights

pytestmark = pytest.mark.skipif(
    not shipped_weights().is_file(), reason="the package has no weights yet"
)

TORCH = ("torch", "torchvision", "timm", "onnxscript", "huggingface_hub")
CACHE = ("lance", "pyarrow")

BLOCK = """
import importlib.metadata, sys

blocked = {blocked!r}
for name in blocked:
    sys.modules[name] = None
known = importlib.metadata.version

def version(name):
    if name in blocked:
        raise importlib.metadata.PackageNotFoundError(name)
    return known(name)

importlib.metadata.version = version
"""


def without(blocked, code, *words, cwd):
    """Run code in a process of its own, where some packages are not there."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCK.format(blocked=blocked) + code, *words],
        cwd=cwd,
        env=dict(os.environ),
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Stripes that lie, stand or slant, in colours that don't tell: 22 photos of each."""
    folder = tmp_path_factory.mktemp("stripes")
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:110, :120]
    for label, way in {"lying": rows, "standing": columns, "slanting": rows + columns}.items():
        (folder / label).mkdir()
        for place in range(22):
            wave = np.sin(way / generator.uniform(3, 5) + generator.uniform(0, 6))
            colour = generator.uniform(40, 110, 3)
            pixels = 120 + wave[..., None] * colour + generator.normal(0, 10, (110, 120, 3))
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(folder / label / f"{place}.jpg")
    return folder


CHAIN = """
import contextlib, io, json
from pathlib import Path

from edgetl.cli.main import main

photos = Path(sys.argv[1])


def edgetl(words):
    code = main(words.split())
    assert code == 0, (words, code)


with contextlib.redirect_stdout(sys.stderr):
    edgetl(f"adapt {photos} -o task.edgetl --quiet")
    edgetl(f"evaluate task.edgetl {photos} --quiet")
    edgetl(
        "export task.edgetl --precision int8 --search-rounds 0 --max-drop 30 --allow-slower "
        "--budget-ms 10000 --calibration-images 24 -o int8.edgetl --quiet"
    )
    edgetl("keygen -o key")
    edgetl(f"learn task.edgetl {photos / 'lying' / '1.jpg'} --label other --force -o more.edgetl")
    edgetl("diff task.edgetl more.edgetl --sign key -o more.etlh")
    edgetl("apply task.edgetl more.etlh --trust pub.pem")
    edgetl("report int8.edgetl -o report.html")
    edgetl("inspect int8.edgetl")
    edgetl(f"explore {photos} --outliers --quiet")
    edgetl(f"fewshot {photos} --shots 2 --seeds 2 --methods ridge --quiet")
    edgetl(f"select {photos} --candidates edgetl_nano --seconds 0.02 --quiet")
said = io.StringIO()
with contextlib.redirect_stdout(said):
    edgetl(f"predict int8.edgetl {photos / 'lying' / '0.jpg'} --json")

from edgetl.backbones import load_backbone
from edgetl.bundle import Bundle

task = Bundle.load("task.edgetl")
(answer,) = json.loads(said.getvalue())
print(json.dumps({
    "backbone": task.manifest.backbone,
    "labels": task.labels,
    "accuracy": task.evidence.accuracy,
    "answer": answer,
    "module": hasattr(load_backbone("edgetl_nano"), "module"),
    "loaded": [name for name in blocked if sys.modules.get(name) is not None],
}))
"""


def test_the_chain_from_photos_to_int8_and_an_update(photos, tmp_path):
    result = without((*TORCH, *CACHE, "sklearn", "scipy"), CHAIN, str(photos), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["backbone"] == "edgetl_nano"
    assert told["labels"] == ["lying", "slanting", "standing", "other"]
    assert told["accuracy"] > 0.8
    assert told["answer"]["label"] == "lying"
    assert told["module"] is False and told["loaded"] == []
    assert "backbone: edgetl_nano, which comes with edgetl" in result.stderr
    assert result.stderr.count("features are not kept") == 1  # by report: the others are --quiet


REFUSALS = """
import edgetl
from edgetl.backbones import load_backbone
from edgetl.errors import MissingDependencyError

for refused, message in (
    (lambda: load_backbone("mobilenetv2_100"), "torch is not installed"),
    (lambda: load_backbone("edgetl_nano", "weights.pth"), "torch is not installed"),
    (lambda: edgetl.adapt(sys.argv[1], method="finetune"), "method finetune needs torch"),
    (lambda: edgetl.adapt(sys.argv[1], target=edgetl.Torch()), "torch is not installed"),
):
    try:
        refused()
    except MissingDependencyError as error:
        assert message in str(error) and "edgetl[train]" in str(error), error
    else:
        raise AssertionError(message)
"""


def test_what_needs_torch_says_so(photos, tmp_path):
    result = without((*TORCH, *CACHE), REFUSALS, str(photos), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
