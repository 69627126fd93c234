"""Draw the pages that the documentation shows: `python docs/images/shots.py`, from the top of the checkout.

Needs Chromium (Debian, Ubuntu: apt-get install chromium).  Writes report-light.png, report-dark.png,
report-phone.png, compare.png and live.svg.
"""

import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from localgd.live import Display, handled_by
from server.events import Began, Measured, tell
from server.lines import HEADER, line

FOLDER = Path(__file__).parent
RUN = ["run", "examples/tissue.toml"]
COMPARE = [
    "compare", "examples/tissue.toml", "--local-steps", "1,10,100",
    "--strategies", "local-gd,modified-local-gd,cutting-plane,flower:FedAvg",
]  # fmt: skip
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
UNTIL = 137
"""The round at which the live display is caught."""


def main() -> None:
    """Make the runs and the pictures."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or sys.exit("no chromium")
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        printed = localgd(*RUN, "--out", str(folder / "first"))
        localgd(*COMPARE, "--out", str(folder / "side-by-side"))
        report, compare = folder / "first" / "report.html", folder / "side-by-side" / "compare.html"
        for name, page, size, dark in (
            ("report-light", report, (1100, 1190), False),
            ("report-dark", report, (1100, 1190), True),
            ("report-phone", report, (400, 1190), False),
            ("compare", compare, (1100, 960), False),
        ):
            shoot(browser, page, FOLDER / f"{name}.png", size, dark, folder / "profile")
        rows = [json.loads(text) for text in (folder / "first" / "rounds.jsonl").read_text().splitlines()]
    (FOLDER / "live.svg").write_text(live(printed.partition("\n")[0], rows), encoding="utf-8")


def localgd(*arguments: str) -> str:
    """Run the command and return what it prints."""
    command = [sys.executable, "-m", "localgd", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def shoot(browser: str, page: Path, picture: Path, size: tuple[int, int], dark: bool, profile: Path) -> None:
    """Draw a page as wide and as high as told."""
    theme = ("--blink-settings=preferredColorScheme=0",) if dark else ()
    window = f"--window-size={size[0]},{size[1]}"
    where = (f"--user-data-dir={profile}", f"--screenshot={picture}", page.as_uri())
    subprocess.run([browser, *FLAGS, *theme, window, *where], check=True, capture_output=True)


def live(described: str, rows: list[dict[str, Any]]) -> str:
    """Return what a terminal shows in the middle of a run, as an SVG that asks the network for no fonts."""
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ localgd {' '.join(RUN)}", style="bold"))
    display = Display(console)
    with handled_by(display):
        tell(described, Began(len(rows), 0, rows[0]["clients"], False))
        tell(HEADER)
        for row in rows[:UNTIL]:
            tell(line(row), Measured(row))
    display.since -= sum(row["seconds"]["total"] for row in rows[:UNTIL])
    console.print(display.render())
    return re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title="localgd"), flags=re.DOTALL)


if __name__ == "__main__":
    main()
