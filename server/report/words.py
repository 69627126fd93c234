"""What a run has shown, in words."""

import math

from server.report.reading import Row, Run

STOPPED = {
    "rounds": "all rounds done",
    "certified-angle": "stopped: certified to be near enough",
    "not-separable": "stopped: the data cannot be separated",
    "interrupted": "interrupted",
    "failed": "failed",
    "": "no end is recorded: it goes on still, or was killed",
}


def degrees(value: float | None) -> str:
    """Write an angle; a dash where it is not known."""
    if value is None:
        return "–"
    return f"{value:.2f}°" if value >= 0.1 else f"{value:.2g}°"


def number(value: float | None, digits: int = 4) -> str:
    """Write a number; a dash where it is not known."""
    return "–" if value is None else f"{value:.{digits}g}"


def counted(count: int, noun: str) -> str:
    """Write ``1 round``, ``2 rounds``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def proved(run: Run) -> list[str]:
    """Say what the run has proved of its model, then what it only measured, sentence by sentence."""
    last = run.rows[-1] if run.rows else None
    if not run.has_margin:
        said = ["Nothing is proved: the squared loss has no margin, and without one there is no certificate."]
    elif run.stopped_by == "not-separable" or (last and last["certified_angle_deg"] is None):
        said = [
            "It is proved that no linear model separates the data of all clients: there is no max-margin "
            "model to be close to, and nothing to certify."
        ]
    elif last:
        said = [_certificate(run, last), _best_margin(last)]
    else:
        said = ["Nothing is proved: no round was completed."]
    return [*said, *(_measured(last) if last else ()), *_why(run)]


def is_certified(run: Run) -> bool:
    """Whether the last model has a certificate."""
    return bool(run.rows) and (run.rows[-1]["certified_angle_deg"] or 180.0) < 180


def _certificate(run: Run, last: Row) -> str:
    """Say how close the last model is proved to be, and the best one where that is closer."""
    angle, number = last["certified_angle_deg"], last["round"]
    if angle >= 180 and last["missing"]:
        return (
            f"No angle is proved of the model of round {number}: {', '.join(last['missing'])} did not "
            "measure it, and its smallest margin is not known without."
        )
    if angle >= 180:
        wrong = counted(last["errors"], "training example")
        return (
            f"No angle is proved yet: after round {number} the model has {wrong} on the wrong side"
            if last["errors"]
            else f"No angle is proved yet: after round {number} the smallest margin is too close to 0"
        ) + ", and only a model that separates all of them can be certified."
    said = (
        f"It is proved, without a look at the data, that the model of round {number} is within "
        f"{degrees(angle)} of the centralized one: the max-margin model of all clients' data together."
    )
    kept = next((row for row in run.rows if row["round"] == run.summary.get("best_round")), last)
    best = kept["certified_angle_deg"] or 180.0
    if best < 0.99 * angle:
        said += f" Closer still is best.npz, of round {kept['round']}: {degrees(best)}."
    return said


def _best_margin(last: Row) -> str:
    """Say between which numbers the best margin is proved to lie."""
    reached, bound = last["margin"], last["margin_bound"]
    if bound is None:
        return "No bound on the margin is known yet."
    if reached is None or reached <= 0:
        return f"No linear model has a margin above {bound:.5g} on these data."
    digits = max(5, min(12, 2 + math.ceil(-math.log10(max(1 - reached / bound, 1e-12)))))  # tells them apart
    low, high = f"{reached:.{digits}g}", f"{bound:.{digits}g}"
    where = f"is {low}, to all these digits" if low == high else f"lies between {low} and {high}"
    return f"The data are linearly separable, and the best margin γ* of any linear model {where}."


def _measured(last: Row) -> list[str]:
    """Say what comparing with the centralized model has shown, where it is known."""
    if last["reference_distance"] is not None:
        gap = number(last["reference_distance"], 2)
        return [f"Measured, not proved: ‖w − ŵ‖ is {gap} of ‖ŵ‖, the centralized model."]
    if last["true_angle_deg"] is not None:
        angle = degrees(last["true_angle_deg"])
        return [f"Measured, because the centralized model is known here: the true angle is {angle}."]
    return []


def _why(run: Run) -> list[str]:
    """Say why a run ended early, in the words that it left."""
    error = str(run.summary.get("error", ""))
    return [f"It ended early: {error}"] if error and run.stopped_by != "interrupted" else []
