"""The nearest rows, by torch and by the kernel's host twin."""

import pytest
import torch

from edgetl.transfer import torch_search
from edgetl.transfer.torch_search import nearest_rows, search_fused, search_product


@pytest.mark.parametrize("ways", [nearest_rows, search_fused, search_product])
def test_all_ways_find_the_same(ways, monkeypatch):
    monkeypatch.setattr(torch_search, "_PRODUCTS", 3000)
    torch.manual_seed(0)
    queries = torch.nn.functional.normalize(torch.randn(19, 40), dim=1)
    memory = torch.nn.functional.normalize(torch.randn(1000, 40), dim=1)
    indices, similarities = ways(queries, memory, 6)
    top = (queries.double() @ memory.double().T).topk(6)
    assert torch.equal(indices, top.indices)
    torch.testing.assert_close(similarities.double(), top.values, rtol=1e-5, atol=1e-6)
    assert similarities.dtype == torch.float32


def test_no_queries():
    indices, similarities = nearest_rows(torch.empty(0, 4), torch.ones(9, 4), 3)
    assert indices.shape == similarities.shape == (0, 3)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="don't fit each other"):
        nearest_rows(torch.ones(2, 4), torch.ones(9, 5), 1)
    with pytest.raises(ValueError, match=r"float32 on cpu, memory torch\.float16"):
        nearest_rows(torch.ones(2, 4), torch.ones(9, 4).half(), 1)
    with pytest.raises(ValueError, match="k must be 1 to 9"):
        nearest_rows(torch.ones(2, 4), torch.ones(9, 4), 10)
