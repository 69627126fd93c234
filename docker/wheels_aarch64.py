"""Show that a client with numpy installs on a 64-bit ARM board from wheels, at the pinned versions.

Downloads them into a temporary folder, so no ARM machine is needed, and fails if one is missing.
Markers that ask for the processor are answered by this machine, not by the board.
"""

import argparse
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_28_aarch64")  # glibc >= 2.28


def main() -> None:
    """Print each wheel, then how many there are, their size, and what they unpack to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", default="3.11", help="version of Python on the board")
    python = parser.parse_args().python
    with tempfile.TemporaryDirectory(prefix="localgd-wheels-") as folder:
        download(Path(folder), python)
        wheels = sorted(Path(folder).glob("*.whl"), key=lambda path: path.name.lower())
        for wheel in wheels:
            print(wheel.name)
        packed = sum(wheel.stat().st_size for wheel in wheels)
        unpacked = sum(entry.file_size for wheel in wheels for entry in zipfile.ZipFile(wheel).infolist())
    print(
        f"{len(wheels)} wheels for aarch64 and Python {python}, {packed / 1e6:.0f} MB to download, "
        f"{unpacked / 1e6:.0f} MB unpacked"
    )


def download(folder: Path, python: str) -> None:
    """Let pip choose and fetch the wheels of the project's dependencies; exits as pip does if it cannot."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    target = ["--only-binary", ":all:", *platforms, "--implementation", "cp", "--python-version", python]
    pinned = ["--constraint", str(ROOT / "constraints.txt"), *project["dependencies"]]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder), *target, *pinned]
    code = subprocess.run(command, check=False).returncode
    if code != 0:
        sys.exit(code)


if __name__ == "__main__":
    main()
