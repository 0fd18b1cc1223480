"""Teach a bundle a new class from a few photos, see what that did, and save it.

    python examples/learn_on_device.py                        # parts.edgetl learns what rust is
    python examples/learn_on_device.py flowers.edgetl rust rust1.jpg rust2.jpg rust3.jpg

It needs neither torch nor a network: photos go through the bundle's graph, only the head learns.
Without arguments, `adapt_and_predict.py` makes the bundle, and photos are drawn.
"""

import sys

import edgetl
from edgetl.demo.parts import FURTHER, part_images

bundle, label = "parts.edgetl", FURTHER
photos = list(part_images(FURTHER, "train", 8))
if len(sys.argv) > 1:
    bundle, label, *photos = sys.argv[1:]


def shown(shares):
    """Classes with their numbers, to read."""
    return ", ".join(f"{name} {share:.2f}" for name, share in shares)


with edgetl.load(bundle) as device:
    print("before:", shown(device.predict(photos[0]).top(3)))
    update = device.learn(photos, label)
    if not update.kept:
        sys.exit(f"not learned: {update.reason}")
    print("after: ", shown(device.predict(photos[0]).top(3)))

    stats = device.learner.stats
    print(f"{stats.classes} classes, {stats.memory_samples} samples kept")
    if stats.accuracy_after is not None:
        print(f"on kept samples: {stats.accuracy_before:.1%} -> {stats.accuracy_after:.1%}")
    if stats.forgetting:
        print("points lost:", shown(stats.forgetting.items()))

    device.save()  # or device.undo(), or device.save("elsewhere.edgetl")
    print(f"saved as generation {device.learner.generation}")
