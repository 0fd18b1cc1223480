from typing import Any

import numpy as np
from numpy.typing import NDArray

class Definition:
    def __init__(
        self,
        size: int,
        resize: int,
        bicubic: bool,
        nhwc: bool,
        squash: bool,
        dtype: str,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None: ...

def preprocess(
    image: NDArray[np.uint8],
    out: NDArray[Any],
    definition: Definition,
    threads: int,
    isa: str,
    whole: tuple[int, int] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> None: ...
def needed(height: int, width: int, definition: Definition) -> tuple[int, int, int, int]: ...
def linear_probabilities(
    features: NDArray[np.float32],
    coef: NDArray[np.float64],
    intercept: NDArray[np.float64],
    temperature: float,
    out: NDArray[np.float64],
) -> bool: ...
def best_isa() -> str: ...

class JpegLibrary:
    def __init__(self, path: str) -> None: ...
    @property
    def name(self) -> str: ...

def decode_jpeg(
    library: JpegLibrary, file: bytes, divisor: int, top: int, left: int, out: NDArray[np.uint8]
) -> str | None: ...
def scan_jpeg(file: bytes) -> tuple[int, int, int] | None: ...
def prepare(
    definition: Definition,
    scaled: bool,
    isa: str,
    jpeg: JpegLibrary | None,
    files: list[bytes],
    out: NDArray[Any],
    threads: int,
) -> list[str]: ...

class Loader:
    def __init__(
        self,
        definition: Definition,
        scaled: bool,
        isa: str,
        jpeg: JpegLibrary | None,
        batch: int,
        buffers: int,
        taken: int,
        queue: int,
        threads: int,
    ) -> None: ...
    def submit(self, id: int, file: bytes, seconds: float | None) -> bool: ...
    def add(self, id: int, file: bytes) -> None: ...
    def add_pixels(self, id: int, pixels: NDArray[np.uint8], declined: bool) -> None: ...
    def take(
        self, help: bool, feeds: bool, seconds: float | None
    ) -> tuple[int, int, Any, str]: ...
    def release(self, buffer: int) -> None: ...
    def drop(self) -> None: ...
    def hungry(self) -> bool: ...
    def fed(self) -> None: ...
    def close(self) -> None: ...
    def stop(self) -> None: ...
    def spent(self) -> tuple[float, float]: ...
    def queued(self) -> int: ...
    def kept(self) -> int: ...
    def memory(self, buffer: int) -> NDArray[np.uint8]: ...
