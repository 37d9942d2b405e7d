"""Figures as SVG: text as text, dark rules for every colour, ids of their own, foreign names, the same bytes."""

import re
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from browser import Browser
from drawings import read_texts
from matplotlib.figure import Figure

from pipeline.drawing import (
    BACKGROUND,
    BLUE,
    DARK,
    INK,
    MUTED,
    SVG,
    XLINK,
    choose_line,
    clean,
    count_columns,
    save_svg,
    shorten,
    themed,
)

FOREIGN = (
    "<script>alert(1)</script>",
    "$x_1$ & ]]>",
    "運動会 naïve ﷽",
    'a "b" \\frac{1}{2} $',
    "tab\tand\nline\x1b[0m",
)
NAMESPACES = {"svg": SVG}


@themed()
def draw(name: str, words: str = "loss, nats") -> bytes:
    figure = Figure(figsize=(3, 2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [1, 0], "o", color=BLUE)
    axes.fill_between([0, 1], [1, 0], color=(BLUE, 0.5))
    axes.set(xlabel=clean(words), ylabel="error, %")
    axes.set_title(clean(words))
    return save_svg(figure, name=name, title=words, caption=f"caption: {words}")


def read_paints(root: ET.Element) -> set[tuple[str, str]]:
    """(fill or stroke, colour) of every element that is drawn."""
    styles = [element.get("style", "") for element in root.iter()]
    assert all(element.get(kind, "none") == "none" for element in root.iter() for kind in ("fill", "stroke"))
    return {paint for style in styles for paint in re.findall(r"(fill|stroke):\s*(#\w+)", style)}


@pytest.mark.parametrize("words", FOREIGN)
def test_foreign_text_is_text_and_nothing_else(words: str):
    svg = draw("foreign", words)
    assert read_texts(svg).count(clean(words)) == 2
    root = ET.fromstring(svg)
    assert root.findtext("svg:title", namespaces=NAMESPACES) == clean(words)
    assert root.findtext("svg:desc", namespaces=NAMESPACES) == f"caption: {clean(words)}"
    assert root.find(".//svg:script", NAMESPACES) is None
    assert b"<script" not in svg


def test_unprintable_letters_and_line_breaks_do_not_reach_the_figure():
    assert clean(" tab\tand\nline\x1b[0m \udcff\u202e") == "tab and line�[0m ��"


def test_every_colour_has_its_dark_counterpart_in_a_rule_of_this_figure_on_a_screen_only():
    root = ET.fromstring(draw("dark"))
    style = root.findtext("svg:style", namespaces=NAMESPACES)
    media, rules = re.fullmatch(r"@media ([^{]+)\{(.*)\}", style).groups()
    assert media == "screen and (prefers-color-scheme:dark)"
    found = re.findall(r'#figure-dark \[style\*="(fill|stroke): (#\w+)"\]\{(\w+):(#\w+)!important\}', rules)
    assert len(found) == rules.count("{")
    assert {(kind, color) for kind, color, _, _ in found} == read_paints(root) > {("fill", INK), ("fill", BACKGROUND)}
    assert all(kind == changed and dark == DARK[color] for kind, color, changed, dark in found)


def test_colours_can_be_read_on_their_background_light_and_dark():
    def measure(color: str) -> float:
        values = np.array([int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)])
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    for background, colors in ((BACKGROUND, DARK), (DARK[BACKGROUND], DARK.values())):
        for color in {choose_line(number)["color"] for number in range(25)} | {INK}:
            shown = color if colors is DARK else DARK[color]
            darker, lighter = sorted((measure(background), measure(shown)))
            assert (lighter + 0.05) / (darker + 0.05) >= 3  # WCAG 2.2, 1.4.11


@themed()
def test_a_colour_that_is_none_of_the_theme_is_refused():
    figure = Figure()
    figure.text(0.5, 0.5, "pink", color="#ff00ff")
    with pytest.raises(AssertionError, match=r"none of the theme: \{'#ff00ff'\}"):
        save_svg(figure, name="pink", title="", caption="")


