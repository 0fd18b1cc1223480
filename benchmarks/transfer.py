"""The transfer toolbox's claims on real photos, section by section (``--only``).

Each section is a file ``transfer_<section>.py`` beside this one, with a function ``measure`` that
returns figures and bars, and a docstring that states both before anything is measured.
"""

from __future__ import annotations

import importlib
import sys
import time

from measure import Bar, finish, machine, parser

SECTIONS = {
    "select": "transfer_select",
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
        print(figures["machine"], flush=True)
    for name in arguments.only or SECTIONS:
        section = importlib.import_module(SECTIONS[name])
        start = time.perf_counter()
        figures[name], own = section.measure()
        bars += own
        if not arguments.json:
            print(f"\n{name} ({time.perf_counter() - start:.0f} s)\n{section.table(figures[name])}")
    return finish(figures, bars, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
