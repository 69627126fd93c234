"""What a person sees of a run: pictures, and one page that shows them."""

from logging import WARNING
from pathlib import Path

from flwr.common.logger import log

from common.files import whole
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
        When the directory holds no run.
    OSError
        When it cannot be written.
    """
    run = read(path)
    charts = {chart.name: chart for chart in figures(run)}
    drawn = {name: draw(chart) for name, chart in charts.items()}
    with whole(path / PAGE) as file:
        file.write(page(run, {drawn[name]: chart.note for name, chart in charts.items()}).encode())
    if drawn:
        (path / PLOTS).mkdir(exist_ok=True)
    for old in (path / PLOTS).glob("*.*g"):
        old.unlink()
    for name, svg in drawn.items():
        (path / PLOTS / f"{name}.svg").write_text(standing_alone(svg), encoding="utf-8")
    return [path / PLOTS / f"{name}.svg" for name in drawn]


def leave_report(path: Path) -> None:
    """Write the report of a run that has just ended; if that fails, say so and let the run be."""
    try:
        write_report(path)
    except Exception as error:
        log(WARNING, "no report: %s", error)
