from types import ModuleType
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

cuda_twin: ModuleType  # the functions of _cuda, on the host

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
def linear_scores(
    features: NDArray[np.float32],
    coef: NDArray[Any],
    intercept: NDArray[np.float64],
    out: NDArray[np.float64],
    isa: str,
) -> int: ...
def linear_probabilities(
    features: NDArray[np.float32],
    coef: NDArray[Any],
    intercept: NDArray[np.float64],
    temperature: float,
    out: NDArray[np.float64],
    isa: str,
) -> int: ...
def softmax(
    scores: NDArray[np.float64], temperature: float, out: NDArray[np.float64], isa: str
) -> int: ...
def cosine(
    features: NDArray[np.float32],
    rows: NDArray[np.float64],
    middle: NDArray[np.float64] | None,
    scratch: NDArray[np.float64],
    out: NDArray[np.float64],
    isa: str,
) -> int: ...
def nearest(
    features: NDArray[np.float32],
    rows: NDArray[np.float32],
    scratch: NDArray[np.float32],
    indices: NDArray[np.int64],
    similarities: NDArray[np.float64],
    isa: str,
) -> int: ...
def largest(values: NDArray[Any], indices: NDArray[np.int64], found: NDArray[Any]) -> int: ...
def ridge_update(
    inverse: NDArray[np.float64],
    coef: NDArray[np.float64],
    intercept: NDArray[np.float64],
    mean: NDArray[np.float64],
    target_mean: NDArray[np.float64],
    total: NDArray[np.float64],
    x: NDArray[np.float32],
    targets: NDArray[np.float64],
    weight: float,
    scratch: NDArray[np.float64],
    isa: str,
) -> int: ...
def packed_multiply(
    matrix: NDArray[np.float64], vectors: NDArray[np.float64], out: NDArray[np.float64], isa: str
) -> int: ...
def resolvent_update(
    inverse: NDArray[np.float64],
    powers: NDArray[np.float64],
    z: NDArray[np.float64],
    shift: NDArray[np.float64],
    scratch: NDArray[np.float64],
    isa: str,
    before: NDArray[np.float64] | None = None,
) -> int: ...
def softmax_step(
    features: NDArray[np.float32],
    codes: NDArray[np.int64],
    weights: NDArray[np.float64] | None,
    coef: NDArray[np.float64],
    intercept: NDArray[np.float64],
    coef_velocity: NDArray[np.float64] | None,
    intercept_velocity: NDArray[np.float64] | None,
    rate: float,
    l2: float,
    momentum: float,
    scratch: NDArray[np.float64],
    isa: str,
) -> tuple[int, float]: ...
def softmax_descent(
    features: NDArray[np.float32],
    codes: NDArray[np.int64],
    weights: NDArray[np.float64],
    coef: NDArray[np.float32],
    intercept: NDArray[np.float32],
    coef_speed: NDArray[np.float32],
    intercept_speed: NDArray[np.float32],
    coef_average: NDArray[np.float32],
    intercept_average: NDArray[np.float32],
    mean: NDArray[np.float32],
    batch: int,
    spread: float,
    rate: float,
    momentum: float,
    settled: float,
    averaged: float,
    weakest: float,
    strongest: float,
    isa: str,
) -> tuple[int, float]: ...
def pool_float32(
    maps: NDArray[np.float32],
    nhwc: bool,
    eps: float | None,
    out: NDArray[np.float32],
    states: NDArray[np.uint8],
    losses: NDArray[np.float64],
    isa: str,
) -> None: ...
def pool_float16(
    maps: NDArray[np.float32],
    nhwc: bool,
    eps: float | None,
    out: NDArray[np.uint16],
    states: NDArray[np.uint8],
    losses: NDArray[np.float64],
    isa: str,
) -> None: ...
def pool_bfloat16(
    maps: NDArray[np.float32],
    nhwc: bool,
    eps: float | None,
    out: NDArray[np.uint16],
    states: NDArray[np.uint8],
    losses: NDArray[np.float64],
    isa: str,
) -> None: ...
def widen_float16(values: NDArray[np.uint16], out: NDArray[np.float32], isa: str) -> None: ...
def instruction_sets() -> list[str]: ...

class JpegLibrary:
    def __init__(self, path: bytes) -> None: ...

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
    def take(self, help: bool, feeds: bool, seconds: float | None) -> tuple[int, int, Any, str]: ...
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
