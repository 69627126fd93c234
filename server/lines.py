"""The direction log as lines of text."""

from collections.abc import Mapping
from typing import Any

Row = dict[str, Any]
"""What is known of one round's model, by the names of ``rounds.jsonl``."""

HEADER = " round        loss  errors    margin     bound  certified      true     test   seconds"


def not_separable(bound: float) -> str:
    """Say in words what a tiny bound proves."""
    return (
        f"the clients' data together are proved not to be linearly separable (no margin above {bound:.1g}): "
        "there is no max-margin model, so margin, bound and certified angle are not given from here on"
    )


def line(row: Mapping[str, Any]) -> str:
    """Return a row as one aligned line under `HEADER`; a dash where nothing is known."""
    test = row.get("test_accuracy")
    scored = _number(row.get("test_r2")).strip() if test is None else f"{100 * test:.1f}%"
    errors = "-" if row["errors"] is None else row["errors"]
    return (
        f"{row['round']:>6} {row['loss']:>11.4g} {errors:>7} {_number(row['margin'])} "
        f"{_number(row['margin_bound'])} {_degrees(row['certified_angle_deg']):>10} "
        f"{_degrees(row['true_angle_deg']):>9} {scored:>8} {row['seconds']['total']:>9.4f}"
        f"{'  missing: ' + ', '.join(row['missing']) if row.get('missing') else ''}"
    )


def conclusion(row: Row) -> str:
    """Say in words what is known of a run's last model."""
    said = []
    if row["reference_distance"] is not None:
        said.append(f"‖w − ŵ‖ is {row['reference_distance']:.2g} of ‖ŵ‖, the centralized model")
    elif row["true_angle_deg"] is not None:
        said.append(f"true angle {_degrees(row['true_angle_deg'])}")
    if row["certified_angle_deg"] is not None:
        said.append(f"certified angle {_degrees(row['certified_angle_deg'])}")
    return ", ".join(said) or f"loss {row['loss']:.4g}"


def _number(value: float | None) -> str:
    return f"{'-' if value is None else format(value, '.5f'):>9}"


def _degrees(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}°" if value >= 0.1 else f"{value:.2g}°"
