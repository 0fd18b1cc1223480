"""What the benchmarks share: interleaved timing, the machine's name, the bar and the output."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ASSETS = Path(
    os.environ.get("EDGETL_ASSETS", Path(__file__).resolve().parents[2] / "shared" / "assets")
)


@dataclass(frozen=True)
class Bar:
    """A claim: `value` compared with `limit` by `relation`."""

    what: str
    value: float
    relation: str  # "<=" or ">="
    limit: float

    @property
    def holds(self) -> bool:
        """Whether the claim holds."""
        if self.relation == "<=":
            return self.value <= self.limit
        return self.value >= self.limit

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "DOES NOT HOLD"
        return f"{self.what}: {self.value:.4g} {self.relation} {self.limit:g} {verdict}"


def interleaved(contestants: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each contestant, run in turns so that noise meets all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for call in contestants.values():
        call()  # warm
    for _ in range(repeats):
        for name, call in contestants.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def machine(*packages: str) -> str:
    """One line that names the machine and the versions of `packages`."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, Python {platform.python_version()}, {versions}"


def parser(description: str | None) -> argparse.ArgumentParser:
    """A command line with ``--json``."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--json", action="store_true", help="print the figures as JSON")
    return result


def finish(figures: dict, bars: list[Bar], *, as_json: bool) -> int:
    """Print the figures and the bars; 1 if any bar does not hold."""
    if as_json:
        rows = [{**bar.__dict__, "holds": bar.holds} for bar in bars]
        sys.stdout.write(json.dumps({**figures, "bars": rows}, indent=2) + "\n")
    else:
        for bar in bars:
            sys.stdout.write(f"{bar}\n")
    return 0 if all(bar.holds for bar in bars) else 1
