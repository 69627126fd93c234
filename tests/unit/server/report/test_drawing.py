"""Pictures: what is drawn, where, and that any name may stand in it."""

import re
from xml.etree import ElementTree

import pytest

from server.report.chart import Axis, Band, Chart, Dot, Line
from server.report.drawing import draw, standing_alone
from server.report.palette import DARK, LIGHT

SVG = "{http://www.w3.org/2000/svg}"
EVIL = '<script>alert("x")</script> & "quoted"'


def chart(**other: object) -> Chart:
    values = {"name": "a", "title": "A", "x": Axis("round", log=True), "y": Axis("degrees", log=True)}
    return Chart(**{**values, **other})  # type: ignore[arg-type]


def test_a_line_goes_where_its_values_are_and_stops_where_they_do() -> None:
    svg = draw(chart(lines=[Line("a", [1, 10, 100, 1000], [100, None, 10, 1], "blue")]))
    [path] = re.findall(r'd="(M[^"]*)" style="fill:none', svg)
    segments = [re.findall(r"[\d.]+ [\d.]+", part) for part in path.split("M")[1:]]
    assert [len(points) for points in segments] == [1, 2]
    heights = [float(point.split()[1]) for points in segments for point in points]
    assert heights == sorted(heights), "downwards, as y grows upwards on paper"
    assert heights[2] - heights[1] == pytest.approx(heights[1] - heights[0])


def test_every_value_can_be_read_by_pointing_at_it() -> None:
    root = ElementTree.fromstring(draw(chart(lines=[Line("true", [1, 2], [12.345, 6], "blue")])))
    tips = [title.text for title in root.iter(f"{SVG}title")]
    assert tips == ["round 1, true: 12.35", "round 2, true: 6"]


def test_names_are_escaped() -> None:
    svg = draw(chart(title=EVIL, note=EVIL, lines=[Line(EVIL, [1], [1], "blue", marker="o")]))
    assert "<script" not in svg
    texts = [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert EVIL in texts


def test_characters_that_no_xml_file_may_hold_are_replaced() -> None:
    svg = draw(chart(lines=[Line("a\x00\x1b\udcff\tb", [1], [1], "blue")]))
    texts = [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert "a\ufffd\ufffd\ufffd\tb" in texts


def test_a_file_of_its_own_has_colours_and_no_variables() -> None:
    svg = draw(chart(bands=[Band("b", [1, 2], [None, None], [3, 4], "green")]))
    assert set(re.findall(r"var\(--(\w+)\)", svg)) <= LIGHT.keys()
    for colours in (LIGHT, DARK):
        alone = standing_alone(svg, colours)
        assert "var(" not in alone
        assert colours["green"] in alone
        ElementTree.fromstring(alone)


def test_thousands_of_points_are_thinned() -> None:
    many = list(range(1, 100_001))
    assert len(draw(chart(lines=[Line("a", many, many, "blue", marker="s")]))) < 30_000


def test_categories_have_a_row_each_with_their_range() -> None:
    dots = [Dot(3, 1, "blue", spread=(2, 5), label="3 rounds"), Dot(8, 0, "green", hollow=True)]
    svg = draw(chart(y=Axis("", categories=("first", "second one")), dots=dots))
    root = ElementTree.fromstring(svg)
    assert {"first", "second one"} <= {text.text for text in root.iter(f"{SVG}text")}
    places = [p.get("transform") for p in root.iter(f"{SVG}path") if p.get("transform")]
    (x1, y1), (x2, y2) = (map(float, re.findall(r"[\d.]+", place or "")) for place in places)
    assert x1 < x2
    assert y1 > y2
    assert "3 rounds" in svg


def test_nothing_to_draw_is_an_empty_picture() -> None:
    ElementTree.fromstring(
        draw(chart(lines=[Line("a", [], [], "blue")], bands=[Band("", [], [], [], "blue")]))
    )
