"""How figures look, on white paper and on a dark page, and how one becomes an SVG that may stand within a page.

A figure is drawn within `themed()` and in the colours below, no others: each has its dark counterpart, and rules within
the SVG put it in its place where the reader prefers dark. Text stays text: it can be selected and searched, a name in
any script is set in the reader's own fonts, and DejaVu Sans, whose widths the layout is made for, is among the widest.
"""

import io
import re
import unicodedata
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

BACKGROUND, INK, MUTED, GRID = "#ffffff", "#1a1a1a", "#6b6b6b", "#e4e4e4"
BLUE, VERMILLION, GREEN, PURPLE = "#27509b", "#a84a0c", "#0d9d6f", "#cf4fdc"
"""20 or more apart in CIELAB for each kind of colour-blindness, as Machado and others (2009) simulate it."""
PAPER_COLOR, SOURCE_COLOR, MEASURED_COLOR = VERMILLION, BLUE, INK
COLORS = (INK, BLUE, VERMILLION, GREEN, PURPLE)
LINE_STYLES = ("solid", "dashed", "dashdot", "dotted", (0, (6, 2, 1, 2, 1, 2)))

DARK = {
    BACKGROUND: "#15171a",
    INK: "#ececec",
    MUTED: "#a3a3a3",
    GRID: "#34373c",
    BLUE: "#5a92ff",
    VERMILLION: "#e8721a",
    GREEN: "#2dcc7f",
    PURPLE: "#f2a5f2",
}
"""What stands for each colour on a dark page."""

THEME: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.formatter.use_mathtext": False,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9,
    "figure.facecolor": BACKGROUND,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 9,
    "grid.color": GRID,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "alexnet",
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a name is nothing but that
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ET.register_namespace("", SVG)
ET.register_namespace("xlink", XLINK)
NAME = re.compile(r"[a-z][a-z0-9-]*")
POINTS_PER_INCH = 72
PAINT = re.compile(r"(fill|stroke): (#[0-9a-f]{6});?")


@contextmanager
def themed() -> Iterator[None]:
    """Decorates whoever draws a figure, whatever a user has set for others.

    Matplotlib's settings are those of the whole process: one thread draws at a time.
    """
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(THEME)
        yield


def save_svg(figure: Figure, *, name: str, title: str, caption: str) -> bytes:
    """The figure as an SVG element, whole in itself; the same figure gives the same bytes.

    Every id in it begins with `figure-NAME`, and every rule is for what lies below that id, so that several of them may
    stand in one HTML page and touch nothing else there.

    Args:
        figure: drawn within `themed()`, and so is this.
        name: small letters, digits and hyphens; another for each figure of a page.
        title: what it is, for who cannot see it; any text.
        caption: what it shows, likewise.
    """
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's fonts may have it
        figure.savefig(content, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ET.fromstring(content.getvalue())  # noqa: S314 - matplotlib's own
    _replace_default_style(root)
    _leave_paint_to_uses(root)
    _make_ids_unique(root, f"figure-{name}")
    return finish_svg(root, name=name, title=title, caption=caption)


def finish_svg(root: ET.Element, *, name: str, title: str, caption: str) -> bytes:
    """Put title, description and the rules for a dark page in front of all else; arguments as for `save_svg`."""
    assert NAME.fullmatch(name), f"{name!r} cannot begin the ids of a figure"
    own_id, parts = f"figure-{name}", []
    for tag, words in (("title", title), ("desc", caption)):
        parts.append(ET.Element(f"{{{SVG}}}{tag}", id=f"{own_id}-{tag}"))
        parts[-1].text = clean(words)
    root.attrib |= {"id": own_id, "role": "img", "aria-labelledby": " ".join(part.attrib["id"] for part in parts)}
    style = ET.Element(f"{{{SVG}}}style")
    style.text = format_dark_rules(root, own_id)
    root[:0] = [*parts, style]
    svg: bytes = ET.tostring(root, encoding="utf-8")
    return svg + b"\n"


def _replace_default_style(root: ET.Element) -> None:
    """Matplotlib's rule for `*` would hold for a whole page: put it on the root, from where it is inherited."""
    first = root[0]
    assert first.findtext(f"{{{SVG}}}style") == "*{stroke-linejoin: round; stroke-linecap: butt}", "another matplotlib?"
    root.remove(first)
    root.set("stroke-linejoin", "round")
    root.set("stroke-linecap", "butt")


def _leave_paint_to_uses(root: ET.Element) -> None:
    """Markers inherit the paint of each use: no rule for what lies below an id reaches into what is used."""
    for path in root.iterfind(f".//{{{SVG}}}defs/{{{SVG}}}path"):
        path.set("style", PAINT.sub("", path.get("style", "")))


def _make_ids_unique(root: ET.Element, prefix: str) -> None:
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, f"{prefix}-{value}")
            elif key == f"{{{XLINK}}}href" and value.startswith("#"):
                element.set(key, f"#{prefix}-{value[1:]}")
            else:
                element.set(key, value.replace("url(#", f"url(#{prefix}-"))


def format_dark_rules(root: ET.Element, own_id: str) -> str:
    """CSS that puts each colour's dark counterpart in its place on a screen whose reader prefers that."""
    paints = sorted({paint for element in root.iter() for paint in PAINT.findall(element.get("style", ""))})
    unknown = {color for _, color in paints} - set(DARK)
    assert not unknown, f"{own_id} is drawn in colours that are none of the theme: {unknown}"
    rules = "".join(f'#{own_id} [style*="{kind}: {color}"]{{{kind}:{DARK[color]}!important}}' for kind, color in paints)
    return f"@media screen and (prefers-color-scheme:dark){{{rules}}}"


def choose_line(number: int) -> dict[str, Any]:
    """Colour and style of one of several curves side by side; the style is for who prints in grey.

    Of 25 curves no two are alike.
    """
    rounds, color = divmod(number, len(COLORS))
    return {"color": COLORS[color], "linestyle": LINE_STYLES[(color + rounds) % len(LINE_STYLES)]}


def clean(words: str) -> str:
    """Foreign text on one line, of letters that can be shown; XML has no way to write the others."""
    return "".join(letter if letter.isprintable() else "�" for letter in " ".join(words.split()))


def shorten(words: str, columns: int) -> str:
    """Foreign text as `clean` leaves it, cut with an ellipsis to a number of columns."""
    words = clean(words)
    if count_columns(words) <= columns:
        return words
    while count_columns(words) >= columns:
        words = words[:-1]
    return f"{words.rstrip()}…"


def count_columns(words: str) -> int:
    """Width of text in letters; wide ones (CJK) count twice."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in words)


def reserve_inches(names: Iterable[str], *, points: float) -> float:
    """Room for the longest of some names, of 0.6 em a column, for no font here says how the reader's will set them."""
    return max(map(count_columns, names), default=0) * 0.6 * points / POINTS_PER_INCH
