"""The picture of a preview: stored pictures beside what the network sees of them, ten views, the mean."""

import io
import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.textpath import text_to_path
from PIL import Image

from pipeline.augment.preview_record import Patch, Pixels, Preview, Sample

EDGE = 256
"""Pictures that are larger are reduced to this, smaller ones magnified by a whole number up to it."""
GAP, MARGIN = 14, 32
LINE, TITLE = 18, 34
"""Heights of a line of a caption and of a section's title."""
NUM_COLUMNS = 4
CELL_WIDTH = 2 * EDGE + GAP
WIDTH = 2 * MARGIN + NUM_COLUMNS * CELL_WIDTH + (NUM_COLUMNS - 1) * MARGIN
HEADING_HEIGHT = 152
CELL_HEIGHT = EDGE + 4 * LINE + MARGIN
VIEW_HEIGHT = EDGE + LINE + MARGIN
PIXELS_PER_INCH = 100
CAPTION_POINTS, TITLE_POINTS, HEADING_POINTS = 9.5, 12, 17
INK, SOFT, PALE = "#1a1a1a", "#666666", "#c8c8c8"
TRAIN_COLOR = "#ffd400"
VIEW_COLORS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00")
"""Okabe and Ito's, which the colour-blind can tell apart: four corners and the centre."""

Picture = npt.NDArray[np.uint8]


class Outline(NamedTuple):
    """A box in the pixels of a picture, to be drawn on it."""

    left: int
    top: int
    width: int
    height: int
    color: str


def build_outline(patch: Patch, color: str) -> Outline:
    """The box of a patch."""
    return Outline(patch.left, patch.top, patch.width, patch.height, color)


