"""The transfer toolbox's claims on real photos, section by section (``--only``).

Each section is a file ``transfer_<section>.py`` beside this one, with a function ``run`` that takes
the arguments, prints its figures unless ``--json`` was given, and returns them with its bars; its
docstring states the bars.
"""

from __future__ import annotations

import importlib
import sys
import time

from measure import Bar, finish, machine, parser

SECTIONS = {
    "select": "transfer_select",
    "fewshot": "transfer_fewshot",
    "zeroshot": "transfer_zeroshot",
    "groups": "transfer_groups",
    "explore": "transfer_explore",
    "reward": "transfer_reward",
    "distill": "transfer_distill",
    "shift": "transfer_shift",
    "prefix": "transfer_prefix",
}
"""Name of a section to the module that measures it."""


def main() -> int:
    """Measure the sections that were asked for; 1 if a bar does not hold."""
    options = parser(__doc__)
    options.add_argument("--only", choices=tuple(SECTIONS), action="append", help="a section")
    arguments = options.parse_args()
    packages = ("numpy", "scikit-learn", "torch", "timm", "torchvision", "onnxruntime")
    figures: dict = {"machine": machine(*packages)}
    bars: list[Bar] = []
    if not arguments.json:
        print(f"{figures['machine']}\n", flush=True)
    for name in arguments.only or SECTIONS:
        start = time.perf_counter()
        figures[name], own = importlib.import_module(SECTIONS[name]).run(arguments)
        bars += own
        if not arguments.json:
            print(f"{name}: {time.perf_counter() - start:.0f} s\n", flush=True)
    return finish(figures, bars, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
