"""The report's figures: what each holds, of which runs, classes and claims, in words and in numbers."""

import base64
import dataclasses
import io
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch
from drawings import SVG, XLINK, list_panels, read_lines, read_numbers, read_texts
from PIL import Image
from written_runs import write_evaluation, write_kernels, write_run

from pipeline.artifacts import (
    ClassInfo,
    ColorComponents,
    EvaluationRecord,
    RunDirectory,
    ShardSetInfo,
    to_npy,
    write_bytes,
    write_json,
)
from pipeline.claims import CLAIMS, Errors
from pipeline.drawing import BLUE, INK, PAPER_COLOR, VERMILLION
from pipeline.errors import InputError
from pipeline.evaluate.ensemble import Predictions
from pipeline.experiments import EXPERIMENTS
from pipeline.model.kernels import draw_kernels
from pipeline.options import PackingConfig
from pipeline.report.answer import Answer, Measurement
from pipeline.report.figures.claims import build_claims_picture
from pipeline.report.figures.classes import build_class_errors, count_class_errors
from pipeline.report.figures.confusion import build_confused_pairs, build_confusion_matrix
from pipeline.report.figures.figure_one import build_figure_one
from pipeline.report.figures.guesses import Guesses, find_likeliest, name_classes, read_guesses
from pipeline.report.figures.kernels import build_kernels, clear_gaps
from pipeline.report.figures.learning import build_comparison, build_learning_curves
from pipeline.report.figures.names import format_label, format_name
from pipeline.report.intervals import Count, compute_interval
from pipeline.report.measured import MeasuredRun, read_run
from pipeline.tracking import Journal

EVALUATION = EvaluationRecord(
    split="val",
    views="ten",
    step=1,
    epoch=1,
    num_images=9,
    num_top1_errors=4,
    num_top5_errors=0,
    log_loss=1.0,
    data_digest="",
    commit="0123456789abcdef",
    dirty=False,
)
NAMES = ("crane", "$x$ <b>&", "運動会")


DATA = ShardSetInfo(
    format_version=2,
    layout="folders",
    complete=True,
    classes=tuple(ClassInfo(id=f"n{label}", name=f"class {label}, or so") for label in range(8)),
    splits={},
    num_dropped=0,
    packing=PackingConfig(),
    color=ColorComponents(mean=(), covariance=(), eigenvalues=(), eigenvectors=(), standard_deviations=()),
    files={},
    tools={},
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> MeasuredRun:
    """A run with predictions of eight classes and kernels. Read only."""
    path = write_run(tmp_path_factory.mktemp("runs"), "source-2012", train_errors=(0.9, 0.6, 0.4), val_error=0.45)
    write_evaluation(path, [0, 0, 1, 2, 0, 5, 0, 0] * 3)
    write_evaluation(path, [0, 0, 1, 2, 0, 5, 7, 0] * 3, views="center")
    write_kernels(path, np.random.default_rng(0).normal(size=(96, 3, 11, 11)).astype(np.float32))
    write_json(RunDirectory(path).dataset, DATA)
    return read_run(path)


@pytest.fixture
def guesses() -> Guesses:
    """Three classes: of the first 1 of 4 pictures wrong, of the second 3 of 3, of the third 0 of 2."""
    labels, likeliest = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2]), np.array([0, 0, 0, 1, 0, 0, 2, 2, 2])
    return Guesses(evaluation=EVALUATION, classes=NAMES, labels=labels, likeliest=likeliest)


def rename(run: MeasuredRun, name: str, **changes: object) -> MeasuredRun:
    return dataclasses.replace(run, path=Path(name), record=dataclasses.replace(run.record, **changes))


def test_claims_have_their_numbers_in_rows_errors_apart_from_differences():
    answers = [Answer(claim=claim, verdict="not run") for claim in CLAIMS]
    place = next(i for i, claim in enumerate(CLAIMS) if claim.key == "one-cnn-2012")
    top1, top5 = Measurement(value=0.41, interval=(0.40, 0.43)), Measurement(value=0.19, interval=(0.18, 0.20))
    answers[place] = dataclasses.replace(answers[place], verdict="within noise", top1=top1, top5=top5)
    svg = build_claims_picture(answers).svg
    texts = read_texts(svg)
    shown = [claim for claim in CLAIMS if isinstance(claim.paper, Errors)]
    assert all(f"{claim.text} ({claim.where})" in texts for claim in shown)
    assert not any(f"{claim.text} ({claim.where})" in texts for claim in CLAIMS if claim not in shown)
    assert (texts.count("not run"), texts.count("within noise")) == (len(shown) - 1, 1)
    assert {"top-1: error, %", "top-5: error, %", "top-1: worse by, percentage points"} <= set(texts)
    panels = list_panels(svg)
    for panel, low, high in ((panels[0], 40, 43), (panels[1], 18, 20)):
        ((start, end),) = [line for line in read_lines(panel)[INK] if len(line) == 2 and line[0][0] != line[1][0]][:1]
        assert read_numbers(panel, "x", [start[0], end[0]]) == pytest.approx([low, high], abs=0.01)
    diamonds = [float(use.attrib["x"]) for use in panels[0].iter(f"{SVG}use") if PAPER_COLOR in use.attrib["style"]]
    errors = [100 * claim.paper.top1 for claim in shown if claim.paper.top1 is not None and "worse" not in claim.text]
    assert read_numbers(panels[0], "x", sorted(diamonds)) == pytest.approx(sorted(errors), abs=0.02)


