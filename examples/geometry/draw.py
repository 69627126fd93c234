"""Draw a federation in the plane: its data, and the way of its model among the clients' constraints.

    python examples/geometry/draw.py docs/images/geometry.svg

from the top of the checkout.  Data and configuration are those of ``examples/geometry/geometry.toml``.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

from client.app import app as client_app
from client.dataset import node_config
from common import datafiles
from common.config import Config, read
from common.labels import signed
from common.reference import max_margin
from common.solution import Answer
from localgd import Callback, InProcessGrid, ModifiedLocalGD, SolverSettings, handshake
from server.report.palette import LIGHT
from strategies import Costs, Turnout

Vector = NDArray[np.float64]
To = Callable[[Vector], Vector]

CLASSES = ("minus", "plus")
COLOURS = {"east": LIGHT["blue"], "north": LIGHT["vermillion"]}
EXACT = LIGHT["green"]
PULLS = (1, 3, 10)
"""The rounds whose local solves are drawn."""

MARKED = (1, 3, 10, 30, 100)
SIZE = 400.0
LEFT, RIGHT = 14.0, 444.0  # where the two panels begin
DATA, WEIGHTS = ((-4.7, -4.7), (4.7, 4.7)), ((-0.3, -0.25), (0.95, 1.0))


class Way(Callback):
    """Remember every global model and the local models that it was combined from."""

    def __init__(self) -> None:
        self.models: list[Vector] = []
        self.local: list[dict[str, Vector]] = []
        self._now: dict[str, Vector] = {}

    def answered(self, number: int, weights: Vector, answer: Answer) -> None:
        """Take a client's model; the last message asks for none."""
        if answer.solutions:
            self._now[answer.client] = answer.centres[0] + answer.solutions[0].displacement

    def combined(
        self, number: int, weights: Vector, dual_mass: float, turnout: Turnout, costs: Costs
    ) -> None:
        """Take the model that they were combined to."""
        self.models.append(weights)
        self.local.append(self._now)
        self._now = {}


def main(out: Path) -> None:
    """Run the federation and write the picture."""
    config = Config.of(read(Path(__file__).with_name("geometry.toml"), ()))
    files = sorted(Path(__file__).parent.joinpath("data").glob("*.csv"))
    rows = {file.stem: signed((data := datafiles.read(file)).X, data.y, CLASSES) for file in files}
    way, norm = run(config, files)
    exact = direction(np.vstack(list(rows.values())))
    models = [model / norm for model in way.models]  # for the rows as they are in the files
    local = [{name: model / norm for name, model in own.items()} for own in way.local]
    parts = [*data_panel(files, rows, exact), *weights_panel(rows, models, local, exact)]
    out.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {RIGHT + SIZE + LEFT:g} {SIZE + 66:g}" '
        "style=\"font:13px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif\">\n"
        f'<rect width="100%" height="100%" fill="{LIGHT["paper"]}"/>\n' + "\n".join(parts) + "\n</svg>\n",
        encoding="utf-8",
    )


def run(config: Config, files: Sequence[Path]) -> tuple[Way, float]:
    """Run the configuration over one client for each file; return the models and the rows' scale."""
    grid = InProcessGrid(client_app, [node_config(file, "label", None) for file in files], {})
    settings = SolverSettings(solver=config.solver, local_steps=config.local_steps)
    federation = handshake(grid, grid.get_node_ids(), settings, config.intercept, config.scale)
    strategy, way = ModifiedLocalGD(settings=settings, federation=federation), Way()
    start = ArrayRecord({"weights": Array(np.zeros(federation.shape))})
    strategy.start(grid, start, config.num_server_rounds, callbacks=[way])
    return way, federation.norm


def direction(rows: Vector) -> Vector:
    """Return the shortest model with margins of at least 1."""
    reference = max_margin(rows)
    assert reference is not None, "the data are separable"
    return reference.weights


def data_panel(files: Sequence[Path], rows: dict[str, Vector], exact: Vector) -> Iterable[str]:
    """Draw the examples, each client's own max-margin direction, and that of all together."""
    to = onto(*DATA, left=LEFT)
    yield title(LEFT, "The data of two clients, and max-margin directions")
    unit, gap = exact / np.linalg.norm(exact), 1 / float(np.linalg.norm(exact))
    along = 9 * np.array([-unit[1], unit[0]])
    band = clipped(DATA, [(unit, -gap), (-unit, -gap)])
    yield polygon(map(to, band), f"fill:{EXACT};fill-opacity:.10")
    yield line(*ends(DATA, -along, along, to), f"stroke:{EXACT};stroke-width:1.5;stroke-dasharray:6 4")
    for file in files:
        data, colour = datafiles.read(file), COLOURS[file.stem]
        for x, label in zip(data.X, data.y, strict=True):
            fill = colour if label == "plus" else LIGHT["paper"]
            yield dot(to(x), 5, f"fill:{fill};stroke:{colour};stroke-width:2")
    for name, own in rows.items():
        yield from arrow(to, 2.1 * normalised(direction(own)), COLOURS[name], f"{name} alone")
    yield from arrow(to, 2.6 * unit, EXACT, "all together", 3.5)
    yield note(LEFT, "Filled: plus, hollow: minus. No example lies in the strip.")


