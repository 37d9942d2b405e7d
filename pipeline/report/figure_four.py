"""Fig. 4 of a run: what it takes pictures for, and which training pictures are like them to it."""

import base64
import io
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline import paper
from pipeline.artifacts import (
    EvaluationRecord,
    NeighboursRecord,
    RunDirectory,
    ShardSet,
    ShardSplit,
    Split,
    read_json,
)
from pipeline.augment.order import spread_positions
from pipeline.drawing import BACKGROUND, GREEN, GRID, INK, MUTED, SVG, clean, finish_svg, shorten
from pipeline.errors import InputError, check
from pipeline.evaluate.ensemble import Predictions, read_predictions
from pipeline.preprocess.inspect import read_image
from pipeline.report.document import Picture, escape_markdown, format_count
from pipeline.report.figures.guesses import find_saved, get_predictions_file
from pipeline.report.figures.names import format_label, format_name
from pipeline.report.measured import MeasuredRun, call_by_name

FONT, FONT_PIXELS, LINE_PIXELS = "DejaVu Sans, Verdana, Arial, sans-serif", 12, 16
MARGIN, GAP = 16, 24
GUESSES_PER_ROW, GUESS_EDGE, LABEL_COLUMNS, GUESS_COLUMNS = 4, 200, 24, 18
BAR_STEP, BAR_HEIGHT = 26, 5
NEAR_EDGE, NEAR_GAP, NEAR_COLUMNS, HEADING_PIXELS = 114, 8, 13, 24
"""Pixels of what is shown, and letters that have room, of a width that DejaVu Sans seldom exceeds."""

STORED_EDGE, JPEG_QUALITY = 224, 85
"""Larger pictures are reduced to this edge."""
SHARP_EDGE = 64
"""Pictures of up to this edge are stored without loss and magnified pixel by pixel."""


def draw_guesses(run: MeasuredRun, data: Path | None = None) -> Picture | str:
    """Pictures of the newest evaluation, their labels, and the five likeliest of each (Fig. 4, left).

    Args:
        run: with a saved evaluation, and neighbours.
        data: where the shard set lies now; None for where the run read it.

    Returns:
        The figure, or a sentence in Markdown that says why there is none.
    """
    try:
        evaluation, saved = read_newest_predictions(run)
        shard_set = RunDirectory(run.path).open_data(run.record, data)
        chosen = spread_positions(len(saved.positions), paper.FIGURE_4_PICTURES)
        root = lay_out_guesses(shard_set, evaluation.split, saved, chosen)
    except InputError as error:
        return explain("The likeliest labels", run, error)
    views = "ten views" if evaluation.views == "ten" else "centre patch"
    caption = (
        f"Pictures of {evaluation.split}, their labels in bold, and the five likeliest by {format_label(run)} after "
        f"{format_count(evaluation.epoch, 'epoch')}, {views}. The right label is ticked and its bar green; a bar as "
        f"wide as its picture is a probability of 1. The pictures are the middle ones of {len(chosen)} equal parts of "
        f"all {len(saved.positions):,}, whatever they show."
    )
    return build_picture(root, format_name("guesses", run), "Fig. 4, left: the five likeliest labels", caption)


