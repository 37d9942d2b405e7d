"""An experiment trains with another augmentation by its name, and says that it is modified."""

import dataclasses
import json

import pytest
from commands import SMALL_FLAGS
from ranks import run_ranks

from pipeline.artifacts import RunDirectory
from pipeline.experiments import AUGMENTATIONS


def train(shard_set, run, *flags: str):
    always = ("--data", str(shard_set.path), "--out", str(run), "--device=cpu", "--max-steps=1")
    return run_ranks("train", "source-2012", *always, *SMALL_FLAGS, *flags)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_augmentation_trains(shard_set, tmp_path, name):
    ended = train(shard_set, tmp_path / "run", f"--augmentation={name}")
    assert ended.returncode == 0, ended.stderr
    record = RunDirectory(tmp_path / "run").read_record()
    assert (record.config.augment, record.status) == (AUGMENTATIONS[name], "modified")
    (entry,) = map(json.loads, (tmp_path / "run" / "journal.jsonl").read_text().splitlines())
    assert 0 < entry["metrics"]["train/loss"] < 10


def test_fields_are_changed_after_the_name_is_taken_wherever_it_stands(shard_set, tmp_path):
    ended = train(shard_set, tmp_path / "run", "--augment.no-flip", "--augmentation", "paper", "--augment.mean=channel")
    assert ended.returncode == 0, ended.stderr
    expected = dataclasses.replace(AUGMENTATIONS["paper"], flip=False, mean="channel")
    assert RunDirectory(tmp_path / "run").read_record().config.augment == expected


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--augmentation=cafe",), "unknown augmentation 'cafe': choose one of source, paper, caffe, modern, none"),
        (("--augmentation",), "--augmentation needs a name: choose one of source, paper, caffe, modern, none"),
    ],
)
def test_a_name_that_there_is_not_is_refused(shard_set, tmp_path, flags, sentence):
    ended = train(shard_set, tmp_path / "run", *flags)
    assert (ended.returncode, ended.stderr) == (2, f"alexnet train: {sentence}\n")
    assert not (tmp_path / "run").exists()
