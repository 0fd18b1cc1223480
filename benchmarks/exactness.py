"""The compiled kernel beside Pillow's resize on random photos: how many differ in any bit.

Sizes, crops, filters, layouts, types, strides and parts of photos are drawn at random, most photos
small, one in fifty of up to 3000 pixels a side. Every instruction set of the machine runs the same
cases. The tests run fewer of them.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import numpy as np
from measure import Bar, finish, machine, parser

from edgetl import native

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "native"))

from exact import Case, expected, random_case

SHOWN = 5
"""Mismatches that are described, for each instruction set."""


def draw(rng: np.random.Generator) -> Case:
    chance = rng.random()
    if chance < 0.02:
        return random_case(rng, longest=3000, most=320)
    if chance < 0.2:
        return random_case(rng, longest=500, most=260)
    return random_case(rng, longest=100, most=80)


def main() -> int:
    command = parser(__doc__)
    command.add_argument("--cases", type=int, default=10_000)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--isa", nargs="*", default=list(native.instruction_sets()))
    arguments = command.parse_args()

    rng = np.random.default_rng(arguments.seed)
    wrong: dict[str, int] = dict.fromkeys(arguments.isa, 0)
    for _ in range(arguments.cases):
        case = draw(rng)
        wanted = expected(case.image, case.definition)
        for isa in arguments.isa:
            actual = case.run(isa)
            if actual.dtype == wanted.dtype and np.array_equal(actual, wanted):
                continue
            wrong[isa] += 1
            if wrong[isa] <= SHOWN:
                sys.stderr.write(f"{isa}: {case}\n")
    figures = {
        "machine": f"{machine('numpy', 'pillow')}, {platform.machine()}",
        "seed": arguments.seed,
        "cases": arguments.cases,
        "mismatches": wrong,
    }
    if not arguments.json:
        sys.stdout.write(f"{figures['machine']}\n")
        for isa, count in wrong.items():
            sys.stdout.write(f"{isa:12} {arguments.cases} cases, {count} mismatches\n")
    bars = [Bar(f"mismatches on {isa}", count, "<=", 0) for isa, count in wrong.items()]
    return finish(figures, bars, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
