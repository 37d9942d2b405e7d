"""A run that is stopped and goes on ends as one that never was, and two ranks as one."""

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from commands import SMALL_FLAGS
from ranks import run_ranks
from small_runs import NUM_STEPS, STEPS_PER_EPOCH, assert_equal_to_the_bit, list_steps, list_words, read_newest

from pipeline.augment.loader import TrainLoader
from pipeline.checkpoint import Checkpoint, find_checkpoints, read_checkpoint
from pipeline.config import ExperimentConfig
from pipeline.distributed import World
from pipeline.model.alexnet import build_alexnet
from pipeline.options import LoadingConfig
from pipeline.tracking import Journal

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def train(shard_set):
    """Trains and proves that it went well; returns what was said."""

    def train(out: Path, *flags: str, processes: int = 1) -> str:
        ended = run_ranks(*list_words(shard_set, out, *flags), processes=processes)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return train


@pytest.fixture(scope="module")
def uninterrupted(train, tmp_path_factory) -> Checkpoint:
    """What one process arrives at in one go."""
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(run)
    checkpoint = read_newest(run)
    assert (checkpoint.step, len(checkpoint.evaluations)) == (NUM_STEPS, 4)
    return checkpoint


@pytest.mark.parametrize("stops", [(8,), (2 * STEPS_PER_EPOCH,), (3, 13)])
def test_a_run_stopped_in_an_epoch_or_at_its_end_and_resumed_ends_as_if_it_never_was(
    stops, train, uninterrupted, tmp_path
):
    run = tmp_path / "run"
    for number, stop in enumerate(stops):
        train(run, f"--max-steps={stop}", *(("--resume",) if number else ()))
        assert read_newest(run).step == stop
    said = train(run, "--resume")
    assert f"goes on at step {stops[-1]} from" in said
    assert_equal_to_the_bit(read_newest(run), uninterrupted)


def test_four_ranks_that_are_resumed_sum_in_the_same_order(train, tmp_path):
    flags = ("--schedule.epochs=2", "--global-batch-size=8")
    train(tmp_path / "whole", *flags, processes=4)
    train(tmp_path / "parts", *flags, "--max-steps=4", processes=4)
    train(tmp_path / "parts", *flags, "--resume", processes=4)
    assert_equal_to_the_bit(read_newest(tmp_path / "parts"), read_newest(tmp_path / "whole"))


def test_a_run_stopped_before_its_first_checkpoint_starts_again(train, uninterrupted, tmp_path):
    run = tmp_path / "run"
    train(run, "--max-steps=2")
    shutil.rmtree(run / "checkpoints")
    assert "starts at step 0" in train(run, "--resume")
    assert_equal_to_the_bit(read_newest(run), uninterrupted)


def test_checkpoints_within_epochs_change_nothing_and_come_when_asked(train, uninterrupted, tmp_path):
    run = tmp_path / "run"
    said = train(run, "--checkpoint-every=4", "--keep=99")
    assert list_steps(run) == [4, 6, 8, 12, 16, 18, 20, 24]
    assert said.count("validation top-1 error") == 4
    assert_equal_to_the_bit(read_newest(run), uninterrupted)


def test_resuming_a_finished_run_changes_no_checkpoint_and_records_no_start(train, tmp_path):
    run = tmp_path / "run"
    flags = ("--schedule.epochs=1",)
    train(run, *flags)
    kept = [*find_checkpoints(run / "checkpoints"), run / "config.json"]
    before = {path: path.read_bytes() for path in kept}
    assert "nothing left to do" in train(run, *flags, "--resume")
    assert {path: path.read_bytes() for path in kept} == before
    assert find_checkpoints(run / "checkpoints") == kept[:-1]


SHAPED = (
    "--schedule.epochs=3",
    "--schedule.warmup-epochs=1",
    "--schedule.cosine",
    "--schedule.plateau.patience=1",
    "--schedule.evaluate-every=2",
)


@pytest.mark.parametrize(
    "flags",
    [
        ("--precision=float16", "--schedule.epochs=2"),
        ("--precision=bfloat16", "--channels-last", "--micro-batch=3", "--schedule.epochs=2"),
        SHAPED,
        ("--optimizer.lars=0.01", "--schedule.epochs=2"),
    ],
    ids=["float16", "bfloat16", "shaped", "lars"],
)
def test_other_ways_to_train_are_resumed_to_the_bit_too(train, tmp_path, flags):
    train(tmp_path / "whole", *flags)
    train(tmp_path / "parts", *flags, "--max-steps=8")
    train(tmp_path / "parts", *flags, "--resume")
    assert_equal_to_the_bit(read_newest(tmp_path / "parts"), read_newest(tmp_path / "whole"))
    rates = [
        [rate for _, rate in Journal(tmp_path / name / "journal.jsonl").read_metric("optim/lr")]
        for name in ("parts", "whole")
    ]
    assert rates[0][-1] == rates[1][-1]
    scale = read_newest(tmp_path / "parts").scaler.get("scale")
    assert (scale is not None) == ("--precision=float16" in flags)


def test_evaluations_come_every_so_many_epochs_and_after_the_last(train, tmp_path):
    train(tmp_path / "run", *SHAPED)
    errors = Journal(tmp_path / "run" / "journal.jsonl").read_metric("val/top1_error")
    assert [entry.epoch for entry, _ in errors] == [2, 3]
    assert [epoch for epoch, _ in read_newest(tmp_path / "run").evaluations] == [2, 3]


