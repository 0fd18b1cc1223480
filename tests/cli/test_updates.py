"""The verbs of head updates and tasks: keygen, diff, apply, combine."""

import hashlib
import json
from pathlib import Path

import colours as kit
import numpy as np
import pytest
from PIL import Image

from edgetl.bundle import Bundle
from edgetl.cli.main import main


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kit.bundle_of(tmp_path / "a").rename("old.edgetl")
    kit.bundle_of(tmp_path / "b", (*kit.COLOURS, "grey"), seed=1).rename("new.edgetl")
    assert main(["keygen", "-o", "key.pem"]) == 0
    return tmp_path


def said(capsys, *words, code=0):
    capsys.readouterr()
    assert main([str(word) for word in words]) == code, capsys.readouterr().err
    return capsys.readouterr()


def digests(folder):
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in Path(folder).iterdir()}


def test_the_whole_way(home, capsys):
    made = json.loads(
        said(
            capsys,
            "diff",
            "old.edgetl",
            "new.edgetl",
            "-o",
            "x.etlh",
            "--sign",
            "key.pem",
            "--json",
        ).out
    )
    assert made["bytes"] == Path("x.etlh").stat().st_size
    assert (made["added"], made["removed"], made["generation"]) == (["grey"], [], 1)
    assert made["evidence"]["known_before"] > 0.9 > made["evidence"]["accuracy_before"]
    out = said(capsys, "apply", "old.edgetl", "x.etlh", "--trust", "pub.pem").out
    assert "generation 1" in out and "new: grey" in out and f"signed by {made['key']}" in out
    assert Bundle.load("old.edgetl").labels[-1] == "grey"
    shown = said(capsys, "inspect", "old.edgetl").out
    assert "generation 1 of" in shown and "new: grey" in shown and "head update 1 applied" in shown
    before = digests("old.edgetl")
    error = said(capsys, "apply", "old.edgetl", "x.etlh", "--trust", "pub.pem", code=8).err
    assert "1 was applied already" in error
    assert digests("old.edgetl") == before
    back = said(capsys, "rollback", "old.edgetl").out
    assert "generation 2: undo" in back
    assert Bundle.load("old.edgetl").labels == tuple(kit.COLOURS)


def test_refusals_exit_with_8_and_change_nothing(home, capsys):
    said(capsys, "diff", "old.edgetl", "new.edgetl", "-o", "x.etlh", "--sign", "key.pem")
    said(capsys, "keygen", "-o", "other.pem", "--public", "other-pub.pem")
    before, data = digests("old.edgetl"), Path("x.etlh").read_bytes()
    error = said(capsys, "apply", "old.edgetl", "x.etlh", "--trust", "other-pub.pem", code=8).err
    assert "signed by the key" in error
    assert (
        "no key to check" in said(capsys, "apply", "old.edgetl", "x.etlh", "--unsigned", code=8).err
    )
    Path("cut.etlh").write_bytes(data[:-9])
    Path("changed.etlh").write_bytes(data[:300] + bytes([data[300] ^ 1]) + data[301:])
    for name in ("cut.etlh", "changed.etlh"):
        said(capsys, "apply", "old.edgetl", name, "--trust", "pub.pem", code=8)
    said(capsys, "diff", "old.edgetl", "new.edgetl", "-o", "u.etlh", "--unsigned")
    error = said(capsys, "apply", "old.edgetl", "u.etlh", "--trust", "pub.pem", code=8).err
    assert "not signed" in error
    stranger = kit.bundle_of(home / "c", seed=5)
    said(capsys, "apply", stranger, "x.etlh", "--trust", "pub.pem", code=8)
    assert digests("old.edgetl") == before
    words = ("apply", "old.edgetl", "x.etlh", "--trust", "other-pub.pem", "--trust", "pub.pem")
    said(capsys, *words)


