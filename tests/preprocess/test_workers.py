"""Worker processes: results as they come, counts, and an end of all when one fails or nobody wants more."""

import io
import multiprocessing
import os
import signal
import sys
import time
from multiprocessing import resource_tracker

import psutil
import pytest

from pipeline.errors import InputError, RunError
from pipeline.preprocess.workers import build_bar, count_images, interrupts_put_off, run_in_workers


def square(number: int) -> tuple[int, int]:
    for _ in range(3):
        count_images()
    return os.getpid(), number * number


def refuse_three(number: int) -> int:
    if number == 3:
        raise InputError("three is refused")
    return square(number)[1]


def work_for_ever(number: int) -> None:
    while True:
        count_images(0)
        time.sleep(0.01)


def kill_self(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def list_workers() -> set[int]:
    """Processes that were forked from the server that this process started."""
    own = psutil.Process()
    return {process.pid for process in own.children(recursive=True)} - {process.pid for process in own.children()}


@pytest.fixture
def bar():
    """A progress bar that says nothing."""
    return build_bar("test", total=30, initial=0)


def test_results_come_back_and_pictures_are_counted(bar):
    before = list_workers()
    found = list(run_in_workers(square, range(10), num_workers=3, bar=bar))
    assert sorted(result for _, result in found) == [number * number for number in range(10)]
    assert os.getpid() not in {process for process, _ in found}
    assert 1 <= len({process for process, _ in found}) <= 3
    assert bar.n == 30
    assert list_workers() == before


def test_no_task_is_no_work(bar):
    assert list(run_in_workers(square, [], num_workers=3, bar=bar)) == []


def test_a_mistake_in_one_worker_ends_the_others_and_comes_through_as_it_is(bar):
    before = list_workers()
    with pytest.raises(InputError, match="three is refused"):
        list(run_in_workers(refuse_three, range(10), num_workers=2, bar=bar))
    assert list_workers() == before


def test_a_caller_that_leaves_off_stops_workers_in_the_middle_of_their_tasks(bar):
    before = list_workers()
    results = run_in_workers(work_for_ever_but_one, range(4), num_workers=2, bar=bar)
    assert next(results) == 0
    results.close()
    assert list_workers() == before


def work_for_ever_but_one(number: int) -> int:
    if number > 0:
        work_for_ever(number)
    return number


def test_a_killed_worker_is_a_sentence_and_ends_the_others(bar):
    before = list_workers()
    with pytest.raises(RunError, match="a worker process was killed, perhaps for want of memory: try fewer --workers"):
        list(run_in_workers(kill_self, range(4), num_workers=2, bar=bar))
    assert list_workers() == before


def test_ctrl_c_is_raised_when_all_workers_have_ended(bar):
    before, handler = list_workers(), signal.getsignal(signal.SIGINT)
    results = run_in_workers(work_for_ever_but_one, range(4), num_workers=2, bar=bar)
    assert next(results) == 0
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert list_workers() == before
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_waits_for_the_end_of_the_block_and_does_not_replace_a_mistake():
    with pytest.raises(KeyboardInterrupt), interrupts_put_off() as interrupts:  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts == [signal.SIGINT]
    with pytest.raises(InputError, match="first"), interrupts_put_off():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        raise InputError("first")


def test_workers_end_when_the_process_that_started_them_is_killed():
    context = multiprocessing.get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=start_and_wait, args=(sender,))
    process.start()
    workers = [psutil.Process(pid) for pid in receiver.recv()]
    assert len(workers) > 2
    process.kill()
    process.join()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive


def start_and_wait(sender) -> None:
    resource_tracker._resource_tracker._fd = None  # one of its own says, to nobody, what a killed process leaves
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    bar = build_bar("test", total=30, initial=0)
    results = run_in_workers(work_for_ever_but_one, range(4), num_workers=2, bar=bar)
    next(results)
    sender.send([process.pid for process in psutil.Process().children(recursive=True)])
    time.sleep(60)


def test_without_a_terminal_each_update_of_the_bar_is_a_line(monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    bar = build_bar("preprocess", total=200, initial=50)
    bar.delay = bar.mininterval = 0
    bar.set_postfix(dropped=3, refresh=False)
    bar.update(50)
    bar.refresh()
    bar.close()
    lines = said.getvalue().splitlines()
    assert lines
    assert all(line.startswith("preprocess: 100 of 200 images (50%), ") for line in lines)
    assert lines[0].endswith("left, dropped=3")
