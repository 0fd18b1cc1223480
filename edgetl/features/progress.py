"""A line on stderr that says how far a long job is. It knows nothing about the job."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_EVERY_TTY, _EVERY_LOG = 0.2, 10.0  # seconds


class Progress:
    """Count, rate and time left: one line rewritten on a terminal, else a line every 10 seconds.

    Args:
        total: How many there are to do.
        what: The plural noun of the line, such as ``"photos"``.
        stream: Where to write; stderr if None.
    """

    def __init__(self, total: int, what: str, *, stream: TextIO | None = None) -> None:
        self._total = total
        self._what = what
        self._stream = sys.stderr if stream is None else stream
        self._tty = self._stream.isatty()
        self._started = self._shown = time.perf_counter()
        self._width = 0

    def update(self, done: int) -> None:
        """Show the line if it is time to."""
        now = time.perf_counter()
        if now - self._shown >= (_EVERY_TTY if self._tty else _EVERY_LOG):
            self._shown = now
            self._write(done, now)

    def finish(self, done: int) -> None:
        """Show the last line, in any case."""
        self._write(done, time.perf_counter())
        if self._tty:
            self._stream.write("\n")
            self._stream.flush()

    def _write(self, done: int, now: float) -> None:
        seconds = max(now - self._started, 1e-9)
        rate = done / seconds
        if done >= self._total:
            left = f"in {_clock(seconds)}"
        elif rate > 0:
            left = f"{_clock((self._total - done) / rate)} left"
        else:
            left = "starting"
        line = f"{done:,} of {self._total:,} {self._what}, {rate:.0f}/s, {left}"
        if self._tty:
            self._stream.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._stream.write(line + "\n")
        self._stream.flush()


def _clock(seconds: float) -> str:
    """``59 s``, ``1:00``, ``1:00:00``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
