"""Fig. 4 of a run: pictures of its shard set, the likeliest labels, the nearest training pictures."""

import base64
import dataclasses
import io
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from commands import paint_picture
from markdown_it import MarkdownIt
from PIL import Image
from untrained import STEP, build_config, pack_pictures, write_run

from pipeline.artifacts import (
    EvaluationRecord,
    Neighbour,
    NeighboursRecord,
    Query,
    RunDirectory,
    ShardSet,
    read_json,
    write_json,
)
from pipeline.drawing import DARK, GREEN, MUTED, SVG
from pipeline.preprocess.inspect import read_image
from pipeline.report.document import Picture
from pipeline.report.figure_four import SHARP_EDGE, STORED_EDGE, draw_guesses, draw_neighbours
from pipeline.report.measured import MeasuredRun, read_run

BEGINNINGS = {
    "<b>&amp;": "<b>&amp;",
    "$x_1$ \\alpha": "$x_1$ \\alpha",
    "tench, Tinca tinca": "tench",
    "紅蜻蜓とんぼ・アキアカネ・蜻蛉目の昆虫": "紅蜻蜓とん",
    "a" * 60: "aaaaaaaaaa",
    '"quoted" *x*': '"quoted" *x*',
    "ß": "ß",
}
"""Of what is shown of each class."""
CLASSES = sorted(BEGINNINGS)
PIXELS, PER_CLASS = 80, 2


@pytest.fixture(scope="module")
def odd_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on classes with odd names, with predictions and neighbours; no picture's best guess is the same."""
    folder, generator = tmp_path_factory.mktemp("odd"), np.random.default_rng(1)
    names = [f"{split}/{name}/{place}" for split in ("train", "val") for name in CLASSES for place in range(PER_CLASS)]
    shard_set = pack_pictures(folder, {name: paint_picture(generator, PIXELS, PIXELS) for name in names}, pixels=PIXELS)
    run = write_run(folder / "run", shard_set, build_config(shard_set))
    split, train = shard_set.open_split("val"), shard_set.open_split("train")
    logits = generator.normal(0, 3, (len(split), len(CLASSES)))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    evaluation = EvaluationRecord(
        split="val",
        views="ten",
        step=STEP,
        epoch=2,
        num_images=len(split),
        num_top1_errors=1,
        num_top5_errors=1,
        log_loss=1.0,
        data_digest=shard_set.info.digest,
        commit="0123456789abcdef",
        dirty=False,
    )
    file = run.predictions / f"val-ten-step-{STEP}.json"
    write_json(file, evaluation)
    np.savez(
        file.with_suffix(".npz"),
        positions=np.arange(len(split)),
        labels=split.labels,
        probabilities=probabilities.astype(np.float32),
    )
    queries = tuple(
        Query(
            position=position,
            label=int(split.labels[position]),
            key=split.key(position),
            nearest=tuple(
                Neighbour(
                    position=found,
                    label=int(train.labels[found]),
                    key=train.key(found),
                    distance=0.5 + position + place,
                )
                for place, found in enumerate(generator.permutation(len(train))[:6].tolist())
            ),
        )
        for position in range(7)
    )
    record = NeighboursRecord(
        split="val",
        step=STEP,
        epoch=2,
        layer="fc7",
        num_units=20,
        num_images=len(train),
        num_skipped=0,
        data_digest=shard_set.info.digest,
        commit="0123456789abcdef",
        dirty=False,
        queries=queries,
    )
    write_json(run.neighbours / f"val-step-{STEP}.json", record)
    return run.path


def open_set(run: MeasuredRun) -> ShardSet:
    return RunDirectory(run.path).open_data(run.record, None)


def list_cells(picture: Picture) -> list[ET.Element]:
    """Those that hold a picture, in order."""
    cells = ET.fromstring(picture.svg).findall(f"{{{SVG}}}svg")
    return [cell for cell in cells if cell.find(f"{{{SVG}}}image") is not None]


def decode(cell: ET.Element) -> Image.Image:
    head, content = cell.find(f"{{{SVG}}}image").get("href").split(",")
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert head == f"data:image/{image.format.lower()};base64"
    return image


def assert_shows(cell: ET.Element, pixels: np.ndarray) -> None:
    """The cell's JPEG is that picture and no other: they differ by much more."""
    assert np.abs(np.asarray(decode(cell), np.float64) - pixels).mean() < 6


