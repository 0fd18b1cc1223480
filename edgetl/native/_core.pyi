import numpy as np
from numpy.typing import NDArray

def preprocess(
    image: NDArray[np.uint8],
    out: NDArray[np.float32],
    size: int,
    resize: int,
    bicubic: bool,
    nhwc: bool,
    squash: bool,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    threads: int,
    isa: str,
) -> None: ...
def preprocess_bytes(
    image: NDArray[np.uint8],
    out: NDArray[np.uint8],
    size: int,
    resize: int,
    bicubic: bool,
    squash: bool,
    threads: int,
    isa: str,
) -> None: ...
def linear_probabilities(
    features: NDArray[np.float32],
    coef: NDArray[np.float64],
    intercept: NDArray[np.float64],
    temperature: float,
    out: NDArray[np.float64],
) -> bool: ...
def best_isa() -> str: ...
