"""Every example runs as a user would run it."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name, *words, cwd):
    result = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, words)],
        cwd=cwd,
        env=dict(os.environ),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_adapt_and_predict(assets, tmp_path):
    printed = run(
        "adapt_and_predict.py",
        assets / "data" / "photo_sketch" / "photo",
        *("--weights", assets / "weights" / "tf_mobilenetv3_small_100.safetensors"),
        *("--backbone", "tf_mobilenetv3_small_100"),
        cwd=tmp_path,
    )
    assert "accuracy" in printed
    assert (tmp_path / "photos.edgetl" / "manifest.json").is_file()
    last = printed.rstrip().splitlines()[-3:]
    assert sum(float(line.split()[-1]) for line in last) <= 1.001


def test_every_example_has_a_test():
    text = Path(__file__).read_text(encoding="utf-8")
    for example in EXAMPLES.glob("*.py"):
        assert f'"{example.name}"' in text
