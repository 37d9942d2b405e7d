"""Two processes on the same output: one goes on, the other gets a sentence with the name of the first."""

import errno
import fcntl
import os
import socket
import threading
import time
from contextlib import ExitStack

import pytest
from small_sets import FEW, SLOW, assert_refused, count_done, finish, preprocess, read_files, start

from pipeline.artifacts import find_holder, hold
from pipeline.artifacts.locks import warn_without_locks
from pipeline.errors import InputError
from pipeline.preprocess.claim import (
    claim,
    claim_if_alone,
    find_parts_at_work,
    merge_lock,
    part_lock,
    whole_lock,
)

WHOLE = (0, 1)


def describe(process_id: int) -> str:
    return f"process {process_id} on {socket.gethostname()}"


def test_a_second_start_gets_the_first_one_s_name_and_the_first_goes_on(slow_pictures, slow_set, tmp_path):
    out = tmp_path / "set"
    with start("preprocess", "--source", slow_pictures, "--out", out, *SLOW, output=tmp_path / "said") as first:
        first.wait_until(lambda: count_done(out) > 0)
        with first.at_rest():
            refused = [preprocess(slow_pictures, out, *SLOW, *flags) for flags in ((), ("--part=1/2",))]
        ended = first.wait()
    for second in refused:
        assert_refused(second, f"--out {out} is being written ({describe(first.process.pid)}): wait for it, or choose")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert read_files(out) == read_files(slow_set.path)


def test_the_same_part_twice_is_refused_with_its_holder_and_another_part_goes_along(slow_pictures, slow_set, tmp_path):
    out = tmp_path / "set"
    words = ("preprocess", "--source", slow_pictures, "--out", out, *SLOW, "--part=0/2")
    with start(*words, output=tmp_path / "said") as first:
        first.wait_until(lambda: count_done(out) > 0)
        holder = describe(first.process.pid)
        with first.at_rest():
            same = preprocess(slow_pictures, out, *SLOW, "--part=0/2")
            whole = preprocess(slow_pictures, out, *SLOW)
        other = preprocess(slow_pictures, out, *SLOW, "--part=1/2")
        ended = first.wait()
    assert_refused(same, f"part 0/2 of {out} is being written ({holder}): wait for it, or choose another")
    assert_refused(whole, f"--out {out} is being written (part 0/2: {holder}): wait for it, or choose another")
    assert [(process.returncode, process.stderr) for process in (ended, other)] == [(0, "")] * 2
    assert read_files(out) == read_files(slow_set.path)


def test_a_holder_that_is_gone_is_not_named(tmp_path):
    with claim(tmp_path, WHOLE):
        pass
    assert find_holder(whole_lock(tmp_path)) is None
    assert whole_lock(tmp_path).read_text() == describe(os.getpid())
    whole_lock(tmp_path).write_text("process 1 on a node of long ago")
    with claim(tmp_path, (2, 4)), pytest.raises(InputError) as refused, claim(tmp_path, WHOLE):
        pass
    assert f"is being written (part 2/4: {describe(os.getpid())})" in str(refused.value)


def test_parts_at_work_are_found_by_their_locks(tmp_path):
    with ExitStack() as stack:
        for part in ((3, 16), (10, 16), (0, 2)):
            stack.enter_context(claim(tmp_path, part))
        assert find_parts_at_work(tmp_path) == dict.fromkeys(("0/2", "3/16", "10/16"), describe(os.getpid()))
        with claim_if_alone(tmp_path) as alone:
            assert not alone
    assert find_parts_at_work(tmp_path) == {}
    assert find_holder(part_lock(tmp_path, (0, 2))) is None
    with claim_if_alone(tmp_path) as alone:
        assert alone


def test_who_starts_during_a_merge_waits_for_its_end(few_pictures, few_set, tmp_path):
    out = tmp_path / "set"
    assert finish(few_pictures, out, *FEW)
    (out / ".work").mkdir()
    for path in (out / "dataset.json", out / "ledger.jsonl"):  # as before a merge
        path.rename(tmp_path / path.name)
    with start("preprocess", "--source", few_pictures, "--out", out, *FEW, output=tmp_path / "said") as late:
        with hold(merge_lock(out)), hold(whole_lock(out)):
            time.sleep(0.5)
            assert late.process.exitcode is None
            for name in ("ledger.jsonl", "dataset.json"):
                (tmp_path / name).rename(out / name)
        ended = late.wait()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.endswith(f"digest {few_set.info.digest[:12]}\n")
    assert read_files(out) == read_files(few_set.path)


def test_a_glance_at_a_lock_does_not_put_off_the_merge(tmp_path):
    whole_lock(tmp_path).parent.mkdir()
    with whole_lock(tmp_path).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        glance = threading.Timer(0.1, lambda: fcntl.flock(file, fcntl.LOCK_UN))
        glance.start()
        with claim_if_alone(tmp_path) as alone:
            assert alone
        glance.join()


def test_a_lock_is_made_anew_where_a_merge_has_just_removed_its_folder(tmp_path, monkeypatch):
    original, removed = type(tmp_path).open, []

    def remove_folder_first(path, *arguments, **options):
        if not removed:
            removed.append(path.parent.rmdir())
        return original(path, *arguments, **options)

    monkeypatch.setattr(type(tmp_path), "open", remove_folder_first)
    with hold(tmp_path / "work" / "lock"):
        assert find_holder(tmp_path / "work" / "lock") == describe(os.getpid())
    assert removed


def test_a_disk_without_locks_gets_one_warning_and_no_refusal(few_pictures, few_set, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    warn_without_locks.cache_clear()
    out = tmp_path / "set"
    ended = preprocess(few_pictures, out, *FEW)
    assert ended.returncode == 0
    assert ended.stderr == (f"warning: {out / '.work'} has no file locks; start each part and each run once only\n")
    assert read_files(out) == read_files(few_set.path)


def test_another_error_of_the_lock_is_not_taken_for_a_missing_one(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output error"), hold(tmp_path / "lock"):
        pass
