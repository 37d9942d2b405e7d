"""A run that was killed, or found its disk full or its checkpoints damaged, goes on and ends as if nothing had been."""

import os
import signal
import time
from pathlib import Path

import pytest
from accidents import kill_before_step, kill_in_write, limit_files
from ranks import run_ranks, start_ranks
from small_runs import NUM_STEPS, assert_equal_to_the_bit, list_steps, list_words, read_newest

from pipeline.checkpoint import Checkpoint, find_checkpoints, read_checkpoint

pytestmark = pytest.mark.distributed

TWO_EPOCHS = "--schedule.epochs=2"


@pytest.fixture(scope="module")
def train(shard_set):
    """Trains with or without an accident; returns how that ended."""

    def train(out: Path, *flags: str, processes: int = 1, accident=None, fails: int = 0):
        ended = run_ranks(*list_words(shard_set, out, *flags), processes=processes, prepare=accident)
        assert ended.returncode == fails, ended.stderr
        return ended

    return train


@pytest.fixture(scope="module")
def undisturbed(train, tmp_path_factory) -> Checkpoint:
    """What one process arrives at without any accident, and with all of its checkpoints."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    train(run)
    return read_newest(run)


@pytest.fixture(scope="module")
def two_undisturbed(train, tmp_path_factory) -> Checkpoint:
    """What two processes arrive at in two epochs."""
    run = tmp_path_factory.mktemp("two") / "run"
    train(run, TWO_EPOCHS, processes=2)
    return read_newest(run)


@pytest.mark.parametrize(("step", "left"), [(0, []), (5, [4]), (6, [4, 6]), (17, [12, 16]), (23, [18, 20])])
def test_killed_before_any_step_it_goes_on_from_the_newest_checkpoint(train, undisturbed, tmp_path, step, left):
    run = tmp_path / "run"
    train(run, "--checkpoint-every=4", "--log-every=1", accident=kill_before_step(step), fails=-signal.SIGKILL)
    assert list_steps(run)[-2:] == left
    said = train(run, "--checkpoint-every=4", "--resume").stdout
    assert (f"goes on at step {left[-1]} from" if left else "starts at step 0") in said
    assert_equal_to_the_bit(read_newest(run), undisturbed)


@pytest.mark.parametrize("step", [6, 12])
def test_killed_while_a_checkpoint_is_written_it_goes_on_from_the_one_before(train, undisturbed, tmp_path, step):
    run = tmp_path / "run"
    name = f"step-{step:08d}.pt"
    train(run, accident=kill_in_write(name), fails=-signal.SIGKILL)
    (leftover,) = [path for path in (run / "checkpoints").iterdir() if path.name.startswith(f".{name}")]
    assert leftover.stat().st_size > 10**6
    assert list_steps(run) == list(range(6, step, 6))
    train(run, "--resume")
    assert_equal_to_the_bit(read_newest(run), undisturbed)


@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_rank_is_killed_the_other_ends_and_both_can_go_on(train, two_undisturbed, shard_set, tmp_path, victim):
    run = tmp_path / "run"
    words = list_words(shard_set, run, TWO_EPOCHS)
    with start_ranks(
        *words, processes=2, output=tmp_path / "said", prepare=kill_before_step(9, victim=victim)
    ) as started:
        for process in started:
            process.join(60)
        codes = [process.exitcode for process in started]
    assert codes[victim] == -signal.SIGKILL
    assert codes[1 - victim] not in {0, None}
    train(run, TWO_EPOCHS, "--resume", processes=2)
    assert_equal_to_the_bit(read_newest(run), two_undisturbed)


def wait_for(path: Path) -> None:
    limit = time.monotonic() + 180
    while not path.exists():
        assert time.monotonic() < limit, f"{path} did not appear"
        time.sleep(0.005)


def test_when_all_ranks_are_killed_at_any_moment_they_can_go_on(train, two_undisturbed, shard_set, tmp_path):
    run = tmp_path / "run"
    words = list_words(shard_set, run, TWO_EPOCHS, "--log-every=1")
    with start_ranks(*words, processes=2, output=tmp_path / "said") as started:
        wait_for(run / "checkpoints" / "step-00000006.pt")
        for process in started:
            process.kill()
    train(run, TWO_EPOCHS, "--resume", processes=2)
    assert_equal_to_the_bit(read_newest(run), two_undisturbed)


def test_a_second_start_is_refused_while_the_first_is_there_and_admitted_after_its_kill(
    train, undisturbed, shard_set, tmp_path
):
    run = tmp_path / "run"
    with start_ranks(*list_words(shard_set, run), output=tmp_path / "said") as (first,):
        wait_for(run / "checkpoints" / "step-00000006.pt")
        os.kill(first.pid, signal.SIGSTOP)  # so that it is there, whatever it was about to do
        ended = train(run, "--resume", fails=2)
        assert ended.stderr.startswith(f"alexnet train: process {first.pid} on ")
        assert ended.stderr.endswith(f" is training in --out {run}: wait for it, stop it, or choose another\n")
        first.kill()
        first.join()
        train(run, "--resume")
    assert_equal_to_the_bit(read_newest(run), undisturbed)


def test_a_full_disk_ends_the_run_with_a_sentence_and_keeps_what_was_written(train, undisturbed, tmp_path):
    run = tmp_path / "run"
    train(run, "--max-steps=6")
    before = {path: path.read_bytes() for path in (run / "checkpoints").iterdir()}
    ended = train(run, "--resume", accident=limit_files(10**6), fails=1)
    assert ended.stderr.startswith("alexnet train: [Errno 27] File too large")
    assert ended.stderr.count("\n") == 1
    assert {path: path.read_bytes() for path in (run / "checkpoints").iterdir()} == before
    train(run, "--resume")
    assert_equal_to_the_bit(read_newest(run), undisturbed)


@pytest.fixture(scope="module")
def stopped(train, tmp_path_factory) -> dict[str, bytes]:
    """Checkpoints and record of a run that stopped after its second epoch."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    train(run, "--max-steps=12")
    paths = [run / "config.json", *find_checkpoints(run / "checkpoints")]
    return {str(path.relative_to(run)): path.read_bytes() for path in paths}


