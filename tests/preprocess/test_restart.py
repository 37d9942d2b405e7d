"""Killed, interrupted, out of room: the same command goes on and ends with the bytes of an uninterrupted run."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_sets import (
    FEW,
    SLOW,
    assert_gone,
    assert_refused,
    count_done,
    finish,
    preprocess,
    read_files,
    run,
    start,
)
from stopping import end_at_every_change, find_disk_full, kill_self


@pytest.mark.parametrize(("end", "code", "every"), [(kill_self, -signal.SIGKILL, 1), (find_disk_full, 1, 4)])
def test_ended_before_any_change_on_disk_it_goes_on_to_the_same_bytes(few_pictures, tmp_path, end, code, every):
    flags = ("--pixels=32", "--images-per-shard=18", "--max-dropped=0.1")
    codes = end_at_every_change(end, tmp_path, few_pictures, flags, every=every)
    assert codes == [code] * (len(codes) - 1) + [0]
    assert len(codes) > 60 / every
    expected = read_files(tmp_path / "expected")
    for number in range(len(codes)):
        assert read_files(tmp_path / str(number)) == expected, f"ended at change {number * every}"


def test_killed_again_and_again_with_its_workers_at_work_it_goes_on_to_the_same_bytes(
    slow_pictures, slow_set, tmp_path
):
    out, moments = tmp_path / "set", random.Random(5)
    for num_done in (0, 2, 5):
        words = ("preprocess", "--source", slow_pictures, "--out", out, *SLOW)
        with start(*words, output=tmp_path / "said") as command:
            command.wait_until(lambda: count_done(out) >= num_done)  # noqa: B023
            time.sleep(moments.uniform(0, 0.1))
            processes = command.find_processes()
            command.process.kill()
        assert_gone(processes)
        assert count_done(out) >= num_done
        assert not (out / "dataset.json").exists()
    assert finish(slow_pictures, out, *SLOW) == read_files(slow_set.path)


def test_a_killed_worker_ends_the_run_with_a_sentence_and_the_next_one_goes_on(slow_pictures, slow_set, tmp_path):
    out = tmp_path / "set"
    words = ("preprocess", "--source", slow_pictures, "--out", out, *SLOW)
    with start(*words, output=tmp_path / "said") as command:
        command.wait_until(lambda: count_done(out) > 0)
        processes = command.find_processes()
        workers = [process for process in processes if process.ppid() != command.process.pid]
        assert len(workers) == 2
        workers[0].kill()
        ended = command.wait()
    assert_refused(ended, "a worker process was killed, perhaps for want of memory: try fewer --workers", code=1)
    assert_gone(processes)
    assert finish(slow_pictures, out, *SLOW) == read_files(slow_set.path)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_all_processes_with_one_sentence_and_the_next_start_goes_on(
    slow_pictures, slow_set, tmp_path, times
):
    out = tmp_path / "set"
    with start("preprocess", "--source", slow_pictures, "--out", out, *SLOW, output=tmp_path / "said") as command:
        if times == 1:
            command.wait_until(lambda: count_done(out) > 0)
        else:  # in the middle of starting the workers
            command.wait_until(lambda: len(command.find_processes()) > 1)
        processes = command.find_processes()
        for _ in range(times):
            os.killpg(command.process.pid, signal.SIGINT)
            time.sleep(0.05)
        ended = command.wait()
    assert ended.stderr == "alexnet preprocess: interrupted, the same command goes on from here\n"
    assert ended.returncode in (130, -signal.SIGINT)[:times]
    assert_gone(processes)
    assert not (out / "dataset.json").exists()
    assert finish(slow_pictures, out, *SLOW) == read_files(slow_set.path)


def test_half_written_files_of_a_killed_process_are_removed_by_the_next(few_pictures, few_set, tmp_path):
    out = tmp_path / "set"
    ended = preprocess(few_pictures, out, *FEW, "--part=0/2")
    assert ended.returncode == 0, ended.stderr
    for name in ("plan/.train.npy.7.tmp", "train/.train-000001.tar.node-7.tmp", ".dataset.json.7.tmp"):
        (out / name).write_text("half")
    assert finish(few_pictures, out, *FEW) == read_files(few_set.path)


@pytest.mark.parametrize("lost", ["train/train-000001.tar", "val/val-000000.idx", ".work/done/train-000002.json"])
def test_a_shard_that_got_lost_meanwhile_is_packed_again(few_pictures, few_set, tmp_path, lost):
    out = tmp_path / "set"
    assert preprocess(few_pictures, out, *FEW, "--part=0/1000").returncode == 0
    for number in range(1, 5):
        assert preprocess(few_pictures, out, *FEW, f"--part={number}/6").returncode == 0
    (out / lost).unlink()
    assert finish(few_pictures, out, *FEW) == read_files(few_set.path)


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A disk with little room."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here: that takes root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_with_more_room_the_same_command_goes_on(few_pictures, few_set, disk):
    out = disk / "set"
    for size in ("48k", "96k", "128k"):
        remount(disk, f"size={size}")
        ended = preprocess(few_pictures, out, *FEW)
        assert ended.returncode == 1
        sentence = ended.stderr.splitlines()[-1]  # perhaps after a warning
        assert sentence.startswith("alexnet preprocess: [Errno 28] No space left on device")
        assert "make room on the disk of --out" in sentence
        assert not (out / "dataset.json").exists()
    assert 0 < count_done(out) < 6
    for tar in out.glob("*/*.tar"):
        assert tar.read_bytes() == (few_set.path / tar.relative_to(out)).read_bytes()
    remount(disk, "size=10m")
    assert finish(few_pictures, out, *FEW) == read_files(few_set.path)


def test_an_output_that_cannot_be_written_is_one_sentence_and_a_finished_one_is_still_read(few_pictures, few_set, disk):
    remount(disk, "size=10m")
    shutil.copytree(few_set.path, disk / "finished")
    begun = disk / "begun"
    assert preprocess(few_pictures, begun, *FEW, "--part=0/2").returncode == 0
    before = read_files(disk)
    remount(disk, "ro")
    for out in (disk / "new", begun):
        ended = preprocess(few_pictures, out, *FEW)
        assert_refused(ended, "Read-only file system", code=1)
        assert "choose a directory on a disk that can be written to" in ended.stderr
    assert preprocess(few_pictures, disk / "finished", *FEW).returncode == 0
    assert run("preprocess", "verify", disk / "finished").returncode == 0
    assert run("preprocess", "status", begun).returncode == 0
    assert read_files(disk) == before
    remount(disk, "rw")
    assert finish(few_pictures, begun, *FEW) == read_files(few_set.path)
