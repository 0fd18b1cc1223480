"""The camera loop: frames dropped, smoothed, lost and found again."""

import itertools
import os
import queue
import re
import runpy
import signal
import subprocess
import sys

import numpy as np
import pytest
from colours import bundle_of, image
from example_runs import DEVICE, EXAMPLES, TRAIN, run_example
from PIL import Image

import edgetl
from edgetl.bundle import Bundle
from edgetl.demo.parts import CLASSES
from edgetl.runtime import DriftMonitor, Prediction

SUMMARY = re.compile(r"(\d+) frames, (\d+) dropped, ([\d.]+) answers per second")


def test_camera_loop_makes_a_bundle_and_simulates_where_there_is_no_opencv(tmp_path):
    run_example("camera_loop.py", "--parts", 2, "--rate", 300, cwd=tmp_path, without=TRAIN)
    assert Bundle.load(tmp_path / "parts.edgetl").labels == tuple(sorted(CLASSES))

    words = ("parts.edgetl", "--camera", 0, "--parts", 3, "--rate", 300)
    printed = run_example("camera_loop.py", *words, cwd=tmp_path, without=(*DEVICE, "cv2"))
    taken, dropped, rate = SUMMARY.search(printed).groups()
    assert int(taken) == 3 * 16 and 0 <= int(dropped) < 48 and float(rate) > 0
    assert re.search(r"from frame to answer: [\d.]+ ms \(median\), [\d.]+ ms", printed)
    assert "DriftMonitor(" in printed


def test_camera_loop_tells_of_drift_and_of_the_unknown(colours, capsys):
    watch = runpy.run_path(str(EXAMPLES / "camera_loop.py"))["watch"]
    drift, room = DriftMonitor(np.linspace(0, 0.1, 200), window=32), queue.Queue()
    for place in range(200):
        room.put((1000.0 + place, place))
    room.put(None)
    labels = ("green", "red")

    class Device:
        def predict(self, place):
            strange = place >= 100
            novelty = 0.5 if strange else place * 37 % 50 / 500
            return Prediction(labels, np.array([0.8, 0.2], np.float32), None, novelty, strange)

    watch(Device(), drift, room, [])
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" s  ")[1].split("  ")[0] for line in said] == [
        "green",
        "unknown",
        "what it sees is no longer what it was",
    ]


@pytest.fixture
def colours(tmp_path):
    """A folder with a bundle that knows red, green and blue."""
    return bundle_of(tmp_path)


def test_camera_loop_answers_the_photos_of_a_folder(colours, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for place in range(12):
        Image.fromarray(image("green")).save(folder / f"{place:02}.png")
    words = (colours, "--frames", folder, "--rate", 20)
    printed = run_example("camera_loop.py", *words, cwd=tmp_path, without=DEVICE)
    assert SUMMARY.search(printed).group(1) == "12"


def test_camera_loop_smooths_over_frames(colours, tmp_path, capsys):
    watch = runpy.run_path(str(EXAMPLES / "camera_loop.py"))["watch"]
    strange = tmp_path / "strange.txt"
    strange.write_text("no photo")
    shown = [*["green"] * 10, "red", *["green"] * 10, strange, *["blue"] * 10]
    room, took = queue.Queue(), []
    for frame in shown:
        room.put((0.0, image(frame) if isinstance(frame, str) else frame))
    room.put(None)
    watch(edgetl.load(colours), None, room, took)
    said, errors = capsys.readouterr()
    assert [line.split()[2] for line in said.splitlines()] == ["green", "blue"]
    assert "strange.txt" in errors and len(took) == 31


OPENCV = """
import numpy as np
COLOR_BGR2RGB = 4
def cvtColor(frame, code):
    assert code == COLOR_BGR2RGB
    return frame[..., ::-1].copy()
class VideoCapture:
    # 25 frames each time that it is opened; nobody is there the third time.
    opened = 0
    def __init__(self, source):
        assert source in (0, "film.mp4")
        VideoCapture.opened += 1
        self.left = 0 if VideoCapture.opened == 3 else 25
    def read(self):
        if self.left == 0:
            return False, None
        self.left -= 1
        frame = np.full((20, 30, 3), 10, np.uint8)
        frame[..., 0] = 240  # blue
        return True, frame
    def release(self):
        self.left = 0
"""


@pytest.fixture
def opencv(tmp_path):
    """The environment with a stand-in for OpenCV."""
    (tmp_path / "opencv").mkdir()
    (tmp_path / "opencv/cv2.py").write_text(OPENCV)
    return {"PYTHONPATH": str(tmp_path / "opencv")}


def test_camera_loop_opens_a_lost_camera_again_and_ends_by_ctrl_c(colours, opencv, tmp_path):
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "camera_loop.py", colours, "--camera", "0"],
        cwd=tmp_path,
        env={**os.environ, **opencv},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # It looks whether the camera answers, has frames, finds nobody, and has frames again.
    for line in itertools.islice(process.stderr, 3):
        assert line == "camera 0 is lost, trying again\n"
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "stopped" in printed.splitlines()
    assert SUMMARY.search(printed).group(1) == "50"


def test_camera_loop_watches_a_film_to_its_end(colours, opencv, tmp_path):
    words = (colours, "--frames", "film.mp4", "--rate", 50)
    printed = run_example("camera_loop.py", *words, cwd=tmp_path, **opencv)
    assert SUMMARY.search(printed).group(1) == "25"


def test_camera_loop_gives_red_first(opencv, monkeypatch):
    monkeypatch.syspath_prepend(opencv["PYTHONPATH"])
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    filmed = runpy.run_path(str(EXAMPLES / "camera_loop.py"))["filmed"]
    try:
        for frame in filmed("film.mp4", again=False):
            assert frame[0, 0].tolist() == [10, 10, 240]
    finally:
        sys.modules.pop("cv2", None)
