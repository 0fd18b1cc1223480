"""`edgetl demo` as somebody new would run it: on a bare machine, without network."""

import json
import subprocess
import sys

import pytest

from edgetl.cli.main import main
from edgetl.demo.job import DemoOptions, DemoReport, Step

BARE = """
import dataclasses, socket, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "torchvision", "timm", "onnxscript"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
sys.modules["lance"] = sys.modules["pyarrow"] = None
def refuse(*_):
    raise AssertionError("the demo used the network")
socket.socket.connect = socket.create_connection = refuse
from edgetl.cli.main import main
from edgetl.demo.photos import SETS
SETS["digits"] = dataclasses.replace(SETS["digits"], train=20, test=10)
sys.exit(main(sys.argv[1:]))
"""


def test_digits_on_a_bare_machine(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("onnx")
    result = subprocess.run(
        [sys.executable, "-c", BARE, "demo", "--data", "digits", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["folder"] == "edgetl-demo" and found["synthetic"] is False
    steps = {step["name"]: step["figures"] for step in found["steps"]}
    assert steps["adapt"]["n_test"] == 90
    assert steps["adapt"]["accuracy"] > 0.5
    assert steps["ship what it learned"]["added"] == ["9"]
    learned = steps["learn a class on the device"]
    assert learned["right_after"] > 0.25 * learned["asked"]
    assert (tmp_path / "edgetl-demo" / "report.html").is_file()
    told = [line for line in result.stderr.splitlines() if line.endswith(" ...")]
    assert [line.partition(" ")[0] for line in told] == [f"{n}/7" for n in range(1, 8)]


def test_what_is_printed(tmp_path, monkeypatch, capsys):
    step = Step(
        name="adapt",
        lines=["accuracy 91.0 %", "a label with \x1b[31m in it"],
        figures={},
        commands=["edgetl adapt 'my photos' -o mine.edgetl"],
        seconds=3.21,
    )

    def run_demo(folder, *, options, begun, done):
        begun(1, 1, step.name)
        done(1, 1, step)
        page = tmp_path / "my page.html"
        return DemoReport(folder=tmp_path, page=page, options=options, steps=(step,), seconds=4.56)

    monkeypatch.setattr("edgetl.demo.job.run_demo", run_demo)
    assert main(["demo", "--seed", "3"]) == 0
    printed, progress = capsys.readouterr()
    assert progress == "1/1 adapt ...\n"
    assert printed.startswith("1/1 adapt") and "3.2 s" in printed.splitlines()[0]
    assert "    accuracy 91.0 %\n" in printed
    assert "    $ edgetl adapt 'my photos' -o mine.edgetl\n" in printed
    assert "done in 4.6 s" in printed and "my%20page.html" in printed
    assert "say nothing about your own photos" in printed
    assert "edgetl adapt YOUR-PHOTOS/ -o mine.edgetl" in printed
    assert "\x1b" not in printed


def test_another_folder_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("all of it")
    assert main(["demo", str(tmp_path)]) == 1
    assert "holds 'thesis.txt' and was not made by edgetl demo" in capsys.readouterr().err


@pytest.mark.parametrize(("data", "module"), [("digits", "sklearn"), ("parts", "onnx")])
def test_a_missing_package_is_named(data, module, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["demo", str(tmp_path / "demo"), "--data", data]) == 3
    assert f"{module} is not installed; install it with: pip install 'edgetl[demo]'" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "demo").exists()


def test_a_seed_below_zero_is_a_mistake(tmp_path, capsys):
    assert main(["demo", str(tmp_path / "demo"), "--seed", "-1"]) == 2
    assert "seed must be 0 or more, got -1" in capsys.readouterr().err


def test_the_program_is_called_as_it_was(monkeypatch):
    from edgetl.cli import demo

    monkeypatch.setattr(sys, "argv", [".venv/bin/edgetl", "demo"])
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert demo._program() == ".venv/bin/edgetl"
    monkeypatch.setattr("shutil.which", lambda name: ".venv/bin/edgetl")
    assert demo._program() == "edgetl"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/pytest"])
    assert demo._program() == "edgetl"
    assert DemoOptions().program == "edgetl"