def draw_preview(preview: Preview, batch: Sequence[Pixels], views: Pixels, mean: Picture | None, *, kind: str) -> bytes:
    """Draw a preview.

    Args:
        preview: what is on it.
        batch: a picture and its patch for each sample of `preview.batch`.
        views: a picture and its ten views.
        mean: what is subtracted, (side, side, 3) uint8; None for nothing.
        kind: png or svg.

    Returns:
        The file's content, the same for the same arguments. Pictures of up to `EDGE` keep their pixels.
    """
    rows = math.ceil(len(batch) / NUM_COLUMNS)
    height = HEADING_HEIGHT + TITLE + rows * CELL_HEIGHT + TITLE + 2 * VIEW_HEIGHT + MARGIN // 2
    figure = Figure(figsize=(WIDTH / PIXELS_PER_INCH, height / PIXELS_PER_INCH), dpi=PIXELS_PER_INCH)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    settings = {"svg.hashsalt": "alexnet", "svg.fonttype": "none"}
    with warnings.catch_warnings(), mpl.rc_context(settings):  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box stands for it
        write_heading(axes, preview)
        draw_batch(axes, preview, batch, top=HEADING_HEIGHT)
        top = HEADING_HEIGHT + TITLE + rows * CELL_HEIGHT
        draw_views(axes, preview.views, views, input_pixels=preview.augment.input_pixels, top=top)
        draw_mean(axes, preview, mean, top=top)
        axes.set(xlim=(0, WIDTH), ylim=(height, 0))  # last, for each picture sets them
        content = io.BytesIO()
        figure.savefig(content, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return content.getvalue()


def write_heading(axes: Axes, preview: Preview) -> None:
    """What is shown, of what, and how the patches became visible."""
    changed = ", ".join(f"{field} {value}" for field, value in preview.changed.items())
    place_in_training = (
        f"Step {preview.step:,} of training with batches of {preview.global_batch_size:,} and seed {preview.seed}: "
        f"epoch {preview.epoch:,}, step {preview.step_in_epoch:,} of its {preview.steps_per_epoch:,}; all count from 0"
    )
    shard_set = f"Shard set {preview.shards}, digest {preview.digest[:12]}"
    title = f"What the network sees: {preview.name}{f', changed: {changed}' if changed else ''}"
    write(axes, MARGIN, 44, title, points=HEADING_POINTS, weight="bold")
    for row, line in enumerate((shard_set, place_in_training, describe_mapping(preview))):
        write(axes, MARGIN, 78 + row * 22, line, points=TITLE_POINTS - 1, color=SOFT, keep_end=row == 0)


def describe_mapping(preview: Preview) -> str:
    """How the network's input was brought back to grey levels."""
    divisor, views = (format_divisor(sample.patches[0]) for sample in (preview.batch[0], preview.views))
    factor = "" if divisor == "1" else f" × {divisor}"
    beside = "" if divisor == views else f" (views × {views})"
    mean = {"none": "", "channel": " + mean of each channel"}.get(preview.augment.mean, " + mean image")
    return (
        f"Patches show the network's input{factor}{beside}{mean}, rounded and clipped to 0-255, so that place, size, "
        "mirroring and colour shift are as the network has them"
    )


def draw_batch(axes: Axes, preview: Preview, batch: Sequence[Pixels], *, top: int) -> None:
    """Cells with a stored picture, its patch and what was drawn for it."""
    shared = preview.augment.images_per_crop
    sharing = f"; {shared} consecutive pictures share crop and mirroring" if shared > 1 else ""
    side = preview.augment.input_pixels
    title = (
        f"Training batch: {len(batch)} of {preview.global_batch_size:,} pictures, stored (left) and as the network "
        f"sees them (right, {side}×{side}){sharing}"
    )
    write(axes, MARGIN, top + LINE, title, points=TITLE_POINTS, weight="bold")
    for number, (sample, pixels) in enumerate(zip(preview.batch, batch, strict=True)):
        row, column = divmod(number, NUM_COLUMNS)
        x, y = MARGIN + column * (CELL_WIDTH + MARGIN), top + TITLE + row * CELL_HEIGHT
        (patch,) = sample.patches
        place(axes, pixels.stored, x, y, outlines=[build_outline(patch, TRAIN_COLOR)])
        place(axes, pixels.patches[0], x + EDGE + GAP, y)
        write_caption(axes, sample, x, y + EDGE + LINE, width=CELL_WIDTH)
        for line, words in enumerate((format_box(patch), format_shift(patch)), start=3):
            write(axes, x, y + EDGE + line * LINE, words)


def draw_views(axes: Axes, sample: Sample, pixels: Pixels, *, input_pixels: int, top: int) -> None:
    """A stored picture with the outlines of its views, then the views, the mirrored ones below."""
    height, width = sample.patches[0].height, sample.patches[0].width
    resized = f" brought to {input_pixels}×{input_pixels}" if input_pixels != width else ""
    title = (
        f"Ten views in evaluation, of a picture of {sample.split}: {width}×{height}{resized}, outlined in the colour "
        "below them"
    )
    write(axes, MARGIN, top + LINE, title, points=TITLE_POINTS, weight="bold")
    top += TITLE
    outlines = [build_outline(patch, color) for patch, color in zip(sample.patches, VIEW_COLORS, strict=False)]
    place(axes, pixels.stored, MARGIN, top, outlines=outlines)
    write_caption(axes, sample, MARGIN, top + EDGE + LINE, width=EDGE)
    for number, (patch, view) in enumerate(zip(sample.patches, pixels.patches, strict=True)):
        row, column = divmod(number, len(VIEW_COLORS))
        x, y = MARGIN + (column + 1) * (EDGE + GAP), top + row * VIEW_HEIGHT
        edge = place(axes, view, x, y)
        axes.add_patch(Rectangle((x, y + edge + 2), edge, 4, color=VIEW_COLORS[column], linewidth=0))
        words = f"top {patch.top}, left {patch.left}{', mirrored' if patch.mirror else ''}"
        write(axes, x, y + edge + LINE + 4, words)


def draw_mean(axes: Axes, preview: Preview, mean: Picture | None, *, top: int) -> None:
    """What is subtracted, and what the rest is divided by."""
    x = WIDTH - MARGIN - CELL_WIDTH
    write(axes, x, top + LINE, "Subtracted", points=TITLE_POINTS, weight="bold")
    top += TITLE
    augment = preview.augment
    words = {
        "centered": f"mean image, always its middle {augment.crop_pixels}×{augment.crop_pixels}",
        "cropped": "mean image, cropped as the picture",
        "channel": f"mean of each channel: {format_levels(preview.channel_mean)}",
        "none": "nothing",
    }[augment.mean]
    if mean is not None:
        side = augment.crop_pixels
        middle = (len(mean) - side) // 2
        outlines = [Outline(middle, middle, side, side, "white")] if augment.mean == "centered" else []
        top += place(axes, mean, x, top, outlines=outlines)
    divisors = [format_divisor(sample.patches[0]) for sample in (preview.batch[0], preview.views)]
    write(axes, x, top + LINE, words, width=CELL_WIDTH)
    write(axes, x, top + 2 * LINE, f"then divided by {' in training, in evaluation by '.join(dict.fromkeys(divisors))}")


def write_caption(axes: Axes, sample: Sample, x: float, y: float, *, width: float) -> None:
    """Class and key, shortened to a width."""
    write(axes, x, y, " ".join(dict.fromkeys((sample.class_id, sample.class_name))), width=width, weight="bold")
    write(axes, x, y + LINE, sample.key, width=width, color=SOFT, keep_end=True)


def place(axes: Axes, picture: Picture, x: float, y: float, *, outlines: Sequence[Outline] = ()) -> int:
    """Draw a square picture in a thin frame, and outlines in its pixels; returns its edge in those of the figure."""
    side = len(picture)
    edge = side * (EDGE // side) if side < EDGE else EDGE
    axes.add_patch(Rectangle((x - 1, y - 1), edge + 2, edge + 2, color=PALE, linewidth=0))  # shows where white ends
    scale = edge / side
    if side > EDGE:
        picture = np.asarray(Image.fromarray(picture).resize((EDGE, EDGE), Image.Resampling.LANCZOS))
    axes.imshow(picture, extent=(x, x + edge, y + edge, y), interpolation="none", aspect="auto", zorder=2)
    for left, top, width, height, color in outlines:
        corner = (x + left * scale, y + top * scale)
        halo = withStroke(linewidth=3.5, foreground=INK, alpha=0.6)
        frame = Rectangle(corner, width * scale, height * scale, fill=False, edgecolor=color, linewidth=1.6)
        frame.set(zorder=3, path_effects=[halo])
        axes.add_patch(frame)
    return edge


def write(
    axes: Axes,
    x: float,
    y: float,
    words: str,
    *,
    width: float = WIDTH - 2 * MARGIN,
    points: float = CAPTION_POINTS,
    weight: str = "normal",
    color: str = INK,
    keep_end: bool = False,
) -> None:
    """Write one line whose baseline begins at (x, y), shortened to a width; a dollar sign is nothing but that."""
    font = FontProperties(size=points, weight=weight)
    fitting = shorten(" ".join(words.split()), font, width=width, keep_end=keep_end)
    axes.text(x, y, fitting, fontproperties=font, color=color, parse_math=False, verticalalignment="baseline")


def shorten(words: str, font: FontProperties, *, width: float, keep_end: bool) -> str:
    """The words, or as many letters of their beginning or end as fit into a width in pixels, with an ellipsis."""
    kept = fitting = words
    while kept and measure(fitting, font) > width:
        kept = kept[1:] if keep_end else kept[:-1]
        fitting = f"…{kept}" if keep_end else f"{kept}…"
    return fitting


def measure(words: str, font: FontProperties) -> float:
    """Width of a line in pixels of the figure."""
    points: float = text_to_path.get_text_width_height_descent(words, font, ismath=False)[0]
    return points * PIXELS_PER_INCH / 72


def format_box(patch: Patch) -> str:
    """Size and place of a patch."""
    mirrored = "mirrored" if patch.mirror else "not mirrored"
    return f"top {patch.top}, left {patch.left}, height {patch.height}, width {patch.width}, {mirrored}"


def format_shift(patch: Patch) -> str:
    """The colour shift in grey levels."""
    if not any(patch.color_shift):
        return "no colour shift"
    return f"RGB shift {format_levels(patch.color_shift, sign='+')} grey levels"


def format_levels(levels: Sequence[float], *, sign: str = "") -> str:
    """Grey levels of R, G, B, or of grey."""
    return " ".join(f"{level:{sign}.1f}" for level in levels).replace("-", "−")


def format_divisor(patch: Patch) -> str:
    """What a patch was divided by: one number where the channels' are equal."""
    return " ".join(dict.fromkeys(f"{value:.4g}" for value in patch.divisor))
