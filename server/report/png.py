"""Pictures as PNG files, where the renderer for them is installed."""

from collections.abc import Sequence
from pathlib import Path

ZOOM = 2
HINT = "no PNG files: pip install 'localgd[plots]'"


def write_png(pictures: Sequence[Path]) -> bool:
    """Write a PNG file beside each SVG file; return False where the renderer is not installed."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        return False
    for picture in pictures:
        picture.with_suffix(".png").write_bytes(svg_to_bytes(svg_path=str(picture), zoom=ZOOM))
    return True
