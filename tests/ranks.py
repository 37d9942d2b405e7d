"""`alexnet WORDS` in processes of its own, as under torchrun, but forked from one that has done the imports.

`run_command` of conftest starts everything from nothing, as a user does, and takes ten times as long.
"""

import contextlib
import multiprocessing
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

LIMIT_SECONDS = 240
LAST_WORD_SECONDS = 10

context = multiprocessing.get_context("forkserver")
PRELOAD = ("pipeline.train.stage", "pipeline.evaluate.stage", "mlflow")


Prepare = Callable[[int], None]
"""Called with its rank in each process, before the command: what is to happen to it there."""


def run_rank(words: tuple[str, ...], environment: dict[str, str], output: str, prepare: Prepare | None) -> None:
    """Body of one process: the command line with standard output and error in files, as torchrun would set it up."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{output}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(environment)
    from pipeline.cli import main

    if prepare is not None:
        prepare(int(environment["RANK"]))
    main(words)


@contextlib.contextmanager
def start_ranks(
    *words: str,
    processes: int = 1,
    output: Path,
    prepare: Prepare | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[list[ForkServerProcess]]:
    """Start `alexnet WORDS` in that many processes; what still runs at the end of the block is killed."""
    common = {"OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": "nowhere://", "MASTER_ADDR": "127.0.0.1"}
    common |= environment or {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        common["MASTER_PORT"] = str(free.getsockname()[1])
    started = []
    for rank in range(processes):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        started.append(context.Process(target=run_rank, args=(words, common | own, f"{output}.{rank}", prepare)))
        started[-1].start()
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.join()


def run_ranks(
    *words: str, processes: int = 1, prepare: Prepare | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `alexnet WORDS` to its end; returns what the first process said.

    The first process that fails takes the others with it, but rank 0 gets a moment for its last word.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "rank"
        with start_ranks(
            *words, processes=processes, output=output, prepare=prepare, environment=environment
        ) as started:
            limit = time.monotonic() + LIMIT_SECONDS
            while any(process.exitcode is None for process in started) and not any(p.exitcode for p in started):
                assert time.monotonic() < limit, f"alexnet {' '.join(words)} did not end within {LIMIT_SECONDS} s"
                time.sleep(0.02)
            started[0].join(LAST_WORD_SECONDS)
            codes = [process.exitcode for process in started if process.exitcode is not None]
        said = {name: Path(f"{output}.0.{name}").read_text() for name in ("stdout", "stderr")}
    return subprocess.CompletedProcess(words, next((code for code in codes if code), 0), **said)