def lay_out_guesses(shard_set: ShardSet, name: Split, saved: Predictions, chosen: npt.NDArray[np.int64]) -> ET.Element:
    """Pictures in rows, each above its label and the likeliest ones.

    Args:
        shard_set: of the pictures.
        name: of their split.
        saved: what was predicted.
        chosen: (N,) int64, which of the predictions are shown.

    Raises:
        InputError: a picture or its shard is damaged.
    """
    split = shard_set.open_split(name)
    num_bars = min(paper.FIGURE_4_LIKELIEST, saved.probabilities.shape[1])
    width, height = GUESS_EDGE + GAP, GUESS_EDGE + 2 * LINE_PIXELS + num_bars * BAR_STEP + GAP
    num_rows = -(-len(chosen) // GUESSES_PER_ROW)
    root = begin_svg(GUESSES_PER_ROW * width - GAP, num_rows * height - GAP)
    for place, shown in enumerate(chosen):
        row, column = divmod(place, GUESSES_PER_ROW)
        cell = add_cell(root, column * width, row * height, GUESS_EDGE, height)
        add_picture(cell, shard_set, split, int(saved.positions[shown]))
        add_guesses(cell, shard_set, int(saved.labels[shown]), saved.probabilities[shown])
    return root


def draw_neighbours(run: MeasuredRun, data: Path | None = None) -> Picture | str:
    """Pictures, and the training pictures nearest to each in the last hidden layer (Fig. 4, right).

    Args:
        run: with a saved evaluation, and neighbours.
        data: where the shard set lies now; None for where the run read it.

    Returns:
        The figure, or a sentence in Markdown that says why there is none.
    """
    try:
        record = read_newest_neighbours(run)
        shard_set = RunDirectory(run.path).open_data(run.record, data)
        chosen = spread_positions(len(record.queries), paper.FIGURE_4_QUERIES).tolist()
        root = lay_out_neighbours(shard_set, replace(record, queries=tuple(record.queries[row] for row in chosen)))
    except InputError as error:
        return explain("The nearest training pictures", run, error)
    caption = (
        f"On the left pictures of {record.split}; beside each the training pictures nearest to it among "
        f"{record.num_images:,}, by Euclidean distance of the {record.num_units:,} activations of {record.layer} in "
        f"{format_label(run)} after {format_count(record.epoch, 'epoch')}. Those of the same class are ticked. The "
        f"pictures on the left are spread evenly over {record.split}, whatever they show."
    )
    return build_picture(root, format_name("neighbours", run), "Fig. 4, right: the nearest training pictures", caption)


def lay_out_neighbours(shard_set: ShardSet, record: NeighboursRecord) -> ET.Element:
    """A row for each query: its picture, a gap, and the nearest ones with their distances.

    Raises:
        InputError: a picture or its shard is damaged.
    """
    split, train = shard_set.open_split(record.split), shard_set.open_split("train")
    width, height, first = NEAR_EDGE + NEAR_GAP, NEAR_EDGE + 2 * LINE_PIXELS + 2 * NEAR_GAP, NEAR_EDGE + GAP
    num_columns = max(len(query.nearest) for query in record.queries)
    root = begin_svg(first + num_columns * width - NEAR_GAP, HEADING_PIXELS + len(record.queries) * height)
    for x, words in ((0, record.split), (first, f"nearest in train, and how far in {record.layer}")):
        cell = add_cell(root, x, 0, num_columns * width, HEADING_PIXELS)
        add_words(cell, words, FONT_PIXELS, color=MUTED)
    for row, query in enumerate(record.queries):
        y = HEADING_PIXELS + row * height
        cell = add_cell(root, 0, y, NEAR_EDGE, height)
        add_picture(cell, shard_set, split, query.position)
        add_name(cell, shard_set, query.label, NEAR_EDGE + LINE_PIXELS, NEAR_COLUMNS, is_bold=True)
        for column, found in enumerate(query.nearest):
            cell = add_cell(root, first + column * width, y, NEAR_EDGE, height)
            add_picture(cell, shard_set, train, found.position)
            is_same = found.label == query.label
            add_name(cell, shard_set, found.label, NEAR_EDGE + LINE_PIXELS, NEAR_COLUMNS, is_right=is_same)
            add_words(cell, f"{found.distance:#.4g}".rstrip("."), NEAR_EDGE + 2 * LINE_PIXELS, color=MUTED)
    return root


def read_newest_predictions(run: MeasuredRun) -> tuple[EvaluationRecord, Predictions]:
    """The newest saved evaluation of a run, and its predictions.

    Raises:
        InputError: there is none.
    """
    evaluation = find_saved(run)
    if evaluation is None:
        raise InputError(f"{run.path} has no predictions: run `alexnet evaluate {run.path}`")
    return evaluation, read_predictions(get_predictions_file(run, evaluation), evaluation.data_digest)


def read_newest_neighbours(run: MeasuredRun) -> NeighboursRecord:
    """The newest neighbours of a run, of test first.

    Raises:
        InputError: there are none.
    """
    files = RunDirectory(run.path).neighbours.glob("*-step-*.json")
    found = [read_json(file, NeighboursRecord) for file in files]
    check(
        found, f"{run.path} has no neighbours: run `alexnet evaluate {run.path} --neighbours {paper.FIGURE_4_QUERIES}`"
    )
    return max(found, key=lambda record: (record.step, record.split == "test"))


def explain(what: str, run: MeasuredRun, error: InputError) -> str:
    """Why a figure is missing, in Markdown; paths and names are foreign text."""
    reason = call_by_name(str(error), run.path)
    return escape_markdown(clean(f"{what} of {format_label(run)} are not shown: {reason}."))


def begin_svg(width: int, height: int) -> ET.Element:
    """An empty figure of so many pixels, and a margin."""
    width, height = width + 2 * MARGIN, height + 2 * MARGIN
    root = ET.Element(f"{{{SVG}}}svg", width=str(width), height=str(height), viewBox=f"0 0 {width} {height}")
    root.set("font-family", FONT)
    root.set("font-size", str(FONT_PIXELS))
    add(root, "rect", width=width, height=height, style=f"fill: {BACKGROUND}")
    return root


def build_picture(root: ET.Element, name: str, title: str, caption: str) -> Picture:
    """The figure with what it says to those who cannot see it."""
    return Picture(name=name, caption=caption, svg=finish_svg(root, name=name, title=title, caption=caption))


def add(parent: ET.Element, tag: str, words: str | None = None, /, **attributes: object) -> ET.Element:
    """Add an element; `text_anchor` becomes `text-anchor`."""
    named = {name.replace("_", "-"): str(value) for name, value in attributes.items()}
    element = ET.SubElement(parent, f"{{{SVG}}}{tag}", named)
    element.text = None if words is None else clean(words)
    return element


def add_cell(root: ET.Element, x: int, y: int, width: int, height: int) -> ET.Element:
    """Room for a picture and what belongs to it, which nothing leaves."""
    return add(root, "svg", x=MARGIN + x, y=MARGIN + y, width=width, height=height)


def add_words(cell: ET.Element, words: str, y: int, *, color: str = INK, **attributes: object) -> ET.Element:
    """Add a line of text from the left edge on, or from `x`."""
    return add(cell, "text", words, y=y, style=f"fill: {color}", **({"x": 0} | attributes))


def add_name(
    cell: ET.Element,
    shard_set: ShardSet,
    label: int,
    y: int,
    columns: int,
    *,
    is_bold: bool = False,
    is_right: bool = False,
) -> None:
    """Add the first name of a class, cut to so many columns; who points at it reads them all."""
    found = shard_set.info.classes[label]
    words = f"{'✓ ' if is_right else ''}{found.name.split(', ')[0]}"
    weight = "bold" if is_bold or is_right else "normal"
    line = add_words(cell, shorten(words, columns), y, font_weight=weight)
    add(line, "title", " ".join(dict.fromkeys((found.id, found.name))))


def add_picture(cell: ET.Element, shard_set: ShardSet, split: ShardSplit, position: int) -> None:
    """Add a picture as wide as its cell.

    Raises:
        InputError: it is damaged.
    """
    image = Image.fromarray(read_image(shard_set, split, position))
    is_small, content = max(image.size) <= SHARP_EDGE, io.BytesIO()
    if is_small:
        image.save(content, "PNG")
    else:
        image.thumbnail((STORED_EDGE, STORED_EDGE), Image.Resampling.LANCZOS)
        image.save(content, "JPEG", quality=JPEG_QUALITY)
    encoded = base64.b64encode(content.getvalue()).decode()
    edge = cell.attrib["width"]
    element = add(
        cell,
        "image",
        width=edge,
        height=edge,
        image_rendering="pixelated" if is_small else "auto",
        href=f"data:image/{'png' if is_small else 'jpeg'};base64,{encoded}",
    )
    add(element, "title", split.key(position))


def add_guesses(cell: ET.Element, shard_set: ShardSet, label: int, probabilities: npt.NDArray[np.float32]) -> None:
    """Add the label below a picture, and the likeliest ones with their bars."""
    y = GUESS_EDGE + LINE_PIXELS
    add_name(cell, shard_set, label, y, LABEL_COLUMNS, is_bold=True)
    likeliest = np.argsort(-probabilities, kind="stable")[: paper.FIGURE_4_LIKELIEST]
    for guess, probability in zip(likeliest.tolist(), probabilities[likeliest].tolist(), strict=True):
        y, is_right = y + BAR_STEP, guess == label
        add_name(cell, shard_set, guess, y, GUESS_COLUMNS, is_right=is_right)
        percent = f"{probability:.1%}" if probability >= 0.0005 else "< 0.1%"
        add_words(cell, percent, y, x=GUESS_EDGE, text_anchor="end")
        for width, color in ((1.0, GRID), (probability, GREEN if is_right else MUTED)):
            pixels = f"{width * GUESS_EDGE:.1f}"
            add(cell, "rect", y=y + BAR_HEIGHT, width=pixels, height=BAR_HEIGHT, style=f"fill: {color}")
