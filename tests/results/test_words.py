"""Numbers as people read them never say what the number does not."""

import pytest

from xedge.results import words
from xedge.results.statistics import Estimate


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.123, "12"),
        (0.956, "95.6"),
        (0.9896, "98.96"),  # not 99.0, which it is below
        (0.98999, "98.999"),
        (0.99, "99.0"),
        (0.9904, "99.0"),
        (0.9996, "99.96"),
        (0.99996, "99.996"),
        (1.0, "100"),
    ],
)
def test_a_share_is_rounded_to_no_other_side_of_99(value: float, text: str) -> None:
    assert words.share(value) == text


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (95.6, 93.96, 97.4, "95.6 (94.0–97.4) %"),
        (99.8, 98.951, 99.99, "99.8 (98.95–99.99) %"),
        (100.0, 99.7, 100.0, "100 (99.7–100) %"),
        (99.98, None, None, "99.98 %"),
    ],
)
def test_both_ends_of_an_interval_have_as_many_digits(
    value: float, low: float | None, high: float | None, text: str
) -> None:
    assert words.percentage(Estimate(value, low, high, 10, 5, "")) == text