def test_no_claims_are_an_empty_figure():
    assert "top-1: error, %" in read_texts(build_claims_picture([]).svg)


def test_a_run_s_own_curves_and_those_of_all_runs_together(run: MeasuredRun, tmp_path: Path):
    own = build_learning_curves(run)
    assert own.name == format_name("learning-curves", run)
    assert format_label(run) in own.caption
    assert "validation top-1" in read_texts(own.svg)
    copies = [shutil.copytree(run.path, tmp_path / f"$x_{i}$ <i>") for i in range(2)]
    others = [run, *(rename(run, str(copies[i]), experiment=name) for i, name in enumerate(("paper", "no-lrn")))]
    picture = build_comparison(others)
    assert {format_label(other) for other in others} <= set(read_texts(picture.svg))
    lines = [found for panel in list_panels(picture.svg) for found in read_lines(panel)]
    assert {INK, f"{BLUE} dashed", f"{VERMILLION} dashed"} <= set(lines)
    assert b"<i>" not in picture.svg


def test_runs_side_by_side_have_a_point_of_the_loss_for_each_finished_epoch(run: MeasuredRun, tmp_path: Path):
    often = dataclasses.replace(run, path=tmp_path)
    for step, loss in ((1, 3.0), (2, 1.0), (3, 0.9), (4, 0.7), (5, 0.1)):
        Journal(RunDirectory(tmp_path).journal).append(step=step, epoch=step / 2, metrics={"train/loss": loss})
    _, losses = list_panels(build_comparison([run, often]).svg)
    ((line,),) = [lines for kind, lines in read_lines(losses).items() if kind == f"{BLUE} dashed"]
    assert read_numbers(losses, "y", [y for _, y in line]) == pytest.approx([2.0, 0.8], abs=0.01)
    assert len(read_lines(losses)[INK][0]) == run.num_epochs


def test_names_of_a_run_are_its_own_and_fit_for_files(run: MeasuredRun):
    assert format_label(rename(run, "a\n$b$", experiment="paper")).startswith("a $b$: paper (")
    names = {format_name("conv1", rename(run, "x", id=own, experiment="../Ü")) for own in ("aaaaaaaa1", "bbbbbbbb1")}
    assert names == {"conv1-aaaaaaaa", "conv1-bbbbbbbb"}


def test_figure_one_says_when_each_run_is_below_its_threshold(run: MeasuredRun, tmp_path: Path):
    runs = []
    for name, values in (("fig1-relu", (0.5, 0.2)), ("fig1-tanh", (0.6, 0.5)), ("paper", (0.5, 0.2))):
        journal = Journal(RunDirectory(tmp_path / name).journal)
        for epoch, value in enumerate(values, start=1):
            journal.append(step=10 * epoch, epoch=epoch, metrics={"train/top1_error": value})
        record = dataclasses.replace(
            run.record, experiment=name, config=EXPERIMENTS[name].config, status="as registered"
        )
        runs.append(dataclasses.replace(run, path=tmp_path / name, record=record))
    picture = build_figure_one(runs)
    assert "fig1-relu (as registered): 1.8; fig1-tanh (as registered): not in 2." in picture.caption
    assert {"epochs", "training top-1 error, %", "25%", "1.8"} <= set(read_texts(picture.svg))
    assert not any("paper" in text for text in read_texts(picture.svg))
    assert build_figure_one(runs[2:]) is None
    assert build_figure_one([dataclasses.replace(runs[0], path=tmp_path / "no journal")]) is None


