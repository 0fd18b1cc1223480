"""``edgetl bench`` on the command line: the table, the JSON and what is refused."""

import json
import shutil

import pytest
from colours import bundle_of

from edgetl.cli.main import main

QUICK = ["--calls", "2", "--seconds", "0.1", "--starts", "0", "--photo", "30x20"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A bundle of three colours."""
    return bundle_of(tmp_path_factory.mktemp("bench"), kind="prototype")


def test_json(saved, capsys):
    words = ["bench", str(saved), *QUICK, "--batches", "2,1", "--threads", "1", "--json"]
    assert main(words) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert [row["what"] for row in report["latency"]] == ["predict", "engine", "bare"]
    assert [(row["batch"], row["threads"]) for row in report["throughput"]] == [(2, 1), (1, 1)]
    assert report["photo"] == [20, 30]
    assert report["cold_start"] == []
    assert "no fp32 bundle" in report["notes"][0]
    assert "timing" in printed.err


def test_table_beside_another_bundle(saved, tmp_path, capsys):
    other = tmp_path / "other.edgetl"
    shutil.copytree(saved, other)
    words = ["bench", str(saved), "--against", str(other), *QUICK, "--batches", "", "--quiet"]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert sum("predict (photo)" in line for line in lines) == 2
    assert sum(line.startswith("against") for line in lines) == 4
    assert "speed / against" in printed.out
    heading = next(number for number, line in enumerate(lines) if "p50" in line)
    ends = {line.split("  ")[0]: len(line) for line in lines[heading : heading + 4]}
    assert len(set(ends.values())) == 1, "the columns of numbers end at the same place"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere.edgetl"], 1, "nowhere.edgetl is not a bundle"),
        (["SAVED", "--against", "nowhere.edgetl"], 1, "nowhere.edgetl is not a bundle"),
        (["SAVED", "--against", "SAVED"], 2, "compared with itself"),
        (["SAVED", "--calls", "0"], 2, "calls must be at least 1, got 0"),
        (["SAVED", "--seconds", "-1"], 2, "seconds must be a number above 0, got -1"),
        (["SAVED", "--batches", "1,-4"], 2, "got -4"),
        (["SAVED", "--batches", "1,two"], 2, "--batches must be like 1,4,8,32, got '1,two'"),
        (["SAVED", "--photo", "640"], 2, "--photo must be like 640x480, got '640'"),
        (["SAVED", "--threads", "-1"], 2, "--threads"),
    ],
)
def test_errors_have_their_exit_codes(words, code, message, saved, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *(word.replace("SAVED", str(saved)) for word in words)]) == code
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""
