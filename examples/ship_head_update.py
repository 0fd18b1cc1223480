"""Send a new class to a device in the field: a few kilobytes, signed, applied whole or not at all.

    python examples/ship_head_update.py                       # drawn parts, later with rust
    python examples/ship_head_update.py flowers-5/ flowers-6/ --backbone mobilenetv2_100

The first folder of class folders is what the device was shipped with; the second has a class more.
The workstation needs `pip install "edgetl[demo]"`, a device `edgetl[ort,sign]`. What a fleet does
with such files shows `fleet_updates.py`.
"""

import argparse
from pathlib import Path

import edgetl
from edgetl.bundle import generate_keys
from edgetl.demo.parts import CLASSES, FURTHER, part_images
from edgetl.errors import SignatureError

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("before", nargs="?", help="photos that the device's bundle is adapted to")
parser.add_argument("after", nargs="?", help="photos with a class more")
parser.add_argument("--backbone", default="edgetl_nano")
parser.add_argument("--weights", help="a local file, in place of the backbone's own")
arguments = parser.parse_args()
if arguments.before and not arguments.after:
    parser.error("both folders are needed, or none")


def drawn(*labels):
    """Photos and their classes."""
    shown = [(label, photo) for label in labels for photo in part_images(label, "train", 30)]
    return [photo for _, photo in shown], [label for label, _ in shown]


# On the workstation, once: a key pair. key.pem never leaves it; pub.pem goes to the devices.
private, public = Path("key.pem"), Path("pub.pem")
if not private.exists():
    generate_keys(private, public)

# On the workstation: the bundle that ships, and months later one that knows a class more. The head
# has to be of the same kind, the backbone the same file.
before, after = arguments.before or drawn(*CLASSES), arguments.after or drawn(*CLASSES, FURTHER)
network = {"backbone": arguments.backbone, "weights": arguments.weights, "head": "softmax"}
shipped = edgetl.adapt(before, output="shipped.edgetl", **network)
edgetl.adapt(after, output="updated.edgetl", **network)
shipped.save("device.edgetl")  # the copy that a device has

update = Path("update.etlh")
delta = edgetl.diff("shipped.edgetl", "updated.edgetl")
size = delta.save(update, sign=private)
print(f"{update}: {size:,} bytes, new: {', '.join(delta.added)}")
print(f"of {len(delta.labels)} classes, {shipped.size / 1e6:.1f} MB stay as they are")

# On a device: the file is checked with the public key before anything in it is looked at.
device = edgetl.load("device.edgetl")
damaged = bytearray(update.read_bytes())
damaged[200] ^= 1
try:
    device.apply(bytes(damaged), trust=public)
except SignatureError as error:
    print(f"refused: {error}")

applied = device.apply(update, trust=public)
print(f"generation {applied.generation}: {', '.join(device.labels)}")
if applied.accuracy_after is not None:
    print(f"accuracy on {applied.guard_samples} kept samples: {applied.accuracy_after:.1%}")
label, photos = delta.added[0], list(part_images(FURTHER, "test", 10))
if arguments.after:
    photos = sorted(Path(arguments.after).rglob(f"{label}/*.*"))[:10]
found = sum(answer.label == label for answer in device.predict(photos))
print(f"of {len(photos)} photos of {label}, {found} are called so")

device.undo()  # or: edgetl rollback device.edgetl
print(f"rolled back: {', '.join(device.labels)}")
