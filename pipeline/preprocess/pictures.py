"""Pictures of a shard set for people: its statistics (§2, §4.1), and a sheet of samples."""

import base64
import io
import logging
import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from pipeline.artifacts import ColorComponents

WIDTH, HEIGHT, MARGIN = 760, 448, 24
MEAN_IMAGE_PIXELS = 256
"""Edge of the mean image in the figure; the scale below it then has a pixel for each grey level."""
CHANNELS = {"R": "#c62828", "G": "#2e7d32", "B": "#1565c0"}
STEPS = np.arange(-3.0, 3.25, 0.5)
"""Standard deviations from the mean at which a direction's colours are shown."""
SWATCH_WIDTH, SWATCH_HEIGHT = 32, 56

INK, PALE = "#1a1a1a", "#c8c8c8"
SMALL_PICTURE, LARGE_PICTURE = 128, 256
"""On the sheet smaller pictures are magnified towards the first, larger ones reduced to the other."""
GAP = 12
MIN_SHEET_WIDTH = 640
SHEET_ASPECT = 4 / 3
TITLE_LINES = 2
TITLE_PIXELS, HEADING_PIXELS = 12, 15


def draw_statistics(mean_image: npt.NDArray[np.float32], color: ColorComponents) -> bytes:
    """Draw the mean image (§2), the channels, and what each colour direction does to the mean colour (§4.1).

    Not by matplotlib: a shard set's digest covers these bytes, and they should not change with its version.

    Args:
        mean_image: (side, side, 3) float32, 0-255.
        color: of the same pictures.

    Returns:
        An SVG, the same for the same numbers; opaque, so that it can be read on a dark page, too.
    """
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    font = 'font-family="Helvetica, Arial, sans-serif" font-size="12"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {WIDTH} {HEIGHT}" {font} fill="{INK}">',
        "<title>Mean and colours of the training pictures</title>",
        f'<rect {size} fill="white"/>',
        f'<g transform="translate({MARGIN} 30)">',
        *_draw_mean_image(mean_image),
        "</g>",
        f'<g transform="translate({MARGIN} 342)">',
        *_draw_channels(color),
        "</g>",
        f'<g transform="translate({WIDTH - MARGIN - SWATCH_WIDTH * len(STEPS)} 30)">',
        *_draw_directions(color),
        "</g>",
        "</svg>",
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def _draw_mean_image(mean_image: npt.NDArray[np.float32]) -> Iterator[str]:
    height, width, _ = mean_image.shape
    picture = Image.fromarray(np.rint(mean_image).astype(np.uint8))
    picture.thumbnail((MEAN_IMAGE_PIXELS, MEAN_IMAGE_PIXELS))
    png = base64.b64encode(_to_png(picture)).decode()
    yield '<text font-size="14" font-weight="bold">Mean image (§2)</text>'
    yield f'<text y="20">{height}×{width}, values {mean_image.min():.1f} to {mean_image.max():.1f} of 0–255</text>'
    yield (
        f'<image y="30" width="{MEAN_IMAGE_PIXELS}" height="{MEAN_IMAGE_PIXELS}" image-rendering="pixelated" '
        f'href="data:image/png;base64,{png}"/>'
    )


def _draw_channels(color: ColorComponents) -> Iterator[str]:
    """Mean and standard deviation of each channel on a scale of grey levels."""
    deviations = np.sqrt(np.diag(color.covariance)).tolist()
    for row, (name, mean, deviation) in enumerate(zip(CHANNELS, color.mean, deviations, strict=True)):
        y, low, high = 8 + 28 * row, max(mean - deviation, 0), min(mean + deviation, 255)
        yield f'<text y="{y - 8}">{name}: mean {mean:.1f}, standard deviation {deviation:.1f}</text>'
        yield f'<path d="M0 {y}H255" stroke="{PALE}"/>'
        yield f'<path d="M{low:.1f} {y}H{high:.1f}" stroke="{CHANNELS[name]}" stroke-width="3"/>'
        yield f'<circle cx="{mean:.1f}" cy="{y}" r="4.5" fill="{CHANNELS[name]}"/>'
    for level in (0, 64, 128, 192, 255):
        yield f'<path d="M{level} 74v5" stroke="{INK}"/>'
        yield f'<text x="{level}" y="92" text-anchor="middle">{level}</text>'


