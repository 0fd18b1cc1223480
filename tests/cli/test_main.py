"""The command line: usage, exit codes, streams."""

import subprocess
import sys

import pytest

import edgetl
from edgetl.cli.main import main


def test_help_and_version(capsys):
    for words in (["--help"], ["adapt", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "adapt" in out
    assert f"edgetl {edgetl.__version__}" in out


@pytest.mark.parametrize("words", [[], ["nonsense"], ["predict", "--unknown", "x", "y"]])
def test_usage_errors_exit_with_2(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["inspect", "nowhere.edgetl"], 1, "nowhere.edgetl is not a bundle"),
        (["predict", "nowhere.edgetl", "x.jpg", "--top", "0"], 2, "--top"),
        (["predict", "nowhere.edgetl", "x.jpg", "--threads", "-1"], 2, "--threads"),
        (["adapt", "nowhere", "--backbone", "x"], 2, "-o nowhere.edgetl"),
        (["adapt", "nowhere", "--backbone", "x", "-o", "y"], 1, "nowhere"),
        (["adapt", "x", "--backbone", "x", "-o", "y", "--bf16"], 2, "--engine torch"),
        (["adapt", "x", "--backbone", "x", "-o", "y", "--preprocess", "{"], 2, "--preprocess"),
        (["adapt", "x", "--backbone", "x", "-o", "y", "--preprocess", '{"a": 1}'], 2, "'a'"),
        (["select", "nowhere", "--candidates", "x"], 1, "nowhere"),
        (["select", "nowhere", "--candidates", "x,x"], 2, "2 candidates are called x"),
        (["select", "nowhere", "--candidates", "x", "--max-ms", "0"], 2, "max_ms"),
        (["select", "nowhere", "--candidates", "x", "--threads", "-1"], 2, "--threads"),
        (
            ["adapt", "x", "--backbone", "x", "-o", "y", "--engine", "torch", "--threads", "2"],
            2,
            "OMP_NUM_THREADS",
        ),
    ],
)
def test_errors_have_their_exit_codes(words, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


def test_a_wrong_log_level_is_said(monkeypatch, capsys):
    monkeypatch.setenv("EDGETL_LOG_LEVEL", "loud")
    assert main(["inspect", "x"]) == 2
    assert "LOUD" in capsys.readouterr().err


def test_the_module_runs(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "edgetl", "inspect", "nowhere"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("edgetl: nowhere is not a bundle")


def test_a_closed_pipe_is_no_traceback(tmp_path):
    result = subprocess.run(
        f"'{sys.executable}' -m edgetl cache info | true",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in result.stderr
