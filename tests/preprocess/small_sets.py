"""`alexnet WORDS` on small shard sets: within this process, or in one of its own that a test watches and ends."""

import contextlib
import io
import multiprocessing
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from pipeline.cli import main

PRELOAD = ("small_sets", "stopping", "pipeline.preprocess.stage", "pipeline.preprocess.repair")
"""Modules that processes of the tests import."""
FEW = ("--pixels=32", "--images-per-shard=5", "--max-dropped=0.1", "--workers=2")
"""Flags that make `few_set` of `few_pictures`."""
SLOW = ("--pixels=32", "--images-per-shard=4", "--workers=2")
"""Flags that make `slow_set` of `slow_pictures`."""
LIMIT_SECONDS = 180


def read_files(root: Path) -> dict[str, bytes | None]:
    """Content of every file below a folder, hidden ones too; None for folders."""
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


def run(*words: object) -> subprocess.CompletedProcess[str]:
    """Run `alexnet WORDS` within this process."""
    output, errors, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            main(list(map(str, words)))
        except SystemExit as end:
            code = end.code
    return subprocess.CompletedProcess(words, code, output.getvalue(), errors.getvalue())


def preprocess(source: Path, out: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run `alexnet preprocess`."""
    return run("preprocess", "--source", source, "--out", out, *flags)


def finish(source: Path, out: Path, *flags: str) -> dict[str, bytes | None]:
    """Run `alexnet preprocess`, which must end well; returns all that it leaves."""
    ended = preprocess(source, out, *flags)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return read_files(out)


def assert_refused(ended: subprocess.CompletedProcess[str], sentence: str, code: int = 2) -> None:
    """One sentence on standard error that holds `sentence`, and the exit code of a mistake."""
    assert ended.returncode == code, ended.stderr
    assert ended.stderr.startswith("alexnet preprocess"), ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert sentence in ended.stderr


def _run_words(words: list[str], output: str) -> None:
    os.setsid()  # a process group, as a shell makes for each command
    resource_tracker._resource_tracker._fd = None  # an own one tells in `output` what a kill leaves behind
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{output}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    main(words)


@dataclass(frozen=True)
class Command:
    """`alexnet WORDS` in a process of its own."""

    words: tuple[str, ...]
    process: BaseProcess
    output: Path

    def wait(self) -> subprocess.CompletedProcess[str]:
        """What it said in the end."""
        self.process.join(LIMIT_SECONDS)
        assert self.process.exitcode is not None, f"alexnet {' '.join(self.words)} did not end"
        said = {name: Path(f"{self.output}.{name}").read_text() for name in ("stdout", "stderr")}
        return subprocess.CompletedProcess(self.words, self.process.exitcode, **said)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that it does."""
        limit = time.monotonic() + LIMIT_SECONDS
        while not condition():
            assert self.process.exitcode is None, self.wait()
            assert time.monotonic() < limit
            time.sleep(0.005)

    def find_processes(self) -> list[psutil.Process]:
        """The processes that it started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    @contextlib.contextmanager
    def at_rest(self) -> Iterator[None]:
        """Let it and its workers do nothing for a while."""
        processes = self.find_processes()
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()


@contextlib.contextmanager
def start(*words: object, output: Path) -> Iterator[Command]:
    """Start `alexnet WORDS` in a process of its own, which has done the imports and is killed at the block's end."""
    plain = tuple(map(str, words))
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_run_words, args=(list(plain), str(output)))
    process.start()
    try:
        yield Command(plain, process, output)
    finally:
        process.kill()
        process.join()


def count_done(out: Path) -> int:
    """Shards that are packed so far."""
    return len(list((out / ".work" / "done").glob("*.json")))


def assert_gone(processes: list[psutil.Process]) -> None:
    """None of them lives on."""
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive
