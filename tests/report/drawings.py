"""What a test reads back from a figure."""

import re
import xml.etree.ElementTree as ET

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"


def read_texts(svg: bytes) -> list[str]:
    """All text, in the order in which it is drawn."""
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


def list_panels(svg: bytes) -> list[ET.Element]:
    """The axes of a figure."""
    return [group for group in ET.fromstring(svg).iter(f"{SVG}g") if re.search(r"-axes_\d+$", group.get("id", ""))]


def read_ticks(panel: ET.Element, axis: str) -> list[tuple[float, float]]:
    """(place in the figure, number beside it) of each tick of an axis, `x` or `y`."""
    ticks = []
    for group in panel.iter(f"{SVG}g"):
        if re.search(rf"-{axis}tick_\d+$", group.get("id", "")):
            (number,) = group.iter(f"{SVG}text")
            mark = list(group.iter(f"{SVG}use"))[-1]
            ticks.append((float(mark.attrib[axis]), float(number.text.replace("−", "-"))))
    return ticks


def read_numbers(panel: ET.Element, axis: str, places: list[float]) -> list[float]:
    """What places in the figure stand for on an axis of even ticks."""
    (first, low), *_, (last, high) = read_ticks(panel, axis)
    return [low + (place - first) / (last - first) * (high - low) for place in places]


def read_lines(panel: ET.Element) -> dict[str, list[list[tuple[float, float]]]]:
    """Points of the lines, by their colour and whether they are dashed: `#1a1a1a` or `#1a1a1a dashed`."""
    lines: dict[str, list[list[tuple[float, float]]]] = {}
    for group in panel.iter(f"{SVG}g"):
        path = group.find(f"{SVG}path")
        if re.search(r"-line2d_\d+$", group.get("id", "")) and path is not None:
            style = path.attrib["style"]
            kind = re.search(r"stroke: (#\w+)", style)[1] + (" dashed" if "dasharray" in style else "")
            points = [tuple(map(float, point)) for point in re.findall(r"[ML] ([\d.-]+) ([\d.-]+)", path.attrib["d"])]
            lines.setdefault(kind, []).append(points)
    return lines
