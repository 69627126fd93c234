"""What every page must be: well-formed, whole in itself, and drawn by a real browser without complaint."""

import html
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--enable-logging=stderr",
)  # fmt: skip
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="NO BROWSER: no page is drawn here (Debian, Ubuntu: apt-get install chromium)"
)
ENDLESS = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """A page's text and attributes; an unbalanced tag is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += " "
        if tag not in ENDLESS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def check(path: Path) -> Page:
    """Read a page; it must be well-formed and ask nobody for anything."""
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not {"script", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "data", "poster"):
            address = attributes.get(name) or "data:"
            beside = tag == "a" and not re.match(r"[a-z]+:|/", address)  # followed by hand, on the same disk
            assert address.startswith("data:") or beside, f"{tag} {name}"
        assert not [name for name in attributes if name.startswith("on")]
    addresses = re.sub(r'xmlns="http://www\.w3\.org/2000/svg"', "", text)
    assert not re.search(r"https?://|@import|url\((?!#)", addresses)
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names)), "an id is there twice"
    for svg in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL):
        ElementTree.fromstring(svg)
    return page


FRAME = """<!DOCTYPE html><title>not measured</title><iframe width="{width}" height="800" srcdoc="{page}"
onload="document.title = 'width ' + this.contentDocument.documentElement.scrollWidth"></iframe>"""


def draw(path: Path, folder: Path, width: int, dark: bool = False) -> tuple[bytes, int]:
    """Draw a page in Chromium; return the picture (PNG) and how wide the page is, in pixels.

    Whatever the browser says about the page on its console is an error.
    """
    theme = ("--blink-settings=preferredColorScheme=0",) if dark else ()
    flags = (*theme, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900")
    picture, frame = folder / f"{width}-{dark}.png", folder / "frame.html"
    # in a frame, because a window has a least width
    frame.write_text(FRAME.format(width=width, page=html.escape(path.read_text("utf-8"))), "utf-8")
    _browse(f"--screenshot={picture}", *flags, path.as_uri())
    found = re.search(r"<title>width (\d+)</title>", _browse("--dump-dom", *flags, frame.as_uri()))
    assert found
    return picture.read_bytes(), int(found[1])


def _browse(*arguments: str) -> str:
    """Run Chromium and return what it prints."""
    done = subprocess.run(
        [str(CHROMIUM), *FLAGS, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr, done.stderr
    return done.stdout