def test_nothing_is_unsigned_by_default(home, capsys):
    for words in (
        ["diff", "old.edgetl", "new.edgetl", "-o", "x.etlh"],
        ["diff", "old.edgetl", "new.edgetl", "-o", "x", "--sign", "key.pem", "--unsigned"],
        ["apply", "old.edgetl", "x.etlh"],
        ["apply", "old.edgetl", "x.etlh", "--trust", "pub.pem", "--unsigned"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
    said(capsys, "diff", "old.edgetl", "new.edgetl", "-o", "u.etlh", "--unsigned")
    found = json.loads(said(capsys, "apply", "old.edgetl", "u.etlh", "--unsigned", "--json").out)
    assert found["signer"] is None and found["generation"] == 1


def test_keys_stay(home, capsys):
    before = Path("key.pem").read_bytes()
    assert "never replaced" in said(capsys, "keygen", "-o", "key.pem", code=1).err
    assert Path("key.pem").read_bytes() == before
    made = said(capsys, "keygen", "-o", "k2.pem", "--public", "p2.pem", "--json").out
    assert json.loads(made)["public"] == "p2.pem"


def test_mistakes_are_usage(home, capsys):
    error = said(capsys, "diff", "old.edgetl", "old.edgetl", "-o", "x", "--unsigned", code=2).err
    assert "nothing to send" in error
    assert not Path("x").exists()
    said(capsys, "diff", "old.edgetl", "new.edgetl", "-o", "x", "--sign", "pub.pem", code=8)
    said(capsys, "diff", "old.edgetl", "nowhere", "-o", "x", "--unsigned", code=1)
    words = ("diff", "old.edgetl", "new.edgetl", "-o", "x", "--unsigned", "--task", "weather")
    assert "no task 'weather'" in said(capsys, *words, code=2).err


def test_tasks(home, capsys):
    kit.bundle_of(home / "l", ("dark", "light"), kind="prototype", seed=4).rename("light.edgetl")
    kit.bundle_of(home / "m", ("dark", "light", "dim"), kind="prototype", seed=5).rename("m.edgetl")
    out = said(capsys, "combine", "colour=old.edgetl", "light.edgetl", "-o", "both.edgetl").out
    assert "task colour: red, green, blue" in out and "task light: dark, light" in out
    Image.fromarray(kit.image("blue")).save("blue.png")
    rows = json.loads(
        said(capsys, "predict", "both.edgetl", "blue.png", "--all-tasks", "--json").out
    )
    assert rows[0]["tasks"]["colour"]["label"] == "blue"
    assert set(rows[0]["tasks"]) == {"colour", "light"}
    assert "light: " in said(capsys, "predict", "both.edgetl", "blue.png", "--task", "light").out
    said(capsys, "predict", "both.edgetl", "blue.png", "--task", "weather", code=2)
    said(capsys, "diff", "light.edgetl", "m.edgetl", "-o", "x.etlh", "--sign", "key.pem")
    said(capsys, "apply", "both.edgetl", "x.etlh", "--trust", "pub.pem", code=8)
    out = said(
        capsys, "apply", "both.edgetl", "x.etlh", "--trust", "pub.pem", "--task", "light"
    ).out
    assert "new: dim" in out
    shown = said(capsys, "inspect", "both.edgetl").out
    assert "labels light" in shown and "3: dark, light, dim" in shown
    said(capsys, "rollback", "both.edgetl", "--task", "light")
    assert Bundle.load("both.edgetl").manifest.record("light").labels == ("dark", "light")
    out = said(capsys, "combine", "both.edgetl", "x=m.edgetl", "-o", "three.edgetl").out
    assert "task x" in out and "task colour" in out
    error = said(capsys, "combine", "both.edgetl", "light=m.edgetl", "-o", "no", code=2).err
    assert "already" in error
    assert "TASK=BUNDLE" in said(capsys, "combine", "m.edgetl", "m.edgetl", "-o", "no", code=2).err


def test_evaluate_asks_the_task(home, capsys):
    pytest.importorskip("pyarrow")
    kit.bundle_of(home / "l", ("dark", "light"), kind="prototype", seed=4).rename("light.edgetl")
    said(capsys, "combine", "colour=old.edgetl", "light.edgetl", "-o", "both.edgetl")
    rng = np.random.default_rng(0)
    for label in ("dark", "light"):
        folder = home / "photos" / label
        folder.mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 255, (20, 20, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    words = ("evaluate", "both.edgetl", "photos", "--task", "light", "--json", "--quiet")
    found = json.loads(said(capsys, *words).out)
    assert found["classes"] == ["dark", "light"] and found["n_test"] == 6
    error = said(capsys, "evaluate", "both.edgetl", "photos", "--quiet", code=1).err
    assert "dark" in error