def list_words(cell: ET.Element) -> list[str]:
    return [text.text for text in cell.findall(f"{{{SVG}}}text")]


def list_titles(cell: ET.Element) -> list[str]:
    return [title.text for title in cell.iterfind(f"{{{SVG}}}text/{{{SVG}}}title")]


def test_eight_pictures_spread_over_the_split_each_with_its_five_likeliest_labels(odd_run):
    run = read_run(odd_run)
    shard_set, figure = open_set(run), draw_guesses(run)
    split = shard_set.open_split("val")
    with np.load(RunDirectory(odd_run).predictions / f"val-ten-step-{STEP}.npz") as saved:
        probabilities = saved["probabilities"].astype(np.float64)
    cells, positions = list_cells(figure), [0, 2, 4, 6, 7, 9, 11, 13]  # of 14, the middle ones of eighths
    num_right = 0
    for cell, position in zip(cells, positions, strict=True):
        assert_shows(cell, read_image(shard_set, split, position))
        label, likeliest = split.labels[position], np.argsort(-probabilities[position])[:5].tolist()
        heading, *rows = list_words(cell)
        assert heading.startswith(BEGINNINGS[CLASSES[label]])
        assert list_titles(cell) == [CLASSES[place] for place in (label, *likeliest)]
        for place, name, percent in zip(likeliest, rows[::2], rows[1::2], strict=True):
            assert name.removeprefix("✓ ").startswith(BEGINNINGS[CLASSES[place]])
            assert name.startswith("✓ ") == (place == label)
            assert percent == f"{probabilities[position, place]:.1%}".replace("0.0%", "< 0.1%")
        bars = cell.findall(f"{{{SVG}}}rect")[1::2]
        assert [bar.get("style") for bar in bars] == [
            f"fill: {GREEN if place == label else MUTED}" for place in likeliest
        ]
        widths = [float(bar.get("width")) / float(cell.get("width")) for bar in bars]
        np.testing.assert_allclose(widths, probabilities[position, likeliest], atol=1e-3)
        num_right += label in likeliest
    assert 0 < num_right < len(cells)


def test_the_right_label_is_told_by_weight_too(odd_run):
    for cell in list_cells(draw_guesses(read_run(odd_run))):
        texts = cell.findall(f"{{{SVG}}}text")
        bold = [text.text for text in texts if text.get("font-weight") == "bold"]
        assert bold == [texts[0].text] + [text.text for text in texts if text.text.startswith("✓ ")]


def test_five_queries_each_before_its_six_nearest_and_their_distances(odd_run):
    run = read_run(odd_run)
    shard_set, cells = open_set(run), list_cells(draw_neighbours(run))
    splits = {name: shard_set.open_split(name) for name in ("train", "val")}
    record = read_json(RunDirectory(odd_run).neighbours / f"val-step-{STEP}.json", NeighboursRecord)
    rows = [cells[first : first + 7] for first in range(0, len(cells), 7)]
    num_same = 0
    for (left, *others), place in zip(rows, [0, 2, 3, 4, 6], strict=True):
        query = record.queries[place]
        assert_shows(left, read_image(shard_set, splits["val"], query.position))
        assert list_titles(left) == [CLASSES[query.label]]
        for cell, found in zip(others, query.nearest, strict=True):
            assert_shows(cell, read_image(shard_set, splits["train"], found.position))
            name, distance = list_words(cell)
            assert name.startswith("✓ ") == (found.label == query.label)
            assert float(distance) == found.distance
            assert cell.get("y") == left.get("y")
            num_same += name.startswith("✓ ")
        columns = [float(cell.get("x")) for cell in (left, *others)]
        assert columns == sorted(columns)
    assert 0 < num_same < 30


@pytest.mark.parametrize("draw", [draw_guesses, draw_neighbours])
def test_figures_stand_on_a_dark_page_and_say_what_they_show(draw, odd_run):
    picture = draw(read_run(odd_run))
    root = ET.fromstring(picture.svg)
    own_id = f"figure-{picture.name}"
    assert (root.tag, root.get("id")) == (f"{{{SVG}}}svg", own_id)
    assert [root.find(f"{{{SVG}}}{tag}").get("id") for tag in ("title", "desc")] == root.get("aria-labelledby").split()
    assert root.findtext(f"{{{SVG}}}desc") == picture.caption
    rules = root.findtext(f"{{{SVG}}}style")
    fills = {element.get("style") for element in root.iter() if element.get("style")}
    for fill in fills:
        assert f'#{own_id} [style*="{fill}"]{{fill:{DARK[fill.removeprefix("fill: ")]}!important}}' in rules
    assert draw(read_run(odd_run)) == picture


