"""What the README tells people to type works as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest
from colours import EXTRA, write_photos

from edgetl.exporter.timing import Timing

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def int8_twice_as_fast(monkeypatch):
    """Nothing is timed: what int8 brings here is the export's matter, not the README's."""

    def timed(contestants, **_):
        slow = {"float", "original"}
        return {
            name: Timing((np.full(5, 0.01 if name in slow else 0.005),)) for name in contestants
        }

    for module in ("contest", "verify"):
        monkeypatch.setattr(f"edgetl.exporter.{module}.interleaved", timed)


@pytest.mark.usefixtures("int8_twice_as_fast")
def test_the_python_block_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnx")
    (code,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    generator = np.random.default_rng(0)
    known = {name: EXTRA[name] for name in ("red", "green", "blue")}
    for part, count in (("train", 20), ("test", 10)):
        write_photos(tmp_path / "flowers" / part, known, count, generator, size=(48, 64))
    new = write_photos(tmp_path / "new", {"grey": EXTRA["grey"]}, 2, generator, size=(48, 64))
    for number in range(2):
        (new / "grey" / f"{number}.png").rename(tmp_path / f"new{number + 1}.jpg")
    (tmp_path / "flowers" / "test" / "red" / "0.png").rename(tmp_path / "photo.jpg")

    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "README.md", "exec"), names)

    assert names["bundle"].evidence.accuracy == 1.0
    assert names["answer"].label == "red"
    assert names["update"].kept
    printed = capsys.readouterr().out
    assert "accuracy" in printed
    assert (tmp_path / "flowers-int8.edgetl" / "manifest.json").is_file()


def test_the_commands_name_extras_that_there_are():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    extras = set(re.findall(r"^([a-z-]+) = \[", section, re.MULTILINE))
    asked = re.findall(r"pip install \"(?:\.|edgetl)\[([a-z,-]+)\]", TEXT)
    assert len(asked) >= 3
    for names in asked:
        assert set(names.split(",")) <= extras


def test_the_picture_is_there_and_small():
    (path,) = re.findall(r"^!\[[^\]]{40,}\]\((docs/images/[^)]+)\)$", TEXT, re.MULTILINE)
    assert 10_000 < (ROOT / path).stat().st_size < 200_000


def test_the_demo_that_is_shown_has_the_demos_steps():
    from edgetl.demo.steps import ALL

    shown = TEXT.partition("<!-- demo:begin -->")[2].partition("<!-- demo:end -->")[0]
    heads = re.findall(r"^(\d)/(\d) (\S.*?) +\d+\.\d s$", shown, re.MULTILINE)
    count = str(len(ALL))
    assert heads == [(str(number), count, name) for number, name in enumerate(ALL, 1)]
