"""Bring head updates to a fleet: signed files on any web server, devices that ask for them.

    python examples/fleet_updates.py

A workstation, a server (on this machine, of the standard library) and five devices play through
what happens in the field: a new class, a device that is offline and one whose download is changed
on its way, an update that was a mistake, and one that mends it. Only the signature has to be
trusted: whoever holds the server, or stands between, can keep updates back and no more. A device
needs `pip install "edgetl[ort,sign]"`, the workstation `pip install "edgetl[demo]"`.
"""

import json
import tempfile
import threading
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import edgetl
from edgetl.bundle import generate_keys
from edgetl.demo.parts import CLASSES, FURTHER, part_images
from edgetl.errors import EdgetlError

MOST_BYTES = 1 << 20  # of a download; an update has some thousand
WORST_FALL = 0.1  # of the accuracy on a device's own kept samples


class Channel(SimpleHTTPRequestHandler):
    """Serves a folder of updates, and keeps what each device last reported."""

    reports: dict = {}  # noqa: RUF012 (of all requests)

    def do_POST(self):
        """Take a device's report."""
        report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.reports[report["device"]] = report
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        """Say nothing about requests."""


class Device:
    """Asks the server for news, and keeps those that are signed, newer, and do no harm."""

    def __init__(self, name, bundle, server, public):
        self.name, self.server, self.public = name, server, public
        self.runtime = edgetl.load(bundle)

    @property
    def applied(self):
        """Number of the last update that was taken; the bundle knows it."""
        update = self.runtime.bundle.manifest.update
        return 0 if update is None else update.applied

    def poll(self):
        """Ask once. A real device does so every few hours, each at a time of its own."""
        try:
            newest = json.loads(self.fetch("newest.json"))
            said = "nothing new"
            if newest["number"] > self.applied:
                said = self.take(self.fetch(newest["file"]))
            self.report(said)
        except (OSError, ValueError, KeyError, TypeError):
            return  # no way to the server, or no sense from it: the next time will do

    def fetch(self, file):
        """Download a file."""
        with urllib.request.urlopen(f"{self.server}/{file}", timeout=5) as answer:
            return answer.read(MOST_BYTES)

    def take(self, data):
        """Apply an update, whole or not at all; take it back if known things are known no more."""
        try:
            update = self.runtime.apply(data, trust=self.public)
        except (EdgetlError, ValueError) as error:
            return f"refused: {error}"
        before, after = update.accuracy_before, update.accuracy_after
        if after is not None and before - after > WORST_FALL:
            self.runtime.undo()
            kept = f"{update.guard_samples} kept samples"
            return f"taken back: of {kept} {after:.0%} were right, not {before:.0%}"
        return "taken"

    def report(self, said):
        """Tell the server what this device now has."""
        state = {"update": self.applied, "labels": self.runtime.labels}
        content = json.dumps({"device": self.name, **state, "said": said}).encode()
        urllib.request.urlopen(f"{self.server}/report", data=content, timeout=5).close()


def fit(photos, output):
    """Adapt the network to photos by their class."""
    shown = [(label, photo) for label, some in photos.items() for photo in some]
    data = [photo for _, photo in shown], [label for label, _ in shown]
    return edgetl.adapt(data, backbone="edgetl_nano", head="ridge", output=output)


def publish(folder, shipped, updated, number, key):
    """Write the update from what was shipped, and only then say that it is the newest."""
    delta = edgetl.diff(shipped, updated, generation=number)
    size = delta.save(folder / f"{number}.etlh", sign=key)
    index = folder / "newest.part"
    index.write_text(json.dumps({"number": number, "file": f"{number}.etlh"}))
    index.replace(folder / "newest.json")
    print(f"\nupdate {number}: {size:,} bytes, {len(delta.labels)} classes")


def ask(devices):
    """Let every device poll once, and show what the server then knows."""
    Channel.reports.clear()
    for device in devices:
        device.poll()
        report = Channel.reports.get(device.name)
        found = "nothing heard"
        if report is not None:
            found = f"{len(report['labels'])} classes, last update {report['update']}"
            found = f"{found:<26} {report['said']}"
        print(f"  {device.name}  {found}")


def changed_on_its_way(fetch, file):
    """A download with one bit changed."""
    data = bytearray(fetch(file))
    if file.endswith(".etlh"):
        data[len(data) // 2] ^= 1
    return bytes(data)


def play(folder):
    channel, key, public = folder / "channel", folder / "key.pem", folder / "pub.pem"
    channel.mkdir()
    generate_keys(key, public)  # the private one never leaves the workstation
    photos = {label: list(part_images(label, "train", 50)) for label in (*CLASSES, FURTHER)}
    known = {label: photos[label] for label in CLASSES}
    shipped = fit(known, folder / "shipped.edgetl")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Channel, directory=channel))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    devices = []
    for name in (f"device-{number}" for number in range(1, 6)):
        bundle = shipped.save(folder / name).path
        devices.append(Device(name, bundle, address, public))

    further = fit(photos, folder / "further.edgetl")
    devices[2].server = "http://127.0.0.1:9"  # where nobody answers
    devices[3].fetch = partial(changed_on_its_way, devices[3].fetch)
    publish(channel, shipped, further, 1, key)
    ask(devices)

    wrong = dict(zip(reversed(CLASSES), known.values(), strict=True))  # whoever named the folders
    mistake = fit({**wrong, FURTHER: photos[FURTHER]}, folder / "mistake.edgetl")
    del devices[3].fetch  # from here on nothing is changed
    publish(channel, shipped, mistake, 2, key)
    ask(devices)

    devices[2].server = address
    publish(channel, shipped, further, 3, key)  # numbers only rise, also to go back
    ask(devices)
    print("\nthe next day")
    ask(devices)
    server.shutdown()
    server.server_close()
    parts = list(part_images(FURTHER, "test", 10))
    answers = [device.runtime.predict(parts) for device in devices]
    found = [sum(answer.label == FURTHER for answer in some) for some in answers]
    print(f"\nof {len(parts)} parts with rust, called so: {', '.join(map(str, found))}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        play(Path(folder))