def test_foreign_names_add_no_element_and_no_control_character(odd_run):
    run = read_run(odd_run)
    for draw in (draw_guesses, draw_neighbours):
        picture = draw(run)
        kinds = {element.tag.removeprefix(f"{{{SVG}}}") for element in ET.fromstring(picture.svg).iter()}
        assert kinds <= {"svg", "title", "desc", "style", "rect", "image", "text"}
        assert b"&lt;b&gt;&amp;amp;" in picture.svg


@pytest.mark.parametrize(("pixels", "form", "edge"), [(SHARP_EDGE, "PNG", SHARP_EDGE), (300, "JPEG", STORED_EDGE)])
def test_small_pictures_are_stored_as_they_are_and_large_ones_reduced(pixels, form, edge, odd_run, tmp_path):
    picture = paint_picture(np.random.default_rng(0), pixels, pixels)
    names = [f"{split}/{label}/{place}" for split in ("train", "val") for label in "ab" for place in range(7)]
    shard_set = pack_pictures(tmp_path, dict.fromkeys(names, picture), pixels=pixels, encoding="raw")
    run = read_run(odd_run)
    record = dataclasses.replace(run.record, data=str(shard_set.path), data_digest=shard_set.info.digest)
    probabilities = np.tile(np.float32([0.75, 0.25]), (14, 1))
    copy = RunDirectory(Path(shutil.copytree(odd_run, tmp_path / "run")))
    labels = shard_set.open_split("val").labels
    np.savez(
        copy.predictions / f"val-ten-step-{STEP}.npz",
        positions=np.arange(14),
        labels=labels,
        probabilities=probabilities,
    )
    figure = draw_guesses(dataclasses.replace(run, path=copy.path, record=record))
    images = [decode(cell) for cell in list_cells(figure)]
    assert [(image.format, image.size) for image in images] == [(form, (edge, edge))] * 8
    assert all(len(cell.findall(f"{{{SVG}}}rect")) == 2 * 2 for cell in list_cells(figure))
    if form == "PNG":
        np.testing.assert_array_equal(np.asarray(images[0]), np.asarray(picture))


def remove_set(run: MeasuredRun) -> MeasuredRun:
    return dataclasses.replace(run, record=dataclasses.replace(run.record, data="/nowhere/*set*<b>"))


def change_set(run: MeasuredRun) -> MeasuredRun:
    return dataclasses.replace(run, record=dataclasses.replace(run.record, data_digest="0" * 64))


def forget(run: MeasuredRun) -> MeasuredRun:
    return dataclasses.replace(run, path=run.path / "elsewhere", evaluations=())


@pytest.mark.parametrize("draw", [draw_guesses, draw_neighbours])
@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (remove_set, "/nowhere/*set*<b> is not a directory"),
        (change_set, "is not the shard set that"),
        (forget, ": run `alexnet evaluate"),
    ],
)
def test_where_there_is_nothing_to_draw_a_sentence_says_why(draw, harm, sentence, odd_run):
    said = draw(harm(read_run(odd_run)))
    assert isinstance(said, str)
    (paragraph, inline, _) = MarkdownIt("commonmark").parse(said)
    assert paragraph.tag == "p"
    assert {child.type for child in inline.children} == {"text"}, "foreign text became Markdown"
    assert sentence in "".join(child.content for child in inline.children)


def test_a_damaged_picture_is_named(odd_run, tmp_path):
    run = read_run(odd_run)
    moved = Path(shutil.copytree(run.record.data, tmp_path / "set"))
    run = dataclasses.replace(run, record=dataclasses.replace(run.record, data=str(moved)))
    path, offset, _ = open_set(run).open_split("val").find_bytes(4)
    with path.open("r+b") as shard:
        shard.seek(offset)
        shard.write(bytes(60))
    assert "is damaged, it cannot be decoded" in draw_guesses(run).replace("\\", "")
