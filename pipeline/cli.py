"""The command line: starts one command, and turns what a person can put right into one sentence."""

import errno
import os
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from pipeline.artifacts import leave_ending
from pipeline.commands.augment import AUGMENT
from pipeline.commands.command import Command
from pipeline.commands.diff import DIFF
from pipeline.commands.drill import DRILL
from pipeline.commands.evaluate import ENSEMBLE, EVALUATE
from pipeline.commands.experiments import EXPERIMENT_COMMANDS
from pipeline.commands.launch import BENCH, CONTRAST, DEMO, DOCTOR
from pipeline.commands.preprocess import PREPROCESS
from pipeline.commands.report import CURVES, REPORT, RUNS, SYNC
from pipeline.commands.submit import SUBMIT
from pipeline.commands.torchrun import TORCHRUN
from pipeline.commands.train import TRAIN
from pipeline.commands.weights import WEIGHTS
from pipeline.errors import (
    INPUT_ERROR_CODE,
    INTERRUPTED_CODE,
    RUN_ERROR_CODE,
    InputError,
    PeerLostError,
    RunError,
    StoppedError,
)

SECOND_SPEAKER_SECONDS = 5.0
SYSTEM_ADVICE = {
    errno.ENOSPC: "make room on the disk of --out or of the run, then run it again (train: with --resume)",
    errno.EDQUOT: "make room within your quota, then run it again (train: with --resume)",
    errno.EACCES: "choose files that you may read and directories that you may write to",
    errno.EROFS: "choose a directory on a disk that can be written to",
}
INTERRUPTED_ADVICE = {
    "preprocess": ", the same command goes on from here",
    "train": ", the same command goes on from the newest checkpoint, if there is one, with --begin-or-resume",
    "demo": ", the same command goes on from here",
    "contrast": ", the same command goes on from here",
}
COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        *PREPROCESS,
        *AUGMENT,
        TRAIN,
        TORCHRUN,
        EVALUATE,
        ENSEMBLE,
        REPORT,
        CURVES,
        *WEIGHTS,
        *EXPERIMENT_COMMANDS,
        DIFF,
        RUNS,
        SYNC,
        *SUBMIT,
        DOCTOR,
        DRILL,
        *BENCH,
        DEMO,
        CONTRAST,
    )
}


def main(words: Sequence[str] | None = None) -> None:
    """Run one command; exits with 2 for what the caller can put right, with 1 for what went wrong on the way."""
    words = sys.argv[1:] if words is None else list(words)
    if not words or words[0] in ("-h", "--help"):
        print(format_help())
        return
    num_words = 2 if " ".join(words[:2]) in COMMANDS else 1
    name, rest = " ".join(words[:num_words]), list(words[num_words:])
    if f"preprocess {name}" in COMMANDS:
        fail(f"alexnet: unknown command {name!r}: did you mean `alexnet preprocess {name}`?")
    if name not in COMMANDS:
        fail(f"alexnet: unknown command {name!r}: choose one of {', '.join(n for n in COMMANDS if ' ' not in n)}")
    try:
        COMMANDS[name].start(rest)
    except (InputError, RunError) as error:
        leave_ending(error.code, f"alexnet {name}: {error}")
        if isinstance(error, StoppedError) and os.environ.get("RANK", "0") != "0":
            os._exit(error.code)
        if isinstance(error, PeerLostError) or os.environ.get("RANK", "0") != "0":
            time.sleep(SECOND_SPEAKER_SECONDS)  # a mistake of all is said by the first, whose end ends the others
        fail(f"alexnet {name}: {error}", error.code)
    except BrokenPipeError:  # whoever reads has enough
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - Python would flush into the pipe once more
        sys.exit(INTERRUPTED_CODE)
    except OSError as error:  # a full disk, a directory without permission, a file that vanished
        advice = SYSTEM_ADVICE.get(error.errno or 0, "look at that file or connection, then try again")
        leave_ending(RUN_ERROR_CODE, f"alexnet {name}: {error}: {advice}")
        fail(f"alexnet {name}: {error}: {advice}", RUN_ERROR_CODE)
    except KeyboardInterrupt:
        fail(f"alexnet {name}: interrupted{INTERRUPTED_ADVICE.get(name, '')}", INTERRUPTED_CODE)


def fail(sentence: str, code: int = INPUT_ERROR_CODE) -> NoReturn:
    """Say one sentence on standard error and exit."""
    print(sentence, file=sys.stderr, flush=True)
    if "RANK" in os.environ:  # NCCL may wait for ranks that have gone, if Python is left to tidy up
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def format_help() -> str:
    """What `alexnet --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: alexnet COMMAND ...",
            "",
            "AlexNet (2012) reproduced on ImageNet: what the paper says, and what the code that won did.",
            "",
            *lines,
            "",
            "alexnet COMMAND --help tells what a command takes. On several GPUs, and on several nodes under srun:",
            "alexnet torchrun --nproc-per-node GPUS train EXPERIMENT ...",
        ]
    )
