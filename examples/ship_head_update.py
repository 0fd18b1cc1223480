"""Send a new class to devices in the field: a few kilobytes, signed, applied whole or not at all.

    python examples/ship_head_update.py flowers-5/ flowers-6/ --weights mobilenetv2_100.safetensors

The first folder of class folders is what the devices were shipped with; the second has a class
more. The workstation needs `pip install "edgetl[train]"`, a device `edgetl[ort,sign]`.
"""

import argparse
from pathlib import Path

import edgetl
from edgetl.bundle import generate_keys
from edgetl.errors import SignatureError

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("before", type=Path, help="photos that the devices' bundle is adapted to")
parser.add_argument("after", type=Path, help="photos with a class more")
parser.add_argument("--backbone", default="mobilenetv2_100")
parser.add_argument("--weights", type=Path, help="a local file; from the model hub if not given")
arguments = parser.parse_args()

# On the workstation, once: a key pair. key.pem never leaves it; pub.pem goes to the devices.
private, public = Path("key.pem"), Path("pub.pem")
if not private.exists():
    generate_keys(private, public)

# On the workstation: the bundle that ships, and months later one that knows a class more. The head
# has to be of the same kind, the backbone the same file.
network = {"backbone": arguments.backbone, "weights": arguments.weights, "head": "softmax"}
shipped = edgetl.adapt(arguments.before, output="shipped.edgetl", **network)
edgetl.adapt(arguments.after, output="updated.edgetl", **network)
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
suffixes = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
folder = next(found for found in sorted(arguments.after.rglob(delta.added[0])) if found.is_dir())
photo = next(file for file in sorted(folder.iterdir()) if file.suffix.lower() in suffixes)
print(f"{photo.name}: {device.predict(photo).label}")

device.undo()  # or: edgetl rollback device.edgetl
print(f"rolled back: {', '.join(device.labels)}")
