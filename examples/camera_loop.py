"""Watch a camera with a bundle: the newest frame is answered, answers are smoothed over frames.

    python examples/camera_loop.py                                     # drawn parts on a belt
    python examples/camera_loop.py flowers.edgetl --camera 0           # needs OpenCV
    python examples/camera_loop.py flowers.edgetl --frames film.mp4    # or a folder of photos

One thread takes frames, the main one answers. Where that takes longer than a frame, frames are
dropped rather than kept waiting; a camera that is lost is opened again. Ctrl-C ends it.
"""

import argparse
import contextlib
import queue
import sys
import threading
import time
from collections import Counter, deque
from pathlib import Path

import numpy as np

import edgetl
from edgetl.demo.parts import CLASSES, SIZE, draw_part, part_images
from edgetl.errors import DataError
from edgetl.runtime import DriftMonitor

SMOOTHED = 7  # frames that an answer is made of
APART = 0.5  # seconds between frames that are looked at for drift, which wants different things


def take(frames, room, counts):
    """Put frames into a queue of one: a new one takes the place of one that nobody looked at."""
    try:
        for frame in frames:
            with contextlib.suppress(queue.Empty):
                room.get_nowait()
                counts["dropped"] += 1
            room.put((time.perf_counter(), frame))
            counts["taken"] += 1
    finally:
        room.put(None)


def filmed(source, *, again):
    """RGB frames of a film, or of a camera's number, which is opened `again` when it is lost."""
    import cv2

    while True:
        camera = cv2.VideoCapture(source)
        while (read := camera.read())[0]:
            yield cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)  # OpenCV has blue first, edgetl red
        camera.release()
        if not again:
            return
        print(f"camera {source} is lost, trying again", file=sys.stderr)
        time.sleep(1.0)


def simulated(parts):
    """A belt that stops for each of so many drawn parts; half way, the lamp fails."""
    chance, before = np.random.default_rng(1), np.full((SIZE, SIZE, 3), 60, np.uint8)
    for number in range(parts):
        part = draw_part(str(chance.choice(CLASSES)), seed=1, number=number)
        part = part if number < parts / 2 else part // 3
        belt = np.concatenate([before, part], axis=1)
        for place in (*range(0, SIZE, SIZE // 4), *[SIZE] * 12):
            yield np.ascontiguousarray(belt[:, place : place + SIZE])
        before = part


def frames_of(arguments):
    """Those of the camera, if it answers; of the film or folder; or simulated ones."""
    if arguments.camera is not None:
        try:
            next(filmed(arguments.camera, again=False))
            return filmed(arguments.camera, again=True)
        except (ImportError, StopIteration):
            print("no such camera, or no OpenCV: frames are simulated", file=sys.stderr)
    elif arguments.frames is not None:
        path, film = arguments.frames, filmed(str(arguments.frames), again=False)
        return paced(sorted(path.iterdir()) if path.is_dir() else film, arguments.rate)
    return paced(simulated(arguments.parts), arguments.rate)


def paced(frames, rate):
    """The same, as a camera would give them: so many per second."""
    for frame in frames:
        yield frame
        time.sleep(1 / rate)


def watch(device, drift, room, took):
    """Answer until there are no more frames: a line for every new answer, a latency for each."""
    recent, shown, looked, begun = deque(maxlen=SMOOTHED), None, 0.0, time.perf_counter()
    for came, frame in iter(room.get, None):
        try:
            answer = device.predict(frame)
        except DataError as error:  # a file that is no photo
            print(error, file=sys.stderr)
            continue
        recent.append(answer)
        mean = np.mean([one.probabilities for one in recent], axis=0)
        label = answer.labels[mean.argmax()]
        if 2 * sum(one.unknown for one in recent) > len(recent):
            label = "unknown"
        took.append(1000 * (time.perf_counter() - came))
        if label != shown and len(recent) == SMOOTHED:
            print(f"{came - begun:6.1f} s  {label:<16} {mean.max():.2f}", flush=True)
            shown = label
        if drift is not None and came - looked > APART:
            before, looked = drift.drifted, came
            drift.watch([answer.novelty], [-1 if answer.unknown else int(mean.argmax())])
            if drift.drifted and not before:
                print(f"{came - begun:6.1f} s  what it sees is no longer what it was", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("parts.edgetl"))
    parser.add_argument("--camera", type=int, metavar="N", help="0 for the first")
    parser.add_argument("--frames", type=Path, metavar="PATH", help="a film, or a folder of photos")
    parser.add_argument("--rate", type=float, default=30, help="frames per second, of no camera")
    parser.add_argument("--parts", type=int, default=80, help="how many are simulated")
    arguments = parser.parse_args()
    if not arguments.bundle.exists():  # something to try: the kinds of parts that come by
        labels = [label for label in CLASSES for _ in range(60)]
        photos = [photo for label in CLASSES for photo in part_images(label, "train", 60)]
        edgetl.adapt((photos, labels), backbone="edgetl_nano", output=arguments.bundle)

    device = edgetl.load(arguments.bundle, threads=1, warmup=True)
    novelty = device.task().novelty  # None where the bundle keeps no samples
    drift = None if novelty is None else DriftMonitor(novelty.calibration, window=32)
    room, counts, took, begun = queue.Queue(1), Counter(), [], time.perf_counter()
    taking = {"frames": frames_of(arguments), "room": room, "counts": counts}
    threading.Thread(target=take, kwargs=taking, daemon=True).start()
    try:
        watch(device, drift, room, took)
    except KeyboardInterrupt:
        print("stopped")
    if not took:
        sys.exit("no frame was answered")
    rate = len(took) / (time.perf_counter() - begun)
    half, most = np.percentile(took, [50, 95])
    print(f"{counts['taken']} frames, {counts['dropped']} dropped, {rate:.1f} answers per second")
    print(f"from frame to answer: {half:.1f} ms (median), {most:.1f} ms (95 %); {drift}")


if __name__ == "__main__":
    main()