def _draw_directions(color: ColorComponents) -> Iterator[str]:
    """The mean colour, moved along each eigenvector by standard deviations."""
    total = sum(color.eigenvalues) or 1.0  # pictures of a single colour do not vary
    yield '<text font-size="14" font-weight="bold">Principal directions of colour (§4.1)</text>'
    for row, deviation in enumerate(color.standard_deviations):
        direction, y = np.array(color.eigenvectors)[:, row], 20 + 114 * row
        numbers = ", ".join(f"{value:+.3f}" for value in direction.round(3) + 0.0).replace("-", "−")
        colors = np.rint(np.clip(color.mean + np.outer(STEPS, deviation * direction), 0, 255)).astype(np.uint8)
        share = color.eigenvalues[row] / total
        yield f'<text y="{y}">{row + 1}: standard deviation {deviation:.2f}, {share:.1%} of the variance</text>'
        yield f'<text y="{y + 16}">eigenvector ({numbers}) in R, G, B</text>'
        for column, rgb in enumerate(colors):
            yield (
                f'<rect x="{column * SWATCH_WIDTH}" y="{y + 24}" width="{SWATCH_WIDTH}" height="{SWATCH_HEIGHT}" '
                f'fill="#{rgb.tobytes().hex()}" shape-rendering="crispEdges"/>'
            )
        width = SWATCH_WIDTH * len(STEPS)  # a frame shows where white ends
        yield f'<rect y="{y + 24}" width="{width}" height="{SWATCH_HEIGHT}" fill="none" stroke="{PALE}"/>'
    for column, step in enumerate(STEPS):
        if step.is_integer():
            label = f"{step:+.0f}".replace("-", "−") if step else "mean"
            yield f'<text x="{(column + 0.5) * SWATCH_WIDTH:g}" y="346" text-anchor="middle">{label}</text>'
    yield '<text y="368">standard deviations from the mean colour, clipped to 0–255</text>'


def draw_contact_sheet(
    images: Iterable[npt.NDArray[np.uint8]], titles: Sequence[str], heading: str, *, side: int
) -> bytes:
    """Draw samples in rows, each above its title.

    Args:
        images: (side, side, 3) uint8 each; taken one by one, as many as there are titles.
        titles: lines below each, at least one title; long lines are wrapped, then cut.
        heading: above all.
        side: height and width of each image.

    Returns:
        A PNG; pictures of up to `LARGE_PICTURE` keep their pixels, small ones magnified by a whole number.
    """
    edge = min(side * max(1, SMALL_PICTURE // side), LARGE_PICTURE)
    resampling = Image.Resampling.NEAREST if edge >= side else Image.Resampling.LANCZOS
    title_font, heading_font = _load_font(TITLE_PIXELS), _load_font(HEADING_PIXELS)
    cell_width = max(edge, SMALL_PICTURE) + GAP
    wrapped = [_wrap_title(title, _count_columns(cell_width - GAP, title_font)) for title in titles]
    cell_height = edge + 2 * GAP + max(map(len, wrapped)) * _line_height(title_font)
    per_row = min(len(titles), math.ceil(math.sqrt(len(titles) * SHEET_ASPECT * cell_height / cell_width)))
    width = max(per_row * cell_width + GAP, MIN_SHEET_WIDTH)
    heading_lines = textwrap.wrap(heading, _count_columns(width - 2 * GAP, heading_font))
    top = 2 * GAP + len(heading_lines) * _line_height(heading_font)
    sheet = Image.new("RGB", (width, top + math.ceil(len(titles) / per_row) * cell_height), "white")
    draw = ImageDraw.Draw(sheet)
    _write_lines(draw, GAP, GAP, heading_lines, heading_font)
    for number, (image, lines) in enumerate(zip(images, wrapped, strict=True)):
        x, y = GAP + number % per_row * cell_width, top + number // per_row * cell_height
        draw.rectangle((x - 1, y - 1, x + edge, y + edge), outline=PALE)  # shows where a white picture ends
        sheet.paste(Image.fromarray(image).resize((edge, edge), resampling), (x, y))
        _write_lines(draw, x, y + edge + GAP // 2, lines, title_font)
    return _to_png(sheet)


def _wrap_title(title: str, columns: int) -> list[str]:
    """Lines of at most `columns` characters, `TITLE_LINES` for each line of the title."""
    lines = []
    for part in title.split("\n"):
        wrapped = textwrap.wrap(part, columns)
        if len(wrapped) > TITLE_LINES:
            wrapped[TITLE_LINES - 1 :] = [wrapped[TITLE_LINES - 1][: columns - 1] + "…"]
        lines += wrapped
    return lines


def _load_font(pixels: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans Mono, which has most alphabets, and a box for what it lacks."""
    logging.getLogger("matplotlib").addHandler(logging.NullHandler())  # else it may speak of its caches on stderr
    import matplotlib as mpl  # half a second, for its typeface only

    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf", pixels)


def _count_columns(width: int, font: ImageFont.FreeTypeFont) -> int:
    return int(width // font.getlength("n"))


def _line_height(font: ImageFont.FreeTypeFont) -> int:
    return int(font.size) + 4


def _write_lines(draw: ImageDraw.ImageDraw, x: int, y: int, lines: Sequence[str], font: ImageFont.FreeTypeFont) -> None:
    for row, line in enumerate(lines):
        draw.text((x, y + row * _line_height(font)), line, INK, font)


def _to_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
