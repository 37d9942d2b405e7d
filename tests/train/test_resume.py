"""A run that is stopped or killed and goes on ends as one that never was, and two ranks as one."""

import dataclasses
import shutil
import time
from pathlib import Path

import pytest
import torch
from conftest import SMALL_FLAGS
from ranks import run_ranks, start_ranks

from pipeline.artifacts import RunDirectory
from pipeline.checkpoint import Checkpoint, find_checkpoints, read_checkpoint
from pipeline.model.alexnet import build_alexnet
from pipeline.tracking import Journal

pytestmark = pytest.mark.distributed

STEPS_PER_EPOCH = 6
NUM_STEPS = 4 * STEPS_PER_EPOCH
RATES = ("0", "0.002", "2", "0.0005")  # a drop on the way, so that the momentum's scale must be resumed, too
FLAGS = (
    "--model.width=0.125",
    "--model.num-classes=4",
    "--global-batch-size=8",
    "--schedule.epochs=4",
    *("--schedule.weights", *RATES),
    *("--schedule.biases", *RATES),
)


@pytest.fixture(scope="module")
def train(shard_set):
    """Trains to the end and proves that it went well; returns what was said."""

    def train(out: Path, *flags: str, processes: int = 1) -> str:
        ended = run_ranks(*list_words(shard_set, out, *flags), processes=processes)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return train


def list_words(shard_set, out: Path, *flags: str) -> tuple[str, ...]:
    always = ("--data", str(shard_set.path), "--out", str(out), "--device=cpu", "--num-threads=1")
    return ("train", "source-2012", *always, *(flags or FLAGS))


def read_newest(run: Path) -> Checkpoint:
    return read_checkpoint(find_checkpoints(RunDirectory(run).checkpoints)[-1])


def assert_equal_to_the_bit(found: Checkpoint, expected: Checkpoint) -> None:
    assert (found.step, found.val_top1_errors) == (expected.step, expected.val_top1_errors)
    assert found.model.keys() == expected.model.keys()
    for name, weights in expected.model.items():
        assert torch.equal(found.model[name], weights), name
    assert found.optimizer["param_groups"] == expected.optimizer["param_groups"]
    assert found.optimizer["state"].keys() == expected.optimizer["state"].keys()
    for number, state in expected.optimizer["state"].items():
        assert torch.equal(found.optimizer["state"][number]["momentum_buffer"], state["momentum_buffer"]), number


@pytest.fixture(scope="module")
def uninterrupted(train, tmp_path_factory) -> Checkpoint:
    """What one process arrives at in one go."""
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(run)
    checkpoint = read_newest(run)
    assert (checkpoint.step, len(checkpoint.val_top1_errors)) == (NUM_STEPS, 4)
    return checkpoint


@pytest.mark.parametrize("stops", [(8,), (2 * STEPS_PER_EPOCH,), (3, 13)])
def test_a_run_stopped_in_an_epoch_or_at_its_end_and_resumed_ends_as_if_it_never_was(
    stops, train, uninterrupted, tmp_path
):
    run = tmp_path / "run"
    for number, stop in enumerate(stops):
        train(run, *FLAGS, f"--max-steps={stop}", *(("--resume",) if number else ()))
        assert read_newest(run).step == stop
    said = train(run, *FLAGS, "--resume")
    assert f"goes on at step {stops[-1]} from" in said
    assert_equal_to_the_bit(read_newest(run), uninterrupted)


def test_a_run_killed_in_the_middle_and_resumed_ends_as_if_it_never_was(train, shard_set, uninterrupted, tmp_path):
    run = tmp_path / "run"
    words = list_words(shard_set, run, *FLAGS, "--log-every=1")
    with start_ranks(*words, output=tmp_path / "said") as (process,):
        limit = time.monotonic() + 60
        while not any(entry.step > STEPS_PER_EPOCH for entry in Journal(run / "journal.jsonl").read()):
            assert process.exitcode is None
            assert time.monotonic() < limit
            time.sleep(0.005)
        process.kill()
        process.join()
        assert process.exitcode == -9
    newest = read_newest(run).step
    assert STEPS_PER_EPOCH <= newest < NUM_STEPS
    assert f"goes on at step {newest} from" in train(run, *FLAGS, "--resume")
    assert_equal_to_the_bit(read_newest(run), uninterrupted)


