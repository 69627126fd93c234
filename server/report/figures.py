"""The pictures of one run."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from server.report.chart import Axis, Band, Chart, Line, Values
from server.report.palette import Look, look
from server.report.reading import Run

SECOND, THIRD = Look("ink", ""), Look("grey", "")


def figures(run: Run) -> list[Chart]:
    """Return the pictures that a run has something to show for."""
    return [chart for chart in _figures(run) if any(y is not None for line in chart.lines for y in line.y)]


def _figures(run: Run) -> Iterator[Chart]:
    own = look(run.config["strategy"])
    rounds = run.column("round")

    def line(label: str, values: Values, style: Look = own) -> Line:
        dash = {SECOND: "5 3", THIRD: "2 2.5"}.get(style, "")
        return Line(label, rounds, values, style.colour, dash, style.marker)

    def chart(
        name: str,
        title: str,
        unit: str,
        *lines: Line,
        log: bool = True,
        includes: tuple[float, ...] = (),
        bands: Sequence[Band] = (),
        note: str = "",
    ) -> Chart:
        """Return a chart over the rounds, of those lines that have anything to show."""
        shown = [line for line in lines if any(y is not None for y in line.y)]
        return Chart(
            name,
            title,
            Axis("round", log=True, whole=True),
            Axis(unit, log, includes),
            shown,
            bands,
            note=note,
        )

    true, here = run.column("true_angle_deg"), run.known("true_angle_deg")
    certified = [None if d is None or d >= 180 else d for d in run.column("certified_angle_deg")]
    proved = any(d is not None for d in certified)
    yield chart(
        "angle",
        "Angle to the centralized model",
        "degrees",
        line("certified", certified),
        line("true", true, SECOND),
        bands=[Band("" if here else "it is in here", rounds, true, certified, own.colour)] if proved else (),
        note=("The centralized model is proved to be within the certified angle. " if proved else "")
        + ("The band is what the proof leaves open beyond the true angle." if proved and here else ""),
    )
    yield chart(
        "distance",
        "Distance to the centralized model",
        "‖w − ŵ‖ / ‖ŵ‖",
        line("", run.column("reference_distance")),
    )
    margin, bound = run.column("margin"), run.column("margin_bound")
    yield chart(
        "margin",
        "Margin, and the bound on every model's",
        "margin",
        line("bound", bound, SECOND),
        line("margin", margin),
        log=False,
        bands=[Band("γ* is in here", rounds, margin, bound, "grey")],
        note="The margin is the smallest over all examples of all clients: below 0, one of them is on the "
        "wrong side. γ* is the best that any linear model can have.",
    )
    yield chart("loss", "Training loss", "mean of the clients' losses", line("", run.column("loss")))
    shares = [None if share is None else 100 * share for share in run.column("test_accuracy")]
    unseen = "On rows that no client has."
    yield chart(
        "accuracy",
        "Held-out accuracy",
        "per cent",
        line("", shares),
        log=False,
        includes=(90, 100),
        note=unseen,
    )
    r2 = line("", run.column("test_r2"))
    yield chart("r2", "Held-out R²", "R²", r2, log=False, includes=(0, 1), note=unseen)
    yield chart(
        "drift",
        "Client drift",
        "degrees",
        line("drift, mean over clients", run.column("drift_deg")),
        line("turn", run.column("turn_deg"), THIRD),
        *(
            replace(line(name, values), dash="", marker="", faint=True)
            for name, values in run.drifts().items()
        ),
        note="Drift: the angle between a client's local model and the new global one; thin, each client's. "
        "Turn: between the old global model and the new one.",
    )
    yield chart(
        "seconds",
        "Seconds a round",
        "seconds",
        line("whole round", run.column("seconds", "total")),
        line("clients", run.column("seconds", "clients"), SECOND),
        line("combine", run.column("seconds", "combine"), THIRD),
        note="Clients: from the first message sent to the last reply received.",
    )
