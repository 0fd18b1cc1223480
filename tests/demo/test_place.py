"""The demo's folder: never somebody else's."""

import pytest

from edgetl.demo.job import DemoOptions, run_demo
from edgetl.demo.photos import SETS, Amounts, write_photos
from edgetl.demo.place import MARKER, take_folder

FEW = Amounts(train=2, test=1, learn=1, asked=1)


@pytest.fixture
def earlier(tmp_path):
    """The folder of an earlier demo."""
    folder = tmp_path / "demo"
    take_folder(folder)
    write_photos(folder, SETS["parts"], FEW)
    (folder / "keys").mkdir()
    (folder / "keys" / "key.pem").write_text("an old key")
    (folder / "keys" / "own-key.pem").write_text("one that a command made")
    (folder / "parts-int8.edgetl").mkdir()
    (folder / "report.html").write_text("old")
    return folder


def test_a_set_as_it_is_written(tmp_path):
    assert write_photos(tmp_path, SETS["parts"], FEW) == 4 * 3 + 2
    for part, count in (("train", 2), ("test", 1)):
        for label in SETS["parts"].labels:
            files = sorted((tmp_path / "photos" / part / label).iterdir())
            names = [f"synthetic-{n:04}.jpg" for n in range(count)]
            assert [file.name for file in files] == names
    assert [file.name for file in (tmp_path / "new").rglob("*.jpg")]
    readme = (tmp_path / "README.txt").read_text(encoding="utf-8")
    assert "synthetic" in readme and "say nothing about your own photos" in readme


def test_an_earlier_demo_is_replaced(earlier):
    take_folder(earlier)
    assert [entry.name for entry in earlier.iterdir()] == [MARKER]


def test_a_stopped_demo_is_replaced(earlier):
    (earlier / "report.html").unlink()
    (earlier / "photos" / "train" / "ok" / ".DS_Store").write_text("")
    take_folder(earlier)
    assert [entry.name for entry in earlier.iterdir()] == [MARKER]


def test_what_a_link_leads_to_stays(earlier, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "synthetic-0000.jpg").write_text("mine")
    (earlier / "device.edgetl").symlink_to(mine)
    take_folder(earlier)
    assert (mine / "synthetic-0000.jpg").read_text() == "mine"


def test_a_killed_demo_is_replaced(earlier):
    """Bundles, updates and reports are written under such names, and renamed when complete."""
    (earlier / ".parts-int8.edgetl.0a1b2c3d.new").mkdir()
    for name in (".update.etlh.0a1b2c3d", ".report.html.new"):
        (earlier / name).write_text("half")
    take_folder(earlier)
    assert [entry.name for entry in earlier.iterdir()] == [MARKER]


@pytest.mark.parametrize(
    "name",
    [
        "mine.edgetl",
        ".mine.edgetl.new",
        "photos/train/ok/my-photo.jpg",
        "photos/train/cat/cat.jpg",
        "keys/other.pem",
    ],
)
def test_files_of_others_stay(earlier, name):
    file = earlier / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    with pytest.raises(FileExistsError, match=f"{file.name} is not of the demo's making"):
        take_folder(earlier)
    assert file.read_text() == "mine"
    assert (earlier / "report.html").read_text() == "old"


def test_another_folder_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(FileExistsError, match=r"holds 'thesis\.txt' and was not made by"):
        run_demo(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(FileExistsError, match="is a file; name a folder"):
        run_demo(tmp_path / "thesis.txt")


def test_options_that_can_not_be():
    with pytest.raises(ValueError, match="no data 'cars'; there are parts, digits"):
        DemoOptions(data="cars")
    with pytest.raises(ValueError, match="train must be at least 5, got 4"):
        DemoOptions(train=4)
    with pytest.raises(ValueError, match="seed must be 0 or more"):
        DemoOptions(seed=-1)
