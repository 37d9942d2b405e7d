"""A run that is asked to stop writes a checkpoint, ends with a code of its own, and goes on as if it had not been."""

import os
import signal
from pathlib import Path

import pytest
from accidents import send_before_step, send_in_evaluation
from ranks import run_ranks, start_ranks
from small_runs import assert_equal_to_the_bit, list_steps, list_words, read_newest

from pipeline.checkpoint import Checkpoint
from pipeline.errors import INTERRUPTED_CODE, STOPPED_CODE
from pipeline.tracking import Journal
from pipeline.train.preemption import hear_stop_requests

pytestmark = pytest.mark.distributed

FLAGS = ("--schedule.epochs=2", "--log-every=2")
NUM_STEPS = 12


@pytest.fixture(scope="module")
def train(shard_set):
    """Trains with what befalls it; returns how that ended."""

    def train(out: Path, *flags: str, processes: int = 2, accident=None, ends: int = 0, environment=None):
        words = list_words(shard_set, out, *FLAGS, *flags)
        ended = run_ranks(*words, processes=processes, prepare=accident, environment=environment)
        assert ended.returncode == ends, ended.stderr
        return ended

    return train


@pytest.fixture(scope="module")
def undisturbed(train, tmp_path_factory) -> Path:
    """A run of two processes that nothing befell."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    train(run)
    return run


def read_points(run: Path) -> dict[str, list[tuple[int, float]]]:
    """All points of the journal in the order in which they were written, but for times and speeds."""
    points: dict[str, list[tuple[int, float]]] = {}
    for entry in Journal(run / "journal.jsonl").read():
        for key, value in entry.metrics.items():
            if not key.startswith("perf/"):
                points.setdefault(key, []).append((entry.step, value))
    return points


def assert_undisturbed(run: Path, expected: Path) -> None:
    """Weights, momentum and journal are those of the other run, point by point, none doubled."""
    assert_equal_to_the_bit(read_newest(run), read_newest(expected))
    assert read_points(run) == read_points(expected)


@pytest.mark.parametrize(
    ("step", "stops_at"),
    [(0, 2), (3, 4), (5, 6), (8, 10)],
    ids=["first step", "within an epoch", "last step of an epoch", "second epoch"],
)
def test_all_ranks_stop_at_the_report_after_a_signal_to_one_and_go_on_from_there(
    train, undisturbed, tmp_path, step, stops_at
):
    run = tmp_path / "run"
    accident = send_before_step(step, signal.SIGTERM, victims=(1,))
    said = train(run, accident=accident, ends=STOPPED_CODE).stderr
    assert f"alexnet train: stopped at step {stops_at} of 12, a checkpoint is written: go on with --resume\n" in said
    assert list_steps(run)[-1] == stops_at
    train(run, "--resume")
    assert_undisturbed(run, undisturbed)


def test_stopped_twice_in_a_row_it_ends_as_if_it_never_was(train, undisturbed, tmp_path):
    run = tmp_path / "run"
    for step, stops_at in ((1, 2), (7, 8)):
        accident = send_before_step(step, signal.SIGTERM, victims=(0, 1))
        train(run, "--begin-or-resume", accident=accident, ends=STOPPED_CODE)
        assert read_newest(run).step == stops_at
    train(run, "--begin-or-resume")
    assert_undisturbed(run, undisturbed)


@pytest.mark.parametrize("victim", [0, 1])
def test_an_evaluation_that_is_cut_off_counts_for_nothing_and_is_made_up_for(train, undisturbed, tmp_path, victim):
    run = tmp_path / "run"
    train(run, accident=send_in_evaluation(signal.SIGTERM, victim=victim), ends=STOPPED_CODE)
    assert (read_newest(run).step, read_newest(run).evaluations) == (6, ())
    assert "val/top1_error" not in read_points(run)
    assert "train: epoch 1, step 6: evaluated, validation top-1 error" in train(run, "--resume").stdout
    assert_undisturbed(run, undisturbed)


def test_a_last_evaluation_that_is_cut_off_is_made_up_for_without_a_step(train, undisturbed, tmp_path):
    run = tmp_path / "run"
    train(run, accident=send_before_step(11, signal.SIGTERM), ends=STOPPED_CODE)
    assert (read_newest(run).step, len(read_newest(run).evaluations)) == (NUM_STEPS, 1)
    train(run, "--resume")
    assert_undisturbed(run, undisturbed)
    assert "nothing left to do" in train(run, "--resume").stdout


def test_the_first_ctrl_c_asks_to_stop_and_the_second_stops_at_once(train, tmp_path):
    asked = train(
        tmp_path / "asked", processes=1, accident=send_before_step(3, signal.SIGINT), ends=STOPPED_CODE
    ).stderr
    assert "SIGINT heard: a checkpoint at the next report, then the end; Ctrl-C again stops at once" in asked
    assert list_steps(tmp_path / "asked") == [4]
    accident = send_before_step(3, signal.SIGINT, times=2)
    at_once = train(tmp_path / "at once", processes=1, accident=accident, ends=INTERRUPTED_CODE).stderr
    assert at_once.endswith("if there is one, with --begin-or-resume\n")
    assert list_steps(tmp_path / "at once") == []


def test_a_second_ctrl_c_that_comes_amid_a_destructor_stops_at_once_too(train, tmp_path):
    accident = send_before_step(3, signal.SIGINT, times=2, in_destructor=True)
    said = train(tmp_path / "run", processes=1, accident=accident, ends=INTERRUPTED_CODE).stderr
    assert "Exception ignored in" in said
    assert said.endswith("if there is one, with --begin-or-resume\n")
    assert list_steps(tmp_path / "run") == []


def test_a_second_ctrl_c_that_comes_while_the_first_is_answered_stops_at_once_too(monkeypatch):
    write, answers = os.write, []

    def write_and_interrupt(descriptor: int, said: bytes) -> int:
        answers.append(said)
        if len(answers) == 1:
            signal.raise_signal(signal.SIGINT)
        return write(descriptor, said)

    monkeypatch.setattr(os, "write", write_and_interrupt)
    with pytest.raises(KeyboardInterrupt), hear_stop_requests(speaks=True) as request:
        signal.raise_signal(signal.SIGINT)
    assert request.at_once
    assert len(answers) == 1


def test_every_rank_leaves_its_code_and_sentence_where_it_is_told_to(shard_set, tmp_path):
    told = {"ALEXNET_ENDINGS": str(tmp_path)}
    words = list_words(shard_set, tmp_path / "run", *FLAGS)
    accident = send_before_step(3, signal.SIGUSR1, victims=(1,))
    with start_ranks(*words, processes=2, output=tmp_path / "said", prepare=accident, environment=told) as started:
        for process in started:
            process.join(60)
        assert [process.exitcode for process in started] == [STOPPED_CODE] * 2
    for rank in range(2):
        assert (tmp_path / f"rank-{rank}.75").read_text().startswith("75 alexnet train: stopped at step 4 of 12")
    assert (tmp_path / "said.1.stderr").read_text() == ""


def test_begin_or_resume_begins_where_nothing_is_and_where_only_a_job_left_its_log(train, undisturbed, tmp_path):
    run = tmp_path / "run"
    (run / "slurm" / "endings").mkdir(parents=True)
    assert "starts at step 0" in train(run, "--begin-or-resume").stdout
    assert_undisturbed(run, undisturbed)


def test_a_restart_by_torchrun_goes_on_from_the_newest_checkpoint(train, undisturbed, tmp_path):
    run = tmp_path / "run"
    train(run, "--max-steps=6")
    assert "goes on at step 6" in train(run, environment={"TORCHELASTIC_RESTART_COUNT": "1"}).stdout
    assert_undisturbed(run, undisturbed)


def test_a_request_to_either_tower_is_heard_at_the_next_report(train, tmp_path):
    run = tmp_path / "run"
    accident = send_before_step(3, signal.SIGTERM, victims=(1,))
    train(run, "--towers=2", accident=accident, ends=STOPPED_CODE)
    assert list_steps(run)[-1] == 4


def test_no_checkpoint_of_a_stop_is_taken_for_the_best(train, tmp_path):
    run = tmp_path / "run"
    train(run, accident=send_before_step(7, signal.SIGTERM), ends=STOPPED_CODE)
    stopped: Checkpoint = read_newest(run)
    assert (stopped.step, stopped.best_step) == (8, 6)
