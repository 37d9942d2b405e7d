"""How far a set is, who is at work, and commands that do what is left, no more and no less."""

import json
import os
import re
import shlex
import shutil
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from small_sets import FEW, SLOW, assert_refused, count_done, finish, preprocess, read_files, run, start

from pipeline.artifacts import hold
from pipeline.preprocess.claim import part_lock, plan_lock, whole_lock
from pipeline.preprocess.status import format_ranges

ROOT = Path(__file__).parents[2]


def read_status(out: Path) -> dict[str, object]:
    """What `status --json` says, and a proof that it changes nothing."""
    before = read_files(out)
    ended = run("preprocess", "status", out, "--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert read_files(out) == before
    return json.loads(ended.stdout)


def show_status(out: Path) -> str:
    return run("preprocess", "status", out).stdout


def parse_array(line: str) -> tuple[list[int], int]:
    """Numbers of the parts and how many there are, as Slurm understands them."""
    array, num_parts = re.search(r"--array=(\S+) --export=ALL,PARTS=(\d+) ", line).groups()
    parts = []
    for run_of_parts in array.split(","):
        first, _, last = run_of_parts.partition("-")
        parts += range(int(first), int(last or first) + 1)
    return parts, int(num_parts)


def test_what_is_no_shard_set_is_refused(tmp_path):
    assert_refused(run("preprocess", "status", tmp_path / "no"), "no is not a directory: pass the --out of `alexnet")
    assert_refused(run("preprocess", "status", tmp_path), "holds no shard set, begun or finished: pass the --out of")


def test_before_the_plan_it_says_who_looks_through_the_source(tmp_path):
    out = tmp_path / "set"
    with hold(whole_lock(out), shared=True), hold(plan_lock(out)):
        said, status = show_status(out), read_status(out)
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    assert said == (
        f"{out}: the source has not been looked through yet\nrunning: looking through the source ({holder})\n"
    )
    assert status["running"] == [f"looking through the source ({holder})"]
    assert (status["splits"], status["commands"], status["finished"]) == ({}, [], False)


def test_in_the_middle_it_counts_shards_pictures_and_drops_and_its_command_does_the_rest(
    few_pictures, few_set, tmp_path
):
    out = tmp_path / "a set's place"
    flags = (*FEW, "--allow-partial", "--seed=3")
    reference = finish(few_pictures, tmp_path / "reference", *flags)
    for part in (0, 2):
        assert preprocess(few_pictures, out, *flags, f"--part={part}/3").returncode == 0
    status = read_status(out)
    assert status["splits"]["train"] == {"shards_done": 3, "num_shards": 4, "images_done": 13, "num_images": 18}
    assert status["splits"]["val"] == {"shards_done": 1, "num_shards": 2, "images_done": 1, "num_images": 6}
    assert status["missing"] == ["train-000001", "val-000000"]
    assert status["num_dropped"] == sum("dropped" in line for line in reference["ledger.jsonl"].decode().splitlines())
    assert (status["running"], status["finished"]) == ([], False)
    said = show_status(out)
    assert "train      3 of 4 shards, 13 of 18 pictures\nval        1 of 2 shards, 1 of 6 pictures\n" in said
    assert "for the rest (sbatch: from the folder that holds slurm/):" in said
    command, array = status["commands"]
    assert f"  {command}\n" in said
    assert parse_array(array) == ([1], 3)
    ended = run(*shlex.split(command)[1:])
    assert (ended.returncode, ended.stderr) == (0, "")
    assert read_files(out) == reference


def run_array(line: str) -> None:
    """Do what Slurm would do."""
    words = shlex.split(line)
    assert words[3] == "slurm/preprocess.sbatch"
    parts, num_parts = parse_array(line)
    for part in parts:
        ended = run("preprocess", *words[4:], "--workers=2", f"--part={part}/{num_parts}")
        assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("num_parts", [4, 5])
def test_the_array_is_exactly_the_missing_parts_and_does_them(few_pictures, few_set, tmp_path, num_parts):
    out = tmp_path / "set"
    for part in (1, 2):
        assert preprocess(few_pictures, out, *FEW, f"--part={part}/{num_parts}").returncode == 0
    array = read_status(out)["commands"][1]
    assert parse_array(array) == ([part for part in range(num_parts) if part not in (1, 2)], num_parts)
    run_array(array)
    assert read_files(out) == read_files(few_set.path)


def test_of_a_start_without_parts_it_names_the_process_and_once_that_is_killed_the_array_for_the_rest(
    slow_pictures, slow_set, tmp_path
):
    out = tmp_path / "set"
    words = ("preprocess", "--source", slow_pictures, "--out", out, *SLOW)
    with start(*words, output=tmp_path / "said") as command:
        command.wait_until(lambda: count_done(out) >= 3)
        with command.at_rest():
            status = read_status(out)
            assert status["running"] == [f"all (process {command.process.pid} on {socket.gethostname()})"]
            assert status["commands"] == []
            command.process.kill()
            command.process.join()
            status = read_status(out)
    assert status["running"] == []
    names = [f"train-00000{number}" for number in range(6)] + ["val-000000", "val-000001"]
    parts = [number for number, name in enumerate(names) if name in status["missing"]]
    assert 0 < len(parts) <= 5
    assert parse_array(status["commands"][1]) == (parts, 8)
    run_array(status["commands"][1])
    assert read_files(out) == read_files(slow_set.path)


def test_parts_at_work_are_named_and_left_out_of_the_array(few_pictures, tmp_path):
    out = tmp_path / "set"
    assert preprocess(few_pictures, out, *FEW, "--part=0/4").returncode == 0
    with ExitStack() as stack:
        stack.enter_context(hold(whole_lock(out), shared=True))
        for part in (1, 3):
            stack.enter_context(hold(part_lock(out, (part, 4))))
        status, said = read_status(out), show_status(out)
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        assert status["running"] == [f"part 1/4 ({holder})", f"part 3/4 ({holder})"]
        assert f"running: part 1/4 ({holder})\n" in said
        (array,) = status["commands"]  # a start without --part would be refused
        assert parse_array(array) == ([2], 4)
        stack.enter_context(hold(part_lock(out, (2, 4))))
        assert read_status(out)["commands"] == []


def test_when_only_the_merge_is_left_its_command_does_that(few_pictures, few_set, tmp_path):
    out = tmp_path / "set"
    with hold(whole_lock(out), shared=True):
        for part in range(2):
            assert preprocess(few_pictures, out, *FEW, f"--part={part}/2").returncode == 0
    status = read_status(out)
    assert status["missing"] == []
    (command,) = status["commands"]
    assert command == f"alexnet preprocess merge {out} --max-dropped 0.1"
    assert run(*shlex.split(command)[1:]).returncode == 0
    assert read_files(out) == read_files(few_set.path)


def test_a_finished_set_needs_nothing(few_set):
    status = read_status(few_set.path)
    assert (status["finished"], status["num_dropped"], status["missing"], status["commands"]) == (True, 1, [], [])
    assert status["splits"]["train"] == {"shards_done": 4, "num_shards": 4, "images_done": 17, "num_images": 17}
    assert show_status(few_set.path) == f"{few_set.path}: finished, 17 train, 6 val pictures, 1 dropped\n"


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([3], "3"), ([0, 1, 2], "0-2"), ([0, 2, 3, 4, 9, 11, 12], "0,2-4,9,11-12"), ([5, 7], "5,7")],
)
def test_numbers_are_written_as_slurm_reads_them(numbers, text):
    assert format_ranges(numbers) == text


def test_a_finished_set_that_lacks_a_file_is_not_called_finished(few_pictures, few_set, tmp_path):
    out = Path(shutil.copytree(few_set.path, tmp_path / "set"))
    (out / "train" / "train-000001.tar").unlink()
    for ended in (run("preprocess", "status", out), preprocess(few_pictures, out, *FEW)):
        assert_refused(ended, "train-000001.tar has no bytes, expected")
    (out / "dataset.json").unlink()
    assert_refused(run("preprocess", "status", out), "give the command that made the set again")