def restore(run: Path, files: dict[str, bytes]) -> list[Path]:
    """Writes these files into a run directory; returns its checkpoints."""
    for name, content in files.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(content)
    return find_checkpoints(run / "checkpoints")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


DAMAGES = {
    "flipped": flip,
    "cut": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: os.truncate(path, 0),
}


@pytest.mark.parametrize(("damage", "processes"), [("flipped", 1), ("flipped", 2), ("cut", 1), ("empty", 1)])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    train, undisturbed, stopped, tmp_path, damage, processes
):
    older, newest = restore(tmp_path / "run", stopped)
    DAMAGES[damage](newest)
    said = train(tmp_path / "run", "--resume", processes=processes).stdout
    assert f"train: warning: {newest} is damaged, going back to {older.name}\n" in said
    assert f"goes on at step 6 from {older}" in said
    if processes == 1:
        assert_equal_to_the_bit(read_newest(tmp_path / "run"), undisturbed)
    assert read_checkpoint(find_checkpoints(tmp_path / "run" / "checkpoints")[-1]).step == NUM_STEPS


def test_a_damaged_checkpoint_never_pushes_out_a_sound_one(train, stopped, tmp_path):
    _, newest = restore(tmp_path / "run", stopped)
    flip(newest)
    train(tmp_path / "run", "--resume", "--keep=1", "--checkpoint-every=1", "--max-steps=8")
    assert 8 in list_steps(tmp_path / "run")
    assert "goes on at step 8 from" in train(tmp_path / "run", "--resume", "--max-steps=9").stdout


def test_if_all_checkpoints_are_damaged_nothing_is_trained(train, stopped, tmp_path):
    older, newest = restore(tmp_path / "run", stopped)
    for path in (older, newest):
        flip(path)
    ended = train(tmp_path / "run", "--resume", fails=2)
    assert ended.stderr == (
        f"alexnet train: all checkpoints in {newest.parent} are damaged ({older.name}, {newest.name}): start anew\n"
    )
    assert not (tmp_path / "run" / "journal.jsonl").exists()