def weights_panel(
    rows: dict[str, Vector], models: Sequence[Vector], local: Sequence[dict[str, Vector]], exact: Vector
) -> Iterable[str]:
    """Draw what each client accepts, the way of the global model, and the local solves of a few rounds."""
    to = onto(*WEIGHTS, left=RIGHT)
    yield title(RIGHT, "Models: ŵ is the shortest that both clients accept")
    for name, own in rows.items():
        accepted = clipped(WEIGHTS, [(z, 1.0) for z in own])
        yield polygon(map(to, accepted), f"fill:{COLOURS[name]};fill-opacity:.13")
        yield text(to(accepted.mean(axis=0)), f"{name} accepts", colour=COLOURS[name])
    origin = np.zeros(2)
    for number in PULLS:
        centre = models[number - 2] if number > 1 else origin
        for name, model in local[number - 1].items():
            yield line(to(centre), to(model), f"stroke:{COLOURS[name]};stroke-width:1.6")
            yield dot(to(model), 2.6, f"fill:{COLOURS[name]}")
    way = [origin, *models]
    yield polyline(map(to, way), f"fill:none;stroke:{LIGHT['ink']};stroke-width:2")
    yield text(to(origin) + np.array([-14, 16]), "0")
    for number in MARKED:
        yield dot(to(models[number - 1]), 3.6, f"fill:{LIGHT['ink']}")
        yield text(to(models[number - 1]) + np.array([8, 12]), f"{number}")
    yield dot(to(exact), 6, f"fill:{EXACT};stroke:{LIGHT['paper']};stroke-width:1.5")
    yield text(to(exact) + np.array([-8, -12]), "ŵ", colour=EXACT)
    yield note(RIGHT, "Black: the global model. Thin: local solves in rounds 1, 3, 10.")


def onto(low: Sequence[float], high: Sequence[float], left: float) -> To:
    """Return the map of a box in the plane to its place on the paper."""
    least, span = np.array(low), np.array(high) - np.array(low)

    def to(point: Vector) -> Vector:
        x, y = (point - least) / span
        return np.array([left + SIZE * x, 34 + SIZE * (1 - y)])

    return to


def clipped(box: Sequence[Sequence[float]], halves: Iterable[tuple[Vector, float]]) -> Vector:
    """Return the corners of what a box has in common with half-planes ``z·w ≥ b``, in order."""
    (x0, y0), (x1, y1) = box
    corners = [np.array(p) for p in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
    for z, b in halves:
        kept: list[Vector] = []
        for here, there in zip(corners, corners[1:] + corners[:1], strict=True):
            a, c = float(z @ here) - b, float(z @ there) - b
            if a >= 0:
                kept.append(here)
            if a * c < 0:
                kept.append(here + (there - here) * a / (a - c))
        corners = kept
    return np.array(corners)


def ends(box: Sequence[Sequence[float]], start: Vector, end: Vector, to: To) -> tuple[Vector, Vector]:
    """Return the two ends, on paper, of a line through the origin where it leaves a box around it."""
    largest = max(abs(value) for value in end) / box[1][0]
    return to(start / largest), to(end / largest)


def normalised(vector: Vector) -> Vector:
    return vector / np.linalg.norm(vector)


def arrow(to: To, tip: Vector, colour: str, words: str, width: float = 2.2) -> Iterable[str]:
    start, end = to(np.zeros(2)), to(tip)
    along = normalised(end - start)
    across = np.array([-along[1], along[0]])
    yield line(start, end - 8 * along, f"stroke:{colour};stroke-width:{width:g}")
    yield polygon((end, end - 12 * along + 5 * across, end - 12 * along - 5 * across), f"fill:{colour}")
    level = abs(along[1]) < 0.3
    place = end + (np.array([0, 20]) if level else 9 * along + np.array([0, 4]))
    yield text(
        place, words, colour=colour, anchor="end" if level else "start" if along[0] > 0.3 else "middle"
    )


def title(left: float, words: str) -> str:
    return f'<text x="{left:g}" y="22" style="font-weight:600;fill:{LIGHT["ink"]}">{words}</text>'


def note(left: float, words: str) -> str:
    style = f"font-size:11.5px;fill:{LIGHT['muted']}"
    return f'<text x="{left:g}" y="{SIZE + 54:g}" style="{style}">{words}</text>'


def text(at: Vector, words: str, colour: str = "ink", anchor: str = "start") -> str:
    style = f"fill:{LIGHT.get(colour, colour)};text-anchor:{anchor}"
    halo = f"paint-order:stroke;stroke:{LIGHT['paper']};stroke-width:3px"
    return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" style="{style};{halo}">{words}</text>'


def dot(at: Vector, radius: float, style: str) -> str:
    return f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius:g}" style="{style}"/>'


def line(start: Vector, end: Vector, style: str) -> str:
    return polyline((start, end), style)


def polyline(points: Iterable[Vector], style: str) -> str:
    return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" style="{style}"/>'


def polygon(points: Iterable[Vector], style: str) -> str:
    return polyline(points, style).replace("polyline", "polygon")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/geometry.svg"))
