"""The GPU's benchmark stays ready to run: it goes through everything on the CPU, tiny."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgetl.native import cuda

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu.py"


def run(*arguments, script=SCRIPT):
    if not script.is_file():
        pytest.skip("no benchmarks beside these tests")
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=600
    )


@pytest.mark.slow
def test_a_dry_run_goes_through_every_part():
    pytest.importorskip("timm")
    result = run("--dry-run")
    assert result.returncode == 0, result.stderr
    for title in ("preprocess:", "extraction:", "head:", "nearest:"):
        assert f"\n{title}\n" in result.stdout
    assert "equal the CPU to the bit" in result.stdout
    assert "nothing above is a measurement" in result.stdout


@pytest.mark.skipif(not cuda.available(), reason=f"no GPU to run on: {cuda.why_not()}")
def test_the_kernels_on_a_gpu():
    result = run("--rounds", "10", script=SCRIPT.with_name("gpu_checks.py"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "captured graph" in result.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so():
    result = run()
    assert result.returncode == 3
    assert "no GPU" in result.stderr