def test_a_run_killed_before_its_first_checkpoint_starts_again(train, uninterrupted, tmp_path):
    run = tmp_path / "run"
    train(run, *FLAGS, "--max-steps=2")
    shutil.rmtree(run / "checkpoints")
    assert "starts at step 0" in train(run, *FLAGS, "--resume")
    assert_equal_to_the_bit(read_newest(run), uninterrupted)


def test_resuming_a_finished_run_changes_no_checkpoint_and_records_no_start(train, tmp_path):
    run = tmp_path / "run"
    flags = (*SMALL_FLAGS, "--schedule.epochs=1")
    train(run, *flags)
    kept = [*find_checkpoints(run / "checkpoints"), run / "config.json"]
    before = {path: path.read_bytes() for path in kept}
    train(run, *flags, "--resume")
    assert {path: path.read_bytes() for path in kept} == before
    assert find_checkpoints(run / "checkpoints") == kept[:-1]


def test_two_processes_stopped_and_resumed_end_as_two_under_torchrun_that_never_were(train, finished_run, tmp_path):
    run = tmp_path / "run"
    train(run, *SMALL_FLAGS, "--max-steps=4", processes=2)
    assert read_newest(run).step == 4
    train(run, *SMALL_FLAGS, "--resume", processes=2)
    assert_equal_to_the_bit(read_newest(run), read_newest(finished_run))


def measure_distance(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    return torch.stack([(left[name] - right[name]).norm() for name in left]).norm().item()


def test_two_ranks_take_the_steps_of_one_even_when_they_take_over_from_it(train, small_config, tmp_path):
    flags = (*SMALL_FLAGS, "--model.dropout=0", "--schedule.weights", "0", "0.002", "--schedule.biases", "0", "0.004")
    train(tmp_path / "one", *flags)
    train(tmp_path / "two", *flags, processes=2)
    train(tmp_path / "both", *flags, "--max-steps=4")
    train(tmp_path / "both", *flags, "--resume", processes=2)
    one = read_newest(tmp_path / "one")
    model = dataclasses.replace(small_config.model, dropout=0.0)
    start = build_alexnet(model, input_pixels=224, seed=0).state_dict()
    for other in (read_newest(tmp_path / "two"), read_newest(tmp_path / "both")):
        assert (other.step, other.val_top1_errors) == (one.step, one.val_top1_errors)
        for name, weights in one.model.items():
            moved = (weights - start[name]).norm().item()
            assert moved > 0, name
            assert (other.model[name] - weights).norm().item() < 0.03 * moved, name
        assert measure_distance(other.model, one.model) < 1e-3 * measure_distance(one.model, start)


def test_only_the_newest_checkpoints_stay(train, tmp_path):
    train(tmp_path / "run", *FLAGS, "--keep-checkpoints=3", "--max-steps=20")
    names = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert sorted(names) == ["step-00000012.pt", "step-00000018.pt", "step-00000020.pt"]


def test_the_journal_has_the_errors_of_each_epoch_and_the_checkpoint_the_same(finished_run):
    journal = Journal(finished_run / "journal.jsonl")
    errors = journal.read_metric("val/top1_error")
    assert [(entry.step, entry.epoch) for entry, _ in errors] == [(6, 1), (12, 2)]
    assert tuple(error for _, error in errors) == read_newest(finished_run).val_top1_errors
    assert [entry.step for entry, _ in journal.read_metric("train/loss")] == [6, 12]
    assert [rate for _, rate in journal.read_metric("optim/lr")] == [0.01, 0.01]
    assert [rate for _, rate in journal.read_metric("optim/lr_biases")] == [0.02, 0.02]
