"""The README's table of claims is what the benchmarks printed, and nothing else."""

import re
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
ROW = re.compile(r"^\| Features of 1,000 photos.*$", re.MULTILINE)


@pytest.fixture
def claims(monkeypatch):
    """The command of `benchmarks/claims.py`; its exit code."""
    if not RESULTS.is_dir():
        pytest.skip("a source distribution has no results of benchmarks")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import claims as script

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["claims.py", *map(str, words)])
        return script.main()

    return run


@pytest.fixture
def copies(tmp_path):
    """A README and the results, to be changed; and the options that name them."""
    readme = tmp_path / "README.md"
    shutil.copy(ROOT / "README.md", readme)
    results = shutil.copytree(RESULTS, tmp_path / "results")
    return readme, results, ("--readme", readme, "--results", results)


def replace(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name} has {text.count(old)} times {old!r}"
    path.write_text(text.replace(old, new))


def test_the_readme_says_what_the_results_say(claims, capsys):
    assert claims("--check") == 0, capsys.readouterr().err


def test_a_figure_changed_by_hand_is_noticed_and_written_again(claims, copies, capsys):
    readme, _, where = copies
    before = readme.read_text()
    row = ROW.search(before).group()
    readme.write_text(before.replace(row, row.replace("3.8 s", "3.7 s")))
    assert readme.read_text() != before
    assert claims("--check", *where) == 1
    assert "README.md differs" in capsys.readouterr().err
    assert claims(*where) == 0
    assert readme.read_text() == before


def test_a_bar_that_was_missed_is_shown_as_missed(claims, copies):
    readme, results, where = copies
    line = "flowers, times as fast as the common way: 7.155 >= 3.5 holds"
    slow = "flowers, times as fast as the common way: 2.5 >= 3.5 DOES NOT HOLD"
    replace(results / "extract.txt", line, slow)
    assert "**not reached**" not in ROW.search(readme.read_text()).group()
    assert claims("--check", *where) == 1
    assert claims(*where) == 0
    row = ROW.search(readme.read_text()).group()
    assert "2.5 times as fast, at least 3.5: **not reached**" in row


def test_a_machine_that_is_not_named_is_not_invented(claims, copies):
    readme, results, where = copies
    assert "not recorded" in readme.read_text()
    for result in results.glob("*.txt"):
        text = result.read_text()
        result.write_text(re.sub(r", \d+ cores, Python", ", Python", text))
    assert claims(*where) == 0
    last = next(x for x in readme.read_text().splitlines() if x.startswith("Machines as"))
    assert last.startswith("Machines as the files name them: A: not recorded. ")


@pytest.mark.parametrize(
    ("old", "new", "places"),
    [
        ("  second      0.0146 s", "  again       0.0146 s", 0),
        ("flowers: 1000 photos\n", "flowers: 1000 photos\n1000 photos\n", 0),
        (
            "second pass over the flowers: 257.9 >= 200 holds\n",
            "second pass over the flowers: 257.9 >= 200 holds\n" * 2,
            2,
        ),
    ],
)
def test_a_claim_does_not_outlive_its_line(claims, copies, capsys, old, new, places):
    readme, results, where = copies
    before = readme.read_text()
    replace(results / "extract.txt", old, new)
    for words in (where, ("--check", *where)):
        assert claims(*words) == 1
        assert f"extract.txt has {places} places, not one" in capsys.readouterr().err
    assert readme.read_text() == before


def test_a_lost_result_is_an_error(claims, copies, capsys):
    _, results, where = copies
    (results / "export.txt").unlink()
    assert claims("--check", *where) == 1
    assert "export.txt" in capsys.readouterr().err


def test_the_marks_have_to_be_there(claims, copies, capsys):
    readme, _, where = copies
    replace(readme, "<!-- claims:end -->", "")
    assert claims(*where) == 1
    assert "claims:end" in capsys.readouterr().err
