"""Every stage on scikit-learn's handwritten digits: real pictures that need no download."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from pipeline import paper
from pipeline.artifacts import RunDirectory, write_bytes
from pipeline.config import Precision
from pipeline.errors import RunError, check
from pipeline.options import DemoConfig
from pipeline.report.measured import MeasuredRun, read_run

MARK = ".alexnet-demo"
NUM_VAL = 297
SPLIT_SEED = 0
JPEG_QUALITY = 95
GREY_LEVELS = 16  # load_digits counts ink from 0 to 16

SMALL = (
    "--model.num-classes=10",
    "--model.width=0.5",
    "--global-batch-size=32",
    "--augment.images-per-crop=1",  # a batch this small must not share one crop
    "--schedule.epochs=8",
)
"""What makes an experiment fit a laptop; everything else stays as registered."""


def demo(config: DemoConfig) -> None:
    """Write the digits, preprocess, train, evaluate and report, each as the command that a user would type.

    A second start goes on where the first one ended.

    Raises:
        InputError: `config.out` holds something else.
        RunError: a stage failed.
    """
    shards = pack_digits(config.out)
    run = config.out / config.experiment
    precision = choose_precision(RunDirectory(run))
    launch = ("torchrun", f"--nproc-per-node={config.processes}", "-m", "pipeline")
    resume = ("--resume",) if RunDirectory(run).config.is_file() else ()
    flags = ("--log-every=23", *SMALL, f"--precision={precision}", *resume)
    _start(*launch, "train", config.experiment, f"--data={shards}", f"--out={run}", *flags)
    _start(*launch, "evaluate", str(run), "--neighbours=5")
    runs = [path for path in (config.out / "source-2012", config.out / "paper") if RunDirectory(path).config.is_file()]
    _start("alexnet", "report", *map(str, runs), f"--out={config.out / 'report'}")
    print(f"\n{describe_result(read_run(run))}\n{describe_where(config)}")


def choose_precision(run: RunDirectory) -> Precision:
    """That of a run which has begun; else bfloat16, or float32 where the processor would have to imitate bfloat16.

    Raises:
        InputError: the run is of another version.
    """
    if run.config.is_file():
        return run.read_record().config.precision
    if torch.cuda.is_available():
        return "bfloat16"
    found = torch.cpu.get_capabilities()
    return "bfloat16" if any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")) else "float32"


def pack_digits(out: Path) -> Path:
    """Make the shard set of the digits in a folder of the demo's own, unless it is there; returns `OUT/shards`.

    Raises:
        InputError: the folder holds something else.
        RunError: preprocessing failed.
    """
    claim_folder(out)
    pictures, shards = out / "pictures", out / "shards"
    if not (shards / "dataset.json").is_file():
        for leftover in (pictures, shards):
            shutil.rmtree(leftover, ignore_errors=True)
        write_digits(pictures)
        _start("alexnet", "preprocess", f"--source={pictures}", f"--out={shards}", "--images-per-shard=250")
    return shards


def claim_folder(folder: Path) -> None:
    """Mark a new folder as the demo's own, whose unfinished parts a second start may remove.

    Raises:
        InputError: the folder holds something that is not the demo's.
    """
    mark = folder / MARK
    check(
        mark.is_file() or not folder.exists() or (folder.is_dir() and not any(folder.iterdir())),
        f"--out {folder} already holds something that is not the demo's: choose a directory that does not exist yet",
    )
    write_bytes(mark, b"This folder belongs to `alexnet demo`.\n")


def write_digits(folder: Path) -> None:
    """Write the 1,797 digits as grey JPEG files in ImageNet's folder layout: `train/CLASS/NAME.JPEG`, `val/…`."""
    digits = load_digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(digits.images))
    print(f"demo: writing {len(order):,} handwritten digits to {folder}")
    for place, number in enumerate(order):
        split, label = ("val" if place < NUM_VAL else "train"), int(digits.target[number])
        pixels = np.round(digits.images[number] * (255 / GREY_LEVELS)).astype(np.uint8)
        side = (paper.IMAGE_PIXELS, paper.IMAGE_PIXELS)
        path = folder / split / f"digit-{label}" / f"{number:04d}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize(side, Image.Resampling.BICUBIC).save(path, "JPEG", quality=JPEG_QUALITY)


def _start(*words: str) -> None:
    """Show and run one command of this installation."""
    print(f"\n$ {shlex.join(words)}", flush=True)
    program = [sys.executable, "-m", {"alexnet": "pipeline", "torchrun": "torch.distributed.run"}[words[0]]]
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    code = subprocess.run([*program, *words[1:]], env=environment, check=False).returncode
    if code != 0:
        raise RunError(f"`{shlex.join(words)}` ended with exit code {code}: see what it said above")


def describe_result(run: MeasuredRun) -> str:
    """The result in a sentence, and the contrast that the two recipes make."""
    errors = [error for _, error in run.val_top1_errors]
    said = (
        f"The experiment {run.record.experiment!r} at half width went through {run.num_epochs:g} epochs of handwritten "
        f"digits; its validation top-1 error by epoch: {', '.join(f'{error:.1%}' for error in errors)} (chance is 90%)."
    )
    if run.record.experiment == "paper":
        return said + (
            "\nThis is the paper's text taken literally; `make demo` trains what the winning code did instead, on the "
            "same pictures and at the same size."
        )
    return said + (
        "\nThis is what the winning code did. The paper's text, taken literally, leaves out what made it train: "
        "`make demo-paper` trains that on the same pictures, and you can watch what becomes of it."
    )


def describe_where(config: DemoConfig) -> str:
    """Where to look next."""
    report = config.out / "report"
    return (
        f"Open {report}/report.html in a browser (the paper's claims, learning curves, what digits were taken "
        f"for, their nearest training pictures; {report}/report.md is the same for GitHub), and run `make mlflow` for "
        "every metric (there: Model training, the experiment, the run, Model metrics)."
    )
