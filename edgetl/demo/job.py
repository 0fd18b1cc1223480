"""The demo: the whole chain on data that needs no network, one function after the other.

Photos are written, a network is adapted to them, exported in int8 and asked; it learns a class more
as on a device, the update is signed and shipped to a second one, and a page tells all of it. Each
step calls what a user would call, and says by which commands it can be done again.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgetl._extras import require
from edgetl.demo.photos import SETS, Amounts, DemoSet, SetName
from edgetl.demo.place import take_folder

BACKBONE = "edgetl_nano"


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Choices of `run_demo`; None for what suits the set.

    Args:
        data: ``"parts"``, a synthetic inspection set, or ``"digits"``, real handwritten ones.
        seed: Of the drawings and of the adaptation.
        train: Photos of each class to adapt to.
        test: Photos of each class to measure on.
        learn: Photos of the further class that the device learns.
        asked: Photos of the further class to measure on.
        verify_seconds: Timed seconds of each contestant of the export's speed gate.
        program: How edgetl is called in the commands that are told.

    Raises:
        ValueError: There is no such set, or a number is too small.
    """

    data: SetName = "parts"
    seed: int = 0
    train: int | None = None
    test: int | None = None
    learn: int = 6
    asked: int = 40
    verify_seconds: float = 1.0
    program: str = "edgetl"

    def __post_init__(self) -> None:
        if self.data not in SETS:
            raise ValueError(f"there is no data {self.data!r}; there are {', '.join(SETS)}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        for name, least in (("train", 5), ("test", 5), ("learn", 1), ("asked", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")

    @property
    def chosen(self) -> DemoSet:
        """The set."""
        return SETS[self.data]

    @property
    def amounts(self) -> Amounts:
        """How many photos of each class there are."""
        return Amounts(
            train=self.chosen.train if self.train is None else self.train,
            test=self.chosen.test if self.test is None else self.test,
            learn=self.learn,
            asked=self.asked,
        )


@dataclass
class Demo:
    """What the steps share: the folder, the options, and what ships once that is known."""

    folder: Path
    options: DemoOptions
    shipped: Path = field(init=False)

    def __post_init__(self) -> None:
        self.shipped = self.adapted

    @property
    def adapted(self) -> Path:
        """The bundle as adapted, in float32."""
        return self.folder / f"{self.options.data}.edgetl"

    @property
    def device(self) -> Path:
        """The copy that learns."""
        return self.folder / "device.edgetl"

    @property
    def second(self) -> Path:
        """The copy that takes the update."""
        return self.folder / "second-device.edgetl"

    @property
    def update(self) -> Path:
        """The signed update."""
        return self.folder / "update.etlh"

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / "report.html"

    def photos(self, where: str, label: str) -> list[Path]:
        """The photos of one class, in order; `where` such as ``"photos/test"``."""
        return sorted((self.folder / where / label).iterdir())


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step did.

    Args:
        name: One or a few words.
        lines: The result, for people.
        figures: The same as plain JSON values.
        commands: What to type to have it done again; none where there is no such command.
        seconds: How long it took.
    """

    name: str
    lines: Sequence[str]
    figures: dict[str, Any]
    commands: Sequence[str] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON types."""
        return {**vars(self), "lines": list(self.lines), "commands": list(self.commands)}


@dataclass(frozen=True, kw_only=True)
class DemoReport:
    """What a demo did.

    Args:
        folder: Where everything lies.
        page: The report in it.
        options: How it was asked for.
        steps: What was done, in order.
        seconds: How long all of it took.
    """

    folder: Path
    page: Path
    options: DemoOptions
    steps: tuple[Step, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON types."""
        return {
            "folder": str(self.folder),
            "report": str(self.page),
            "data": self.options.data,
            "about": self.options.chosen.about,
            "synthetic": self.options.data == "parts",
            "seed": self.options.seed,
            "seconds": self.seconds,
            "steps": [step.to_json() for step in self.steps],
        }


def run_demo(
    folder: str | Path = "edgetl-demo",
    *,
    options: DemoOptions | None = None,
    begun: Callable[[int, int, str], None] = lambda number, count, name: None,
    done: Callable[[int, int, Step], None] = lambda number, count, step: None,
) -> DemoReport:
    """Run the whole chain in a folder; an earlier demo's is replaced.

    Args:
        folder: Where everything is written; new, empty, or an earlier demo's.
        options: Everything else.
        begun: Told the number of a step, how many there are, and what it does, before it begins.
        done: Told the same with the step's result.

    Raises:
        FileExistsError: The folder holds something else; nothing was changed.
        MissingDependencyError: A package is not installed; the message names the extra.
    """
    started = time.perf_counter()
    options = options or DemoOptions()
    check_packages(options)
    demo = Demo(Path(folder), options)
    take_folder(demo.folder)
    from edgetl.demo import steps

    found: list[Step] = []
    for number, (name, act) in enumerate(steps.ALL.items(), 1):
        begun(number, len(steps.ALL), name)
        before = time.perf_counter()
        told = act(demo)
        seconds = time.perf_counter() - before
        commands = [_typed(words, options.program) for words in told.commands]
        found.append(
            Step(
                name=name,
                lines=told.lines,
                figures=told.figures,
                commands=commands,
                seconds=seconds,
            )
        )
        done(number, len(steps.ALL), found[-1])
    return DemoReport(
        folder=demo.folder,
        page=demo.report,
        options=options,
        steps=tuple(found),
        seconds=time.perf_counter() - started,
    )


def _typed(words: Sequence[str | Path], program: str) -> str:
    """A command as it is typed into a shell."""
    first, *rest = map(str, words)
    return shlex.join([program if first == "edgetl" else first, *rest])


def check_packages(options: DemoOptions) -> None:
    """Require what the steps will need, before anything is written.

    Raises:
        MissingDependencyError: Something is not installed.
    """
    needed = ["platformdirs", "onnx", "onnxruntime", "cryptography"]
    for name in [*needed, *(["sklearn"] if options.data == "digits" else [])]:
        require(name, extra="demo")