def measure_distance(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    return torch.stack([(left[name] - right[name]).norm() for name in left]).norm().item()


@pytest.fixture(scope="module")
def undropped(train, tmp_path_factory) -> Path:
    """Two epochs of one process without dropout, which ranks would draw otherwise."""
    run = tmp_path_factory.mktemp("undropped") / "run"
    train(run, *UNDROPPED)
    return run


UNDROPPED = ("--model.dropout=0", "--schedule.epochs=2")


@pytest.mark.parametrize(
    ("flags", "processes", "tolerance"),
    [
        (("--micro-batch=3",), 1, 1e-4),
        (("--channels-last",), 1, 1e-4),
        (("--precision=tf32",), 1, 0.0),
        ((), 2, 1e-3),
        (("--micro-batch=3",), 2, 1e-3),
        (("--compress-gradients",), 2, 0.05),
    ],
    ids=["portions", "channels-last", "tf32", "two ranks", "two ranks in portions", "compressed"],
)
def test_what_must_not_change_numbers_changes_rounding_at_most(
    train, undropped, small_config, tmp_path, flags, processes, tolerance
):
    train(tmp_path / "run", *UNDROPPED, *flags, processes=processes)
    found, expected = read_newest(tmp_path / "run"), read_newest(undropped)
    start = build_start(small_config)
    assert measure_distance(found.model, expected.model) <= tolerance * measure_distance(expected.model, start)
    for name, weights in expected.model.items():
        assert not torch.equal(weights, start[name]), name


def test_portions_send_no_more_between_ranks_than_whole_batches(train, tmp_path):
    sent = []
    for name, flags in (("whole", ()), ("portions", ("--micro-batch=1",))):
        said = train(tmp_path / name, "--max-steps=1", *flags, processes=2).splitlines()
        sent += [line for line in said if "a rank sends" in line]
    assert len(sent) == 2
    assert sent[0] == sent[1]


def build_start(config: ExperimentConfig) -> dict[str, torch.Tensor]:
    return build_alexnet(config.model, input_pixels=68, seed=0).state_dict()


def test_two_ranks_take_over_from_one_and_one_from_two(train, undropped, small_config, tmp_path):
    run, expected, start = tmp_path / "run", read_newest(undropped), build_start(small_config)
    for stop, processes in ((3, 1), (7, 2), (NUM_STEPS, 1)):
        train(run, *UNDROPPED, f"--max-steps={stop}", *(("--resume",) if run.exists() else ()), processes=processes)
    found = read_newest(run)
    assert (found.step, found.epoch) == (expected.step, 2)
    assert measure_distance(found.model, expected.model) < 1e-3 * measure_distance(expected.model, start)
    starts = json.loads((run / "config.json").read_text())["starts"]
    assert [start["world_size"] for start in starts] == [1, 2, 1]


def test_across_a_change_of_ranks_each_epoch_has_each_picture_as_often(shard_set, small_config):
    augment = dataclasses.replace(small_config.augment, crop_pixels=16)
    seen = []
    for first, last, num_ranks in ((0, 3, 1), (3, 8, 4), (8, 12, 2)):
        for rank in range(num_ranks):
            world = World(rank=rank, local_rank=0, world_size=num_ranks, device=torch.device("cpu"))
            loader = TrainLoader(
                shard_set, augment, global_batch_size=8, seed=0, world=world, loading=LoadingConfig(num_threads=1)
            )
            for step, batch in enumerate(loader.run(first, last), start=first):
                assert len(batch.images) == 8 // num_ranks
                seen += [(step // STEPS_PER_EPOCH, position) for position in batch.positions.tolist()]
    assert Counter(seen) == {(epoch, position): 1 for epoch in (0, 1) for position in range(48)}


def test_two_processes_stopped_and_resumed_end_as_two_under_torchrun_that_never_were(shard_set, finished_run, tmp_path):
    run = tmp_path / "run"
    words = ("train", "source-2012", "--data", str(shard_set.path), "--out", str(run), "--device=cpu", *SMALL_FLAGS)
    for flags in (("--max-steps=4",), ("--resume",)):
        ended = run_ranks(*words, *flags, processes=2)
        assert ended.returncode == 0, ended.stderr
    assert_equal_to_the_bit(read_newest(run), read_newest(finished_run))


def test_only_the_newest_checkpoints_and_the_best_stay(train, tmp_path):
    run = tmp_path / "run"
    train(run, "--keep=1", "--checkpoint-every=2", "--max-steps=14")
    newest = read_newest(run)
    assert list_steps(run) == sorted({newest.best_step, 14})
    errors = dict(newest.evaluations)
    assert errors[newest.best_step // STEPS_PER_EPOCH] == min(errors.values())
    assert read_checkpoint(run / "checkpoints" / f"step-{newest.best_step:08d}.pt").step == newest.best_step


def test_the_journal_has_the_errors_of_each_epoch_and_the_checkpoint_the_same(finished_run):
    journal = Journal(finished_run / "journal.jsonl")
    errors = journal.read_metric("val/top1_error")
    assert [(entry.step, entry.epoch) for entry, _ in errors] == [(6, 1), (12, 2)]
    expected = tuple((round(entry.epoch), error) for entry, error in errors)
    assert read_newest(finished_run).evaluations == expected
    assert [entry.step for entry, _ in journal.read_metric("train/loss")] == [6, 12]
    assert [rate for _, rate in journal.read_metric("optim/lr")] == [0.01, 0.01]
    assert [rate for _, rate in journal.read_metric("optim/lr_biases")] == [0.02, 0.02]
