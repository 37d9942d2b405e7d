"""What tests of every stage start from: a picture, the words of a small training, a command as a user runs it."""

import os
import subprocess
import sys

import numpy as np
from PIL import Image

NUM_CLASSES, NUM_TRAIN, NUM_VAL = 4, 12, 5
"""Classes, and pictures per class in train and val."""


def paint_picture(generator: np.random.Generator, width: int, height: int) -> Image.Image:
    """A picture with structure at every scale: a few random colours, blown up smoothly, with a little noise."""
    coarse = generator.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.float64)
    noisy = smooth + generator.normal(0, 6, smooth.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


SMALL_FLAGS = (
    "--model.width=0.125",
    f"--model.num-classes={NUM_CLASSES}",
    "--schedule.epochs=2",
    "--global-batch-size=8",
)
"""`small_config` as flags of `alexnet train source-2012`."""


def run_command(*words: str, processes: int = 1, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `alexnet WORDS` as a user would, under torchrun where there are several processes; nothing is checked."""
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return subprocess.run(
        [*launcher, "pipeline", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        env=environment | {"OMP_NUM_THREADS": "1"} | (env or {}),
    )
