"""What a person sees of a run: pictures, and one page that shows them."""

from collections.abc import Sequence
from logging import WARNING
from pathlib import Path

from flwr.common.logger import log

from common.errors import UserError
from common.files import whole
from server.report.chart import Chart
from server.report.drawing import draw, standing_alone
from server.report.figures import figures
from server.report.reading import read
from server.report.run_page import page

PAGE, PLOTS = "report.html", "plots"


def write_report(path: Path) -> list[Path]:
    """Write ``report.html`` into a run directory, and its pictures into ``plots``; return the pictures.

    Raises
    ------
    UserError
        When the directory holds no run, or one that cannot be read.
    OSError
        When it cannot be written.
    """
    run = read(path)
    try:
        charts = figures(run)
        drawn = write_pictures(path / PLOTS, charts)
        text = page(run, {drawn[chart.name]: chart.note for chart in charts})
    except KeyError as error:
        raise UserError(f"'{path}' has no {error}: another version of localgd has written it") from None
    with whole(path / PAGE) as file:
        file.write(text.encode(errors="replace"))
    return [path / PLOTS / f"{name}.svg" for name in drawn]


def write_pictures(folder: Path, charts: Sequence[Chart]) -> dict[str, str]:
    """Draw charts, write each as an SVG file in place of those that are there, and return them by name."""
    drawn = {chart.name: draw(chart) for chart in charts}
    if drawn:
        folder.mkdir(exist_ok=True)
    for old in folder.glob("*.*g"):
        old.unlink()
    for name, svg in drawn.items():
        (folder / f"{name}.svg").write_text(standing_alone(svg), encoding="utf-8")
    return drawn


def leave_report(path: Path) -> None:
    """Write the report of a run that has just ended; if that fails, say so and let the run be."""
    try:
        write_report(path)
    except Exception as error:
        log(WARNING, "no report: %s", error)
