"""Render the README's picture of a run: `python docs/images/render.py`, from the top of the checkout."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

COMMAND = ["localgd", "compare", "examples/tissue.toml"]
WIDTH = 108


def main() -> None:
    """Run the example and write what it printed as an SVG."""
    with tempfile.TemporaryDirectory() as directory:
        out = f"{directory}/run"
        process = subprocess.run(
            [sys.executable, "-m", *COMMAND, "--out", out],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"COLUMNS": str(WIDTH)},
        )
    lines = process.stdout.replace(out, "runs/20261124-091500-compare").splitlines()
    console = Console(record=True, width=WIDTH + 2, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(Text(f"$ {' '.join(COMMAND)}", style="bold"))
    for line in lines:
        console.print(Text(line))
    # without the fonts it would load from the network
    picture = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title="localgd"), flags=re.DOTALL)
    Path(__file__).with_name("run.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
