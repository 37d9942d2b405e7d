"""A pre-emption played on one machine, without Slurm: would training survive it, and in time?"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from pipeline.artifacts import RunDirectory
from pipeline.checkpoint import find_checkpoints, read_checkpoint
from pipeline.errors import STOPPED_CODE, RunError
from pipeline.launch.demo import claim_folder, pack_digits
from pipeline.launch.doctor.finding import MARKS, Finding, ill, judge
from pipeline.options import DrillConfig
from pipeline.tracking import Journal

SMALL = (
    "--model.num-classes=10",
    "--model.width=0.125",
    "--global-batch-size=32",
    "--augment.images-per-crop=1",
    "--log-every=5",
    "--checkpoint-every=15",
    "--device=cpu",
)
"""What makes a step on the digits a matter of a tenth of a second."""
POLL_SECONDS = 0.05
ADVICE_IN_TIME = "signal earlier (--signal-seconds), report more often (--log-every), or write to a quicker disk"


@dataclass(frozen=True, kw_only=True, slots=True)
class Blow:
    """What befalls the training at a share of its steps."""

    name: str
    number: signal.Signals
    share: float


BLOWS = (
    Blow(name="pre-emption", number=signal.SIGTERM, share=0.2),
    Blow(name="second pre-emption", number=signal.SIGTERM, share=0.45),
    Blow(name="power cut", number=signal.SIGKILL, share=0.75),
)


def drill(config: DrillConfig, words: Sequence[str]) -> bool:
    """Train twice, once without trouble, and compare; returns whether all is well.

    Args:
        config: what is played.
        words: of `alexnet train` without --out; empty trains a small network on handwritten digits.

    Raises:
        InputError: `config.out` holds something else.
        RunError: the training without trouble fails.
    """
    claim_folder(config.out)
    words = words or ("source-2012", f"--data={pack_digits(config.out)}", *SMALL)
    calm, struck = RunDirectory(config.out / "calm"), RunDirectory(config.out / "struck")
    for run in (calm, struck):
        shutil.rmtree(run.path, ignore_errors=True)
        name_log(run).unlink(missing_ok=True)
    print(f"drill: {config.steps} steps of `alexnet train {shlex.join(words)}` without trouble", flush=True)
    with start(calm, config, words) as launcher:
        code = launcher.wait()
    if code != 0:
        raise RunError(f"training ended with exit code {code} though nothing befell it: see {name_log(calm)}")
    findings = [finding for blow in BLOWS for finding in strike(blow, struck, config, words)]
    print("drill: to the end", flush=True)
    with start(struck, config, words) as launcher:
        code = launcher.wait()
    last = judge(code == 0, "last start", f"ended with exit code {code}", f"see {name_log(struck)}")
    findings = [*findings, last, *compare(calm, struck)]
    print("\n" + "\n".join(format_findings(findings)))
    return all(finding.status == "well" for finding in findings)


@contextmanager
def start(run: RunDirectory, config: DrillConfig, words: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start training as a job would; whatever is left of it at the end of the block is killed."""
    command = [sys.executable, "-m", "pipeline", "torchrun", f"--nproc-per-node={config.ranks}", "train", *words]
    flags = [f"--out={run.path}", f"--max-steps={config.steps}", "--begin-or-resume"]
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{(config.out / 'mlflow.db').resolve()}"}
    with name_log(run).open("ab") as log:
        launcher = subprocess.Popen([*command, *flags], env=environment, stdout=log, stderr=log)
    try:
        yield launcher
    finally:
        for process in list_processes(launcher):
            process.kill()
        launcher.wait()


def name_log(run: RunDirectory) -> Path:
    """Where what a training says goes."""
    return run.path.with_suffix(".log")


