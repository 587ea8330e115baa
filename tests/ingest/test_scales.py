from __future__ import annotations

import math
import random
from decimal import Decimal
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpu_pipeline.ingest._raw import Units
from gpu_pipeline.ingest._scales import OffStepError, finest, merged, step_of, to_units


def floats(*texts: str, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor([float(text) for text in texts], dtype=torch.float64).to(dtype)


def places_of(text: str) -> int:
    return max(0, -Decimal(text).normalize().as_tuple().exponent)


@given(st.lists(st.decimals("0.00000001", "99999", places=8), min_size=1, max_size=20))
def test_finest_is_what_decimal_says(values: list[Decimal]) -> None:
    column = floats(*map(str, values))
    places = finest(column)
    assert places == max(places_of(str(value)) for value in values)
    assert to_units(column, step_of(places)).tolist() == [int(value.scaleb(places)) for value in values]


@given(st.lists(st.integers(1, 2**22 - 1), min_size=1, max_size=30), st.integers(0, 6))
def test_float32_is_compared_in_float32(numbers: list[int], places: int) -> None:
    exact = [Decimal(number).scaleb(-places) for number in numbers]
    column = floats(*map(str, exact), dtype=torch.float32)
    assert to_units(column, step_of(places)).tolist() == numbers
    assert finest(column) <= places


@given(st.lists(st.integers(-(2**52), 2**52), min_size=1), st.integers(0, 12), st.integers(0, 5))
def test_units_keep_their_decimals(numbers: list[int], places: int, finer: int) -> None:
    column = Units(torch.tensor(numbers), step_of(places))
    found = finest(column)
    assert found == max(places_of(str(Decimal(number).scaleb(-places))) for number in numbers)
    wanted = [number * 10**finer for number in numbers]
    if max(map(abs, wanted)) < 2**53:
        assert to_units(column, step_of(places + finer)).tolist() == wanted


def test_places_only_grow() -> None:
    assert finest(floats("1", "2"), places=3) == 3
    assert finest(torch.empty(0, dtype=torch.float64), places=2) == 2
    assert finest(torch.tensor([float("nan"), float("inf"), 0.5])) == 1


@pytest.mark.parametrize(
    ("step", "values"),
    [("0.25", ["4750.25", "4751", "0.5"]), ("0.05", ["0.05", "10.15", "99999.95"]), ("5", ["15", "20", "5"])],
)
def test_steps_that_are_no_power_of_ten(step: str, values: list[str]) -> None:
    units = to_units(floats(*values), Decimal(step))
    assert units.tolist() == [int(Fraction(value) / Fraction(step)) for value in values]


def test_steps_against_fractions_at_random() -> None:
    draw = random.Random(5)
    for step in ("0.25", "0.05", "0.0005", "12.5", "0.03"):
        numbers = [draw.randrange(1, 10**9) for _ in range(500)]
        column = floats(*(str(Decimal(number) * Decimal(step)) for number in numbers))
        assert to_units(column, Decimal(step)).tolist() == numbers


@pytest.mark.parametrize(
    ("values", "step", "rule"),
    [
        (floats("1.5", "1.26"), "0.25", "is no multiple of the step 0.25"),
        (
            floats("1.5", "123456789.12345678"),
            "0.00000001",
            "has more digits than float64 holds at the step 0.00000001",
        ),
        (floats("1.5", "1.26", dtype=torch.float32), "0.25", "is no multiple of the step 0.25"),
        (floats("1", "200000.01", dtype=torch.float32), "0.01", "has more digits than float32 holds"),
        (Units(torch.tensor([4, 1]), Decimal("0.5")), "2", "is no multiple of the step 2"),
        (Units(torch.tensor([4, 2**53]), Decimal(1)), "1", "is 2^53 steps of 1 or more"),
        (Units(torch.tensor([4, 2**60]), Decimal(1)), "0.001", "does not fit 64 bits"),
    ],
)
def test_what_a_step_does_not_hold(values: torch.Tensor | Units, step: str, rule: str) -> None:
    with pytest.raises(OffStepError) as caught:
        to_units(values, Decimal(step))
    assert rule in str(caught.value)
    assert caught.value.position == 1


def test_floats_that_are_no_decimals() -> None:
    with pytest.raises(OffStepError) as caught:
        finest(torch.tensor([0.5, 1 / 3], dtype=torch.float64))
    assert caught.value.position == 1 and caught.value.value == 1 / 3
    with pytest.raises(OffStepError, match="more than 18 decimal places"):
        finest(Units(torch.tensor([1]), Decimal("1e-19")))


@given(st.integers(1, 10**6), st.integers(0, 6), st.integers(1, 10**6), st.integers(0, 6))
def test_merged_step_is_the_largest_common_one(a: int, i: int, b: int, j: int) -> None:
    first, second = Decimal(a).scaleb(-i), Decimal(b).scaleb(-j)
    common = Fraction(merged(first, second))
    parts = (Fraction(first) / common, Fraction(second) / common)
    assert all(part.denominator == 1 for part in parts)
    assert math.gcd(*(part.numerator for part in parts)) == 1