def test_two_figures_share_no_id_and_refer_to_their_own_only():
    ids = []
    for name in ("one", "two"):
        root = ET.fromstring(draw(name))
        ids.append({element.attrib["id"] for element in root.iter() if "id" in element.attrib})
        referred = {element.attrib[f"{{{XLINK}}}href"][1:] for element in root.iterfind(".//svg:use", NAMESPACES)}
        values = [value for element in root.iter() for value in element.attrib.values()]
        referred |= {found for value in values for found in re.findall(r"url\(#([^)]+)\)", value)}
        assert {kind[0] for kind in (found.removeprefix(f"figure-{name}-") for found in referred)} == {"m", "p"}
        assert referred | set(root.attrib["aria-labelledby"].split()) <= ids[-1]
        assert root.attrib["id"] == f"figure-{name}"
    assert not ids[0] & ids[1]


def test_a_figure_can_stand_in_a_page_and_has_rules_for_nothing_else_there():
    svg = draw("inline").decode()
    assert svg.startswith("<svg ")
    assert not re.search(r"<!DOCTYPE|<\?xml|<metadata|https?://(?!www\.w3\.org/(2000/svg|1999/xlink))", svg)
    assert svg.count("<style") == 1
    assert "*{" not in svg
    root = ET.fromstring(svg)
    assert (root.attrib["stroke-linejoin"], root.attrib["stroke-linecap"]) == ("round", "butt")


def test_a_browser_shows_the_colours_that_the_reader_prefers_and_paper_stays_white(browser: Browser, tmp_path: Path):
    page = tmp_path / "page.html"
    other = f'<p id="other" style="fill: {INK}; stroke-linejoin: bevel">a page of its own</p>'
    page.write_text(f"<!doctype html><meta charset=utf-8>{other}{draw('one').decode()}{draw('two').decode()}")
    browser.open(page.as_uri())
    kinds = {"text": ("text", "fill"), "background": ("#figure-two-patch_1 path", "fill"), "mark": ("use", "stroke")}

    def read_shown() -> dict[str, str]:
        script = "getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
        numbers = {
            kind: re.findall(r"\d+", str(browser.run(script, f"#figure-two {place}", paint)))
            for kind, (place, paint) in kinds.items()
        }
        return {kind: "#" + "".join(f"{int(number):02x}" for number in found) for kind, found in numbers.items()}

    light = {"text": INK, "background": BACKGROUND, "mark": MUTED}
    assert read_shown() == light
    browser.look(scheme="dark")
    assert read_shown() == {kind: DARK[color] for kind, color in light.items()}
    of_page = "getComputedStyle(document.getElementById('other'))"
    assert (browser.run(f"{of_page}.fill"), browser.run(f"{of_page}.strokeLinejoin")) == ("rgb(26, 26, 26)", "bevel")
    browser.look(scheme="dark", media="print")
    assert read_shown() == light


def test_markers_leave_their_paint_to_where_they_are_used():
    root = ET.fromstring(draw("markers"))
    shapes = root.findall(".//svg:defs/svg:path", NAMESPACES)
    assert shapes
    assert not any(re.search(r"fill: #|stroke: #", shape.get("style", "")) for shape in shapes)
    assert all("stroke: #" in use.attrib["style"] for use in root.iterfind(".//svg:use", NAMESPACES))


def test_the_same_figure_gives_the_same_bytes_whatever_a_user_has_set():
    with mpl.rc_context(
        {"text.parse_math": True, "axes.facecolor": "pink", "axes.linewidth": 9, "svg.fonttype": "path"}
    ):
        assert draw("same", "$x$") == draw("same", "$x$") != draw("same", "$y$")
        changed = draw("same", "$x$")
    assert changed == draw("same", "$x$")


def test_a_long_name_is_cut_where_it_would_be_too_wide():
    assert shorten("tench", 5) == "tench"
    assert shorten("goldfish", 5) == "gold…"
    assert shorten("運動会", 6) == "運動会"
    assert shorten("運動会の写真", 6) == "運動…"
    assert all(count_columns(shorten("a運b動 c会", columns)) <= columns for columns in range(1, 12))


def test_of_many_curves_no_two_look_alike():
    lines = [choose_line(number) for number in range(25)]
    assert all(one != other for one, other in combinations(lines, 2))
    assert len({str(line["linestyle"]) for line in lines[:5]}) == len({line["color"] for line in lines[:5]}) == 5