def list_processes(launcher: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The launcher, if it still runs, and all that it started."""
    try:
        process = psutil.Process(launcher.pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def strike(blow: Blow, run: RunDirectory, config: DrillConfig, words: Sequence[str]) -> list[Finding]:
    """Train until a blow falls, and look at what it leaves."""
    target = int(blow.share * config.steps)
    with start(run, config, words) as launcher:
        while launcher.poll() is None and read_step(run) < target:
            time.sleep(POLL_SECONDS)
        struck_at, began, started = read_step(run), time.monotonic(), list_processes(launcher)
        print(f"drill: {blow.name} after step {struck_at} ({blow.number.name})", flush=True)
        if launcher.poll() is not None:
            return [
                ill(blow.name, f"training ended with exit code {launcher.returncode} first", f"see {name_log(run)}")
            ]
        for process in started if blow.number == signal.SIGKILL else started[:1]:
            process.send_signal(blow.number)
        try:
            code = launcher.wait(config.grace_seconds)
        except subprocess.TimeoutExpired:
            return [ill(blow.name, f"still at work after {config.grace_seconds:g} s", ADVICE_IN_TIME)]
    seconds = time.monotonic() - began
    left = [process for process in psutil.wait_procs(started, timeout=1)[1] if not is_zombie(process)]
    lines = [judge(not left, "processes", "none is left", f"kill {' '.join(str(process.pid) for process in left)}")]
    if blow.number == signal.SIGKILL:
        return lines
    found = f"ended with exit code {code} after {seconds:.1f} s of {config.grace_seconds:g} s"
    checkpoints = [path.stem for path in find_checkpoints(run.checkpoints)]
    return [
        judge(code == STOPPED_CODE, blow.name, found, f"{STOPPED_CODE} was expected: see {name_log(run)}"),
        judge(
            checkpoints and int(checkpoints[-1].removeprefix("step-")) >= struck_at,
            "checkpoint",
            f"{checkpoints[-1] if checkpoints else 'none'}, asked to stop after step {struck_at}",
            f"see {name_log(run)}",
        ),
        *lines,
    ]


def is_zombie(process: psutil.Process) -> bool:
    """Whether a process has ended, and whoever started it has not looked since."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def read_step(run: RunDirectory) -> int:
    """The last step that a run has reported."""
    return max((entry.step for entry in Journal(run.journal).read()), default=0)


def compare(calm: RunDirectory, struck: RunDirectory) -> list[Finding]:
    """Whether the blows have changed weights or journal."""
    found = [find_checkpoints(run.checkpoints) for run in (calm, struck)]
    if not all(found):
        return [ill("weights", "there is no checkpoint to compare", f"see {name_log(struck)}")]
    ours, theirs = (read_checkpoint(paths[-1]).model for paths in found)
    apart = max(float((ours[name] - theirs[name]).abs().max()) for name in ours)
    on_gpu = torch.cuda.is_available()  # where sums are not always taken in the same order
    weights = "equal to the bit" if apart == 0 else f"up to {apart:.3g} apart"
    points = [
        {(entry.step, key) for entry in Journal(run.journal).read() for key in entry.metrics} for run in (calm, struck)
    ]
    missing, added = len(points[0] - points[1]), len(points[1] - points[0])
    return [
        judge(apart == 0 or on_gpu, "weights", f"{weights}, with and without trouble", "report this as a bug"),
        judge(
            not missing and not added,
            "journal",
            f"{len(points[0])} points without trouble, {missing} of them missing with it, {added} added",
            "report this as a bug",
        ),
    ]


def format_findings(findings: Sequence[Finding]) -> list[str]:
    """A line each, and the sentence that all of this is for."""
    lines = [f"{MARKS[finding.status]} {finding.subject:<20} {finding.found}" for finding in findings]
    lines += [f"  {finding.subject}: {finding.advice}" for finding in findings if finding.status == "ill"]
    survives = all(finding.status == "well" for finding in findings)
    return [
        *lines,
        f"\ndrill: this training {'survives' if survives else 'does not survive'} pre-emption on this machine",
    ]
