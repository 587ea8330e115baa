from __future__ import annotations

import torch
from hypothesis import example, given
from hypothesis import strategies as st

from gpu_pipeline.core.sums import exact_sum

EDGE = 2**63


@given(st.lists(st.integers(-EDGE, EDGE - 1), max_size=50))
@example([EDGE - 1, EDGE - 1, -3, 2**33 - 1])
@example([-EDGE] * 3)
@example([2**61] * 3)
def test_sums_of_any_size_are_exact(values: list[int]) -> None:
    assert exact_sum(torch.tensor(values, dtype=torch.int64)) == sum(values)


@given(st.lists(st.integers(-1000, 1000), max_size=50))
def test_small_sums_are_exact(values: list[int]) -> None:
    assert exact_sum(torch.tensor(values, dtype=torch.int64)) == sum(values)