@pytest.mark.parametrize(("towers", "shape"), [(2, (96, 3, 11, 11)), (1, (32, 3, 5, 5)), (1, (16, 1, 11, 9))])
def test_kernels_are_shown_by_tower_pixel_for_pixel(
    run: MeasuredRun, tmp_path: Path, towers: int, shape: tuple[int, ...]
):
    kernels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    write_bytes(RunDirectory(tmp_path).kernels, to_npy(kernels))
    model = dataclasses.replace(run.record.config.model, towers=towers)
    record = dataclasses.replace(run.record, config=dataclasses.replace(run.record.config, model=model))
    svg = build_kernels(dataclasses.replace(run, path=tmp_path, record=record)).svg
    number, channels, height, width = shape
    said = f"{number // towers} kernels of {width}×{height} pixels in {'colour' if channels == 3 else 'grey'}"
    where = [f"Tower {tower} of {towers}: " for tower in range(1, towers + 1)] if towers > 1 else [""]
    assert read_texts(svg) == [f"{place}{said}" for place in where]
    images = list(ET.fromstring(svg).iter(f"{SVG}image"))
    assert len(images) == towers
    for image, part in zip(images, np.split(kernels, towers), strict=True):
        assert "pixelated" in image.attrib["style"]
        content = base64.b64decode(image.attrib[f"{XLINK}href"].partition(",")[2])
        drawn = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))
        picture = drawn[:, :, :3].astype(float)
        scale = picture.shape[1] // ((width + 1) * min(16, len(part)) + 1)
        first = picture[scale : scale * (height + 1), scale : scale * (width + 1)][
            scale // 2 :: scale, scale // 2 :: scale
        ]
        cell = np.pad(np.full((height * scale, width * scale), 255), ((scale, 0), (scale, 0)))
        rows, columns = (length // edge for length, edge in zip(drawn.shape, cell.shape, strict=False))
        alpha = np.pad(np.tile(cell, (rows, columns)), ((0, scale), (0, scale)))
        assert (drawn[:, :, 3] == alpha).all()  # between them the page is seen
        expected = (part[0] - part[0].min()) / (part[0].max() - part[0].min()) * 255
        assert np.abs(first - expected.transpose(1, 2, 0)).max() <= 1


def test_a_single_kernel_has_no_gaps():
    picture = draw_kernels(torch.rand(1, 3, 5, 4), towers=1)
    assert (clear_gaps(picture, 5, 4) == np.asarray(picture.convert("RGBA"))).all()


def test_no_kernels_are_no_figure(run: MeasuredRun, tmp_path: Path):
    assert build_kernels(dataclasses.replace(run, path=tmp_path)) is None


def test_guesses_agree_with_what_the_evaluation_counted(run: MeasuredRun):
    guesses = read_guesses(run)
    assert guesses.evaluation.views == "ten"
    assert int((guesses.labels != guesses.likeliest).sum()) == guesses.evaluation.num_top1_errors == 9
    assert len(guesses.labels) == guesses.evaluation.num_images == 24
    assert guesses.classes == tuple(f"class {label}" for label in range(8))


def test_a_tie_with_the_label_is_an_error_and_so_is_nothing_at_all():
    probabilities = np.array([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7], [np.nan] * 3, [0.2, 0.7, 0.1], [0.0] * 3])
    predictions = Predictions(
        data_digest="", positions=np.arange(5), labels=np.array([0, 2, 1, 2, 0]), probabilities=probabilities
    )
    assert find_likeliest(predictions).tolist() == [1, 2, 0, 1, 1]


def test_no_saved_probabilities_are_no_guesses(run: MeasuredRun, tmp_path: Path):
    assert read_guesses(dataclasses.replace(run, path=tmp_path)) is None
    assert read_guesses(dataclasses.replace(run, evaluations=())) is None


def test_classes_of_one_name_are_told_apart_by_their_ids():
    classes = [ClassInfo(id=f"n{i}", name=name) for i, name in enumerate(("crane", "tench, Tinca tinca", "crane"))]
    assert name_classes(tuple(classes)) == ("crane (n0)", "tench", "crane (n2)")


def test_each_of_a_few_classes_has_its_error_with_interval_worst_on_top(run: MeasuredRun, guesses: Guesses):
    rows = count_class_errors(guesses)
    assert [(row.name, row.count) for row in rows] == [
        (NAMES[2], Count(0, 2)),
        (NAMES[0], Count(1, 4)),
        (NAMES[1], Count(3, 3)),
    ]
    picture = build_class_errors(run, guesses)
    (panel,) = list_panels(picture.svg)
    intervals = [line for line in read_lines(panel)[INK] if len(line) == 2]
    found = [read_numbers(panel, "x", [start[0], end[0]]) for start, end in intervals]
    for numbers, row in zip(found, rows, strict=True):
        assert numbers == pytest.approx([100 * end for end in compute_interval(row.count)], abs=0.05)
    assert [line[0][1] for line in intervals] == sorted((line[0][1] for line in intervals), reverse=True)
    assert {*NAMES, "top-1 error, %"} <= set(read_texts(picture.svg))
    assert "44.4%" in picture.caption


