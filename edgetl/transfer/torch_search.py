"""The nearest rows of a memory by cosine, by torch: on a GPU by whichever way is faster.

It knows nothing about heads; `edgetl.heads.knn` does the same in numpy for few rows.
"""

from __future__ import annotations

import torch

from edgetl.native import cuda

FUSED_QUERIES = 64
"""Up to so many queries, reading the memory is what takes time, and edgetl's own kernel does it
once for every 16; beyond, tensor cores win, though products are then stored."""

_PRODUCTS = 1 << 28
"""Products stored at a time, where they are: 1 GB of float32."""


def nearest_rows(
    queries: torch.Tensor, memory: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k rows of `memory` with the largest products with each query.

    Args:
        queries: (n, dim) floats; rows of length 1 make the products cosines.
        memory: (rows, dim) of the same type, on the same device.
        k: How many; at most `rows`.

    Returns:
        Numbers of the rows (n, k) int64 and products (n, k) float32, the largest first. Of equal
        products the row that comes first wins in the fused way; in the other, torch decides.

    Raises:
        ValueError: Shapes, types or devices don't fit, or k is out of range.
    """
    if queries.ndim != 2 or memory.ndim != 2 or queries.shape[1] != memory.shape[1]:
        raise ValueError(
            f"queries {tuple(queries.shape)} and memory {tuple(memory.shape)} don't fit each other"
        )
    if queries.dtype != memory.dtype or queries.device != memory.device:
        raise ValueError(
            f"queries are {queries.dtype} on {queries.device}, "
            f"memory {memory.dtype} on {memory.device}"
        )
    if not 1 <= k <= len(memory):
        raise ValueError(f"k must be 1 to {len(memory)}, the rows there are, got {k}")
    fused = (
        memory.device.type == "cuda"
        and 1 <= len(queries) <= FUSED_QUERIES
        and k <= cuda.MAX_NEIGHBOURS
        and queries.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and cuda.available()
    )
    return search_fused(queries, memory, k) if fused else search_product(queries, memory, k)


def search_fused(
    queries: torch.Tensor, memory: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """`nearest_rows` by the kernel of `edgetl.native.cuda`; in host memory by its slow twin."""
    device = memory.device
    indices = torch.empty(len(queries), k, dtype=torch.int64, device=device)
    similarities = torch.empty(len(queries), k, dtype=torch.float32, device=device)
    size = cuda.nearest_workspace(len(queries), len(memory), queries.shape[1], k)
    on_gpu = device.type == "cuda"
    cuda.nearest(
        queries.contiguous(),
        memory.contiguous(),
        indices=indices,
        similarities=similarities,
        workspace=torch.empty(size, dtype=torch.uint8, device=device),
        stream=int(torch.cuda.current_stream(device).cuda_stream) if on_gpu else 0,
    )
    return indices, similarities


def search_product(
    queries: torch.Tensor, memory: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """`nearest_rows` by matrix products and top-k, for as many queries at a time as fit."""
    step = max(_PRODUCTS // len(memory), 1)
    found = [
        torch.topk((queries[start : start + step] @ memory.T).float(), k, dim=1)
        for start in range(0, len(queries), step)
    ]
    if not found:
        return (
            torch.empty(0, k, dtype=torch.int64, device=memory.device),
            torch.empty(0, k, device=memory.device),
        )
    return torch.cat([top.indices for top in found]), torch.cat([top.values for top in found])
