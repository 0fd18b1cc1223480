"""``edgetl learn`` and ``edgetl rollback`` on a bundle of colours."""

import json
import shutil

import pytest
from colours import bundle_of, write_photo

from edgetl.bundle import Bundle
from edgetl.cli.main import main
from edgetl.runtime import load


@pytest.fixture
def bundle(tmp_path):
    """A bundle whose features are the mean colour, fitted to red, green and blue."""
    return str(bundle_of(tmp_path / "colours", kind="prototype"))


def answer(capsys):
    return json.loads(capsys.readouterr().out)


def test_a_new_class_is_learned_predicted_and_undone(bundle, tmp_path, capsys):
    photos = [write_photo(tmp_path / f"{n}.png", "yellow", n) for n in range(4)]
    assert main(["learn", bundle, *photos[:3], "--label", "yellow", "--weight", "2"]) == 0
    printed = capsys.readouterr().out
    assert "generation 1: learn kept" in printed and "samples: 3, new: yellow" in printed
    assert "accuracy on 60 kept samples: 100.0% -> 100.0%" in printed
    assert Bundle.load(bundle).labels == ("red", "green", "blue", "yellow")
    assert main(["predict", bundle, photos[3], "--json"]) == 0
    assert answer(capsys)[0]["label"] == "yellow"
    assert main(["rollback", bundle, "--list", "--json"]) == 0
    listed = answer(capsys)
    assert [(g["number"], g["kind"], g["current"]) for g in listed] == [
        (0, "start", False),
        (1, "learn", True),
    ]
    assert main(["rollback", bundle]) == 0
    assert "generation 2: undo to the head of generation 0" in capsys.readouterr().out
    assert Bundle.load(bundle).labels == ("red", "green", "blue")
    assert main(["rollback", bundle, "--to", "1", "--json"]) == 0
    assert answer(capsys)["updates"][0]["generation"] == 3
    assert load(bundle).predict(photos[3]).label == "yellow"
    assert main(["rollback", bundle, "--list"]) == 0
    assert "in use  rollback to 1" in capsys.readouterr().out


def test_another_bundle_leaves_the_first_as_it_is(bundle, tmp_path, capsys):
    photos = [write_photo(tmp_path / f"{n}.png", "yellow", n) for n in range(3)]
    output = str(tmp_path / "updated.edgetl")
    before = {f.name: f.read_bytes() for f in (tmp_path / "colours/b.edgetl").iterdir()}
    assert main(["learn", bundle, *photos, "--label", "yellow", "-o", output, "--json"]) == 0
    result = answer(capsys)
    assert result["saved"] == output and result["stats"]["classes"] == 4
    assert {f.name: f.read_bytes() for f in (tmp_path / "colours/b.edgetl").iterdir()} == before
    assert load(bundle).labels == ("red", "green", "blue")
    assert load(output).predict(photos[0]).label == "yellow"


def test_a_folder_of_class_folders(bundle, tmp_path, capsys):
    for colour in ("yellow", "red"):
        for number in range(5):
            write_photo(tmp_path / "more" / colour / f"{number}.png", colour, number)
    assert main(["learn", bundle, str(tmp_path / "more"), "--json"]) == 0
    (update,) = answer(capsys)["updates"]
    assert (update["samples"], update["new_labels"]) == (10, ["yellow"])
    # With a label, a folder is a folder of photos.
    folder = str(tmp_path / "more" / "yellow")
    assert main(["learn", bundle, folder, "--label", "yellow", "--json"]) == 0
    assert answer(capsys)["updates"][0]["samples"] == 5


def test_a_harmful_update_is_an_error_with_its_own_code(bundle, tmp_path, capsys):
    wrong = [write_photo(tmp_path / f"{n}.png", "red", n) for n in range(6)]
    words = ["learn", bundle, *wrong, "--label", "green", "--weight", "50"]
    assert main(words) == 5
    captured = capsys.readouterr()
    assert "generation 0: learn refused" in captured.out
    assert "the update was refused: accuracy" in captured.err and "red" in captured.err
    assert Bundle.load(bundle).manifest.update is None
    assert main([*words, "--quarantine", "--json"]) == 5
    captured = capsys.readouterr()
    assert json.loads(captured.out)["updates"][0]["quarantine"] == 1
    assert "put aside as number 1" in captured.err
    assert main([*words, "--force", "--json"]) == 0
    assert answer(capsys)["updates"][0]["decision"] == "kept"


def test_a_class_is_forgotten(bundle, capsys):
    assert main(["learn", bundle, "--forget", "green", "--json"]) == 0
    assert answer(capsys)["updates"][0]["kind"] == "forget"
    assert load(bundle).labels == ("red", "blue")
    assert main(["learn", bundle, "--forget", "green"]) == 2
    assert "no class 'green'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["learn", "B"], "name photos to learn"),
        (["learn", "B", "a.png"], "--label"),
        (["learn", "B", "a.png", "--label", "x", "--force", "--quarantine"], "--force"),
        (["learn", "B", "a.png", "--label", "x", "--weight", "0"], "zero"),
        (["learn", "B", "a.png", "--label", "x", "--task", "health"], "no task 'health'"),
        (["rollback", "B"], "has learned nothing"),
        (["rollback", "B", "--list", "--to", "3"], "--list changes nothing"),
    ],
)
def test_wrong_words(bundle, tmp_path, capsys, words, message):
    image = write_photo(tmp_path / "a.png", "red")
    words = [{"B": bundle, "a.png": image}.get(word, word) for word in words]
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert Bundle.load(bundle).manifest.update is None


def test_unknown_generations_and_unreadable_photos(bundle, tmp_path, capsys):
    good = write_photo(tmp_path / "a.png", "red")
    assert main(["learn", bundle, good, str(tmp_path / "none.png"), "--label", "red"]) == 1
    assert "none.png" in capsys.readouterr().err
    assert main(["learn", bundle, good, "--label", "red"]) == 0
    capsys.readouterr()
    assert main(["rollback", bundle, "--to", "9"]) == 2
    assert "no generation 9; kept are 0 to 1" in capsys.readouterr().err


def test_damage_has_its_own_code(bundle, tmp_path, capsys):
    good = write_photo(tmp_path / "a.png", "red")
    assert main(["learn", bundle, good, "--label", "red"]) == 0
    copy = shutil.copytree(bundle, tmp_path / "copy.edgetl")
    (copy / "updates.sqlite").write_bytes(b"nothing of the kind" * 400)
    capsys.readouterr()
    assert main(["predict", str(copy), good]) == 7
    assert main(["learn", str(copy), good, "--label", "red"]) == 7
    assert "Move it away" in capsys.readouterr().err