def test_of_many_classes_the_best_and_the_worst_are_named(run: MeasuredRun):
    labels = np.repeat(np.arange(40), 50)
    likeliest = np.where(np.arange(len(labels)) % 50 < labels, (labels + 1) % 40, labels)  # class i has i errors
    names = tuple(f"class {label}" for label in range(40))
    picture = build_class_errors(run, Guesses(evaluation=EVALUATION, classes=names, labels=labels, likeliest=likeliest))
    assert {text for text in read_texts(picture.svg) if text.startswith("class ")} == {
        *names[:10],
        *names[30:],
    }
    curve = list_panels(picture.svg)[1]
    (line,) = read_lines(curve)[BLUE]
    assert read_numbers(curve, "y", [line[0][1], line[-1][1]]) == pytest.approx([0, 78], abs=0.1)
    assert "classes, from the best to the worst" in read_texts(picture.svg)


def test_confused_pairs_come_by_their_number_with_their_share(run: MeasuredRun, guesses: Guesses):
    table = build_confused_pairs(run, guesses)
    assert table.rows == (
        (NAMES[1], NAMES[0], "2", "66.7"),
        (NAMES[0], NAMES[1], "1", "25.0"),
        (NAMES[1], NAMES[2], "1", "33.3"),
    )
    many = dataclasses.replace(guesses, classes=tuple("abcdefgh"), labels=np.repeat(np.arange(8), 7))
    others = np.array([[other for other in range(8) if other != label] for label in range(8)]).ravel()
    assert len(build_confused_pairs(run, dataclasses.replace(many, likeliest=others)).rows) == 20


def test_the_matrix_has_a_cell_for_each_pair_that_occurs(run: MeasuredRun, guesses: Guesses):
    picture = build_confusion_matrix(run, guesses)
    texts = read_texts(picture.svg)
    assert [texts.count(name) for name in (*NAMES, "taken for", "true class")] == [2, 2, 2, 1, 1]
    (panel,) = list_panels(picture.svg)
    cells = {}
    for path in panel.iter(f"{SVG}path"):
        filled = re.match(rf"fill: ({BLUE}|{VERMILLION})(?:; fill-opacity: (\S+))?", path.get("style", ""))
        if filled:
            corners = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", path.attrib["d"]), dtype=float)
            cells[tuple(corners.mean(axis=0).round(1).tolist())] = (filled[1], float(filled[2] or 1))
    columns, rows = (sorted({place[axis] for place in cells}) for axis in (0, 1))
    found = {(rows.index(y), columns.index(x)): cell for (x, y), cell in cells.items()}
    expected = {(0, 0): 3 / 4, (0, 1): 1 / 4, (1, 0): 2 / 3, (1, 2): 1 / 3, (2, 2): 1}
    assert {place: opacity for place, (_, opacity) in found.items()} == pytest.approx(
        {place: share**0.5 for place, share in expected.items()}, abs=1e-5
    )
    assert {place for place, (color, _) in found.items() if color == BLUE} == {(0, 0), (2, 2)}
    numbers = {
        (
            round((float(text.attrib["y"]) - rows[0]) / (rows[1] - rows[0])),
            columns.index(float(text.attrib["x"])),
        ): text.text
        for text in panel.iter(f"{SVG}text")
        if text.text.isdecimal()
    }
    assert numbers == {(0, 0): "3", (0, 1): "1", (1, 0): "2", (1, 2): "1", (2, 2): "2"}


def test_a_matrix_of_many_classes_is_left_to_the_table(run: MeasuredRun, guesses: Guesses):
    assert build_confusion_matrix(run, dataclasses.replace(guesses, classes=tuple(map(str, range(21))))) is None


def test_the_same_runs_give_the_same_bytes(run: MeasuredRun, guesses: Guesses):
    for build in (build_learning_curves, build_kernels):
        assert build(run) == build(run)
    assert build_class_errors(run, guesses) == build_class_errors(run, guesses)
    assert build_confusion_matrix(run, guesses) == build_confusion_matrix(run, guesses)


def test_a_run_without_the_description_of_its_data_is_refused(run: MeasuredRun, tmp_path: Path):
    for evaluation in run.evaluations:
        name = f"{evaluation.split}-{evaluation.views}-step-{evaluation.step}.npz"
        write_bytes(tmp_path / "predictions" / name, (RunDirectory(run.path).predictions / name).read_bytes())
    with pytest.raises(InputError, match=r"dataset.json does not exist"):
        read_guesses(dataclasses.replace(run, path=tmp_path))
    write_json(tmp_path / "dataset.json", DATA)
    assert read_guesses(dataclasses.replace(run, path=tmp_path)) is not None
