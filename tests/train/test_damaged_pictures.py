"""A picture damaged after packing ends a run, or is left out, counted, written down and reported."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import SMALL_FLAGS
from ranks import run_ranks

from pipeline.artifacts import EvaluationRecord, ShardSet, read_json, read_shard_set
from pipeline.augment.order import permute_epoch
from pipeline.report.measured import read_run
from pipeline.report.origins import format_origins
from pipeline.tracking import Journal

pytestmark = pytest.mark.distributed

TRAIN_POSITION, VAL_POSITION = 7, 2


@pytest.fixture(scope="module")
def damaged_set(shard_set: ShardSet, tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """`shard_set` with one training and one validation picture overwritten."""
    path = tmp_path_factory.mktemp("damaged") / "set"
    shutil.copytree(shard_set.path, path)
    damaged = read_shard_set(path)
    for split, position in (("train", TRAIN_POSITION), ("val", VAL_POSITION)):
        shard, offset, _ = damaged.open_split(split).locate(position).split(":")
        with Path(shard).open("r+b") as file:
            file.seek(int(offset))
            file.write(bytes(300))
    return damaged


def list_words(damaged_set: ShardSet, run: Path, *flags: str) -> tuple[str, ...]:
    always = ("--data", str(damaged_set.path), "--out", str(run), "--device=cpu", "--num-threads=1")
    return ("train", "source-2012", *always, *SMALL_FLAGS, *flags)


def test_by_default_a_damaged_picture_ends_the_run_and_is_named(damaged_set, tmp_path):
    ended = run_ranks(*list_words(damaged_set, tmp_path / "run"))
    assert ended.returncode == 1
    where = damaged_set.open_split("train").locate(TRAIN_POSITION)
    assert f"alexnet train: {where} cannot be decoded" in ended.stderr
    assert ended.stderr.strip().endswith("by --on-damaged skip")


@pytest.fixture(scope="module")
def lenient_run(damaged_set, tmp_path_factory) -> Path:
    """Two ranks that leave out what is damaged, trained and evaluated."""
    run = tmp_path_factory.mktemp("lenient") / "run"
    ended = run_ranks(*list_words(damaged_set, run, "--on-damaged=skip", "--log-every=1"), processes=2)
    assert ended.returncode == 0, ended.stderr
    ended = run_ranks("evaluate", str(run), "--device=cpu", "--on-damaged=skip", processes=2)
    assert ended.returncode == 0, ended.stderr
    assert "of 19 pictures, 1 damaged left out" in ended.stdout
    return run


def test_what_is_left_out_is_written_down_where_it_happened(damaged_set, lenient_run):
    steps = [divmod(permute_epoch(48, seed=0, epoch=e).tolist().index(TRAIN_POSITION), 8)[0] + 6 * e for e in (0, 1)]
    skipped = Journal(lenient_run / "journal.jsonl").read_metric("data/skipped_images")
    assert [(entry.step - 1, count) for entry, count in skipped if count] == [(step, 1) for step in steps]
    skipped = Journal(lenient_run / "journal.jsonl").read_metric("val/skipped_images")
    assert [(entry.step, count) for entry, count in skipped] == [(6, 1), (12, 1)]
    found = json.loads((lenient_run / "damaged.json").read_text())
    assert [(image["split"], image["position"]) for image in found] == [
        ("train", TRAIN_POSITION),
        ("val", VAL_POSITION),
    ]
    for image in found:
        where = damaged_set.open_split(image["split"]).locate(image["position"])
        assert image["sentence"] == f"{where} cannot be decoded (cannot identify image file)"


def test_errors_are_those_of_the_pictures_that_are_left(lenient_run):
    for views in ("center", "ten"):
        record = read_json(lenient_run / "predictions" / f"val-{views}-step-12.json", EvaluationRecord)
        assert (record.num_images, record.num_skipped) == (19, 1)
        saved = np.load(lenient_run / "predictions" / f"val-{views}-step-12.npz")
        assert saved["positions"].tolist() == [position for position in range(20) if position != VAL_POSITION]
        wrong = saved["probabilities"].argmax(axis=1) != saved["labels"]
        assert wrong.sum() == record.num_top1_errors


def test_the_report_says_what_is_missing(lenient_run):
    run = read_run(lenient_run)
    assert run.num_skipped == 4
    said = format_origins([run])
    assert "left out as damaged in training and its validation: 4 times" in said
    assert "val, ten: 19 of 20 pictures, the others are damaged" in said


def test_after_a_repair_an_evaluation_that_lacked_pictures_is_made_again(lenient_run, shard_set, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(lenient_run, run)
    ended = run_ranks("evaluate", str(run), "--device=cpu", "--views=center", "--data", str(shard_set.path))
    assert ended.returncode == 0, ended.stderr
    assert "of 20 pictures, in" in ended.stdout
    record = read_json(run / "predictions" / "val-center-step-12.json", EvaluationRecord)
    assert (record.num_images, record.num_skipped) == (20, 0)


def test_a_rank_that_is_left_without_a_picture_takes_its_step_with_the_others(damaged_set, tmp_path):
    flags = ("--on-damaged=skip", "--global-batch-size=2", "--schedule.epochs=1", "--log-every=1")
    ended = run_ranks(*list_words(damaged_set, tmp_path / "run", *flags), processes=2)
    assert ended.returncode == 0, ended.stderr
    skipped = Journal(tmp_path / "run" / "journal.jsonl").read_metric("data/skipped_images")
    assert [len(skipped), sum(count for _, count in skipped)] == [24, 1]
