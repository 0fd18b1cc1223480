"""The README's table of claims is what the benchmarks printed, and nothing else."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
ROW = re.compile(r"^\| Features of 1,000 photos.*$", re.MULTILINE)

pytestmark = pytest.mark.skipif(
    not RESULTS.is_dir(), reason="a source distribution has no results of benchmarks"
)


def claims(*words):
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "claims.py", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copies(tmp_path):
    """A README and the results, to be changed; as options of the command."""
    readme = tmp_path / "README.md"
    shutil.copy(ROOT / "README.md", readme)
    results = shutil.copytree(RESULTS, tmp_path / "results")
    return readme, results, ("--readme", readme, "--results", results)


def replace(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name} has {text.count(old)} times {old!r}"
    path.write_text(text.replace(old, new))


def test_the_readme_says_what_the_results_say():
    done = claims("--check")
    assert done.returncode == 0, done.stderr


def test_a_figure_changed_by_hand_is_noticed_and_written_again(copies):
    readme, _, where = copies
    before = readme.read_text()
    row = ROW.search(before).group()
    readme.write_text(before.replace(row, row.replace("3.8 s", "3.7 s")))
    assert readme.read_text() != before
    done = claims("--check", *where)
    assert done.returncode == 1
    assert "README.md differs" in done.stderr
    assert claims(*where).returncode == 0
    assert readme.read_text() == before


def test_a_bar_that_was_missed_is_shown_as_missed(copies):
    readme, results, where = copies
    line = "flowers, times as fast as the common way: 7.155 >= 3.5 holds"
    slow = "flowers, times as fast as the common way: 2.5 >= 3.5 DOES NOT HOLD"
    replace(results / "extract.txt", line, slow)
    assert "**not reached**" not in ROW.search(readme.read_text()).group()
    assert claims("--check", *where).returncode == 1
    assert claims(*where).returncode == 0
    row = ROW.search(readme.read_text()).group()
    assert "2.5 times as fast, at least 3.5: **not reached**" in row


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  second       0.0146 s", "  again        0.0146 s", "extract.txt has 0 places, not one"),
        ("1000 photos\n", "1000 photos\n1000 photos\n", "extract.txt has 0 places, not one"),
        (
            "second pass over the flowers: 257.9 >= 200 holds\n",
            "second pass over the flowers: 257.9 >= 200 holds\n" * 2,
            "extract.txt has 2 places, not one",
        ),
    ],
)
def test_a_claim_does_not_outlive_its_line(copies, old, new, message):
    readme, results, where = copies
    before = readme.read_text()
    replace(results / "extract.txt", old, new)
    for words in (where, ("--check", *where)):
        done = claims(*words)
        assert done.returncode == 1
        assert message in done.stderr
    assert readme.read_text() == before


def test_a_lost_result_is_an_error(copies):
    _, results, where = copies
    (results / "export.txt").unlink()
    done = claims("--check", *where)
    assert done.returncode == 1
    assert "export.txt" in done.stderr


def test_the_marks_have_to_be_there(copies):
    readme, _, where = copies
    replace(readme, "<!-- claims:end -->", "")
    done = claims(*where)
    assert done.returncode == 1
    assert "claims:end" in done.stderr
