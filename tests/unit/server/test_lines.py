from typing import Any

import pytest

from server.lines import HEADER, conclusion, line

FULL = {
    "round": 123, "loss": 0.0123456, "errors": 45, "margin": -0.0123456, "margin_bound": 0.5,
    "certified_angle_deg": 180.0, "true_angle_deg": 0.0123, "test_accuracy": 0.9876,
    "reference_distance": None,
    "seconds": {"total": 12.5},
}  # fmt: skip
EMPTY = FULL | dict.fromkeys(
    ("margin", "margin_bound", "certified_angle_deg", "true_angle_deg", "test_accuracy")
)


@pytest.mark.parametrize("row", [FULL, EMPTY, FULL | {"loss": 123456.789, "round": 100_000}])
def test_lines_are_aligned_with_the_header(row: dict[str, Any]) -> None:
    """Each value ends where its heading ends."""
    ends = [k for k in range(1, len(HEADER) + 1) if HEADER[k - 1] != " " and HEADER[k : k + 1] in ("", " ")]
    text = line(row)
    assert len(text) == len(HEADER)
    assert [k for k in range(1, len(text) + 1) if text[k - 1] != " " and text[k : k + 1] in ("", " ")] == ends


def test_line_and_conclusion_in_words() -> None:
    assert line(FULL).split() == [
        "123", "0.01235", "45", "-0.01235", "0.50000", "180.00°", "0.012°", "98.8%", "12.5000",
    ]  # fmt: skip
    assert line(EMPTY).split()[3:8] == ["-"] * 5
    assert conclusion(FULL) == "true angle 0.012°, certified angle 180.00°"
    assert "true" not in conclusion(EMPTY)
