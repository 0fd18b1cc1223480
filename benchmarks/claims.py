"""The README's table of measured claims, made from what the benchmarks printed.

    python benchmarks/claims.py            # writes the table into README.md
    python benchmarks/claims.py --check    # exits with 1 where the README says something else

`claims_shown.py`, `claims_shipped.py` and `claims_nano.py` say where each figure is found; no
figure is typed in. A place that is not found, or found twice, is an error, so that no claim
outlives the line it was read from. This measures nothing and knows nothing of what figures mean.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from claims_nano import NANO
from claims_shipped import SHIPPED
from claims_shown import ADAPTED, Claim

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- claims:begin -->", "<!-- claims:end -->"


class Number(float):
    """A figure as printed: as it stands without a format; ``%`` after a space, ``p`` for points."""

    text: str

    def __new__(cls, text: str) -> Number:
        """The number that `text` is."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __format__(self, form: str) -> str:
        if not form:
            return self.text
        if form.endswith("p"):
            return f"{100 * self:{form[:-1]}f}"
        return super().__format__(form).replace("%", " %")


def only(pattern: str, text: str, file: str) -> re.Match[str]:
    """The one match of `pattern`.

    Raises:
        LookupError: There is none, or there are several.
    """
    found = list(re.finditer(pattern, text, re.MULTILINE))
    if len(found) != 1:
        raise LookupError(f"{file}.txt has {len(found)} places, not one, that match {pattern!r}")
    return found[0]


def groups_of(claim: Claim, text: str) -> dict[str, Number | str]:
    """Every named group of a claim's patterns, numbers as `Number`."""
    groups: dict[str, str] = {}
    for pattern in claim.found:
        for name, value in only(pattern, text, claim.file).groupdict().items():
            if groups.setdefault(name, value) != value:
                raise LookupError(f"{claim.file}.txt: {name} is {groups[name]} and {value}")
    plain = r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?"
    return {k: Number(v) if re.fullmatch(plain, v) else v for k, v in groups.items()}


def bar_of(name: str, form: str, text: str, file: str) -> str:
    """A bar in words: its value, its limit, and whether it was reached."""
    line = rf"^{name}: (\S+) (<=|>=) (\S+) (holds|DOES NOT HOLD)$"
    value, relation, limit, verdict = only(line, text, file).groups()
    at = "at least" if relation == ">=" else "at most"
    words = form.format(value=Number(value), limit=Number(limit), at=at)
    return f"{words}: {'reached' if verdict == 'holds' else '**not reached**'}"


def machine_of(text: str) -> str:
    """The processor and its cores as `measure.machine` prints them, or that it is not recorded."""
    found = re.findall(r"^(?:machine +)?(\S.*?, \d+ cores), Python \d", text, re.MULTILINE)
    return found[0] if len(set(found)) == 1 else "not recorded"


def table(results: Path) -> str:
    """The table and the machines, as Markdown.

    Raises:
        LookupError: A claim's place is not there, or there are several.
    """
    rows = [
        "| what | edgetl | beside it | our own bar | result, machine |",
        "|---|---|---|---|---|",
    ]
    machines: dict[str, str] = {}
    for claim in (*NANO, *ADAPTED, *SHIPPED):
        text = (results / f"{claim.file}.txt").read_text(encoding="utf-8")
        groups = groups_of(claim, text)
        said = [bar_of(name, form, text, claim.file) for name, form in claim.bars]
        if claim.faster is not None:
            slow, fast, peer = claim.faster
            times = float(groups[slow]) / float(groups[fast])
            said.append(f"{times:.3g} times as fast as {peer}, no bar")
        mark = machines.setdefault(machine_of(text), chr(ord("A") + len(machines)))
        cells = [
            claim.what.format_map(groups),
            claim.ours.format_map(groups),
            claim.peer.format_map(groups) or "-",
            "; ".join(said) or "no bar",
            f"[{claim.file}](benchmarks/results/{claim.file}.txt), {mark}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    where = "; ".join(f"{mark}: {name}" for name, mark in machines.items())
    printed = "\n".join(path.read_text(encoding="utf-8") for path in results.glob("*.txt"))
    reached = len(re.findall(r"(?<!DOES) holds$", printed, re.MULTILINE))
    missed = len(re.findall(r" DOES NOT HOLD$", printed, re.MULTILINE))
    return "\n".join(
        [
            *rows,
            "",
            f"Machines as the files name them: {where}. Of all bars in [benchmarks/results]"
            f"(benchmarks/results), {reached} are reached and {missed} are not.",
        ]
    )


def replaced(readme: str, new: str) -> str:
    """The README with the table between its two marks.

    Raises:
        LookupError: One of the marks is not there exactly once.
    """
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise LookupError(f"README.md needs one line {BEGIN} and one line {END}")
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{new}\n{END}{rest.split(END)[1]}"


def main() -> int:
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("--check", action="store_true", help="change nothing; 1 if it differs")
    command.add_argument("--readme", type=Path, default=ROOT / "README.md")
    command.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = command.parse_args()
    old = arguments.readme.read_text(encoding="utf-8")
    try:
        new = replaced(old, table(arguments.results))
    except (LookupError, OSError) as error:
        print(f"claims: {error}", file=sys.stderr)
        return 1
    if arguments.check and new != old:
        print("claims: README.md differs; run python benchmarks/claims.py", file=sys.stderr)
        return 1
    if new != old:
        arguments.readme.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
