"""A line on the terminal for work that reports no progress: that it goes on, and for how long.

It knows nothing about the work, and writes nothing where stderr is no terminal.
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TextIO

_FRAMES = "|/-\\"
_EVERY = 0.2  # seconds


class Spinner:
    """A context manager that shows a turning sign and the elapsed time while its body runs.

    The line is rewritten by a thread of its own, and the last one stays: ``WHAT: 12.3 s``, or
    ``WHAT: failed after 12.3 s``.

    Args:
        what: What goes on, such as ``"compiling with tensorrt 10.9"``.
        enabled: False for silence.
        stream: Where to write; stderr if None.
    """

    def __init__(self, what: str, *, enabled: bool = True, stream: TextIO | None = None) -> None:
        self._what = what
        self._stream = sys.stderr if stream is None else stream
        self._enabled = enabled and self._stream.isatty()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._started = 0.0
        self._width = 0

    def __enter__(self) -> Spinner:
        """Start."""
        self._started = time.perf_counter()
        if self._enabled:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, and leave the last line."""
        if not self._enabled:
            return
        self._stop.set()
        self._thread.join()
        seconds = time.perf_counter() - self._started
        self._write(f"{self._what}: {'' if kind is None else 'failed after '}{seconds:.1f} s")
        self._stream.write("\n")
        self._stream.flush()

    def _spin(self) -> None:
        turn = 0
        while True:
            seconds = time.perf_counter() - self._started
            self._write(f"{_FRAMES[turn % len(_FRAMES)]} {self._what}: {seconds:.0f} s")
            turn += 1
            if self._stop.wait(_EVERY):
                return

    def _write(self, line: str) -> None:
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()
        self._width = len(line)
