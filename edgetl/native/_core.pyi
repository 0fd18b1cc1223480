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
def instruction_sets() -> list[str]: ...
