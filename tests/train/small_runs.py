"""Runs so small that a whole one takes a second: four epochs of six steps, with a drop of the rate on the way."""

from pathlib import Path

import torch

from pipeline.artifacts import ShardSet
from pipeline.checkpoint import Checkpoint, find_checkpoints, read_checkpoint

STEPS_PER_EPOCH = 6
NUM_EPOCHS = 4
NUM_STEPS = NUM_EPOCHS * STEPS_PER_EPOCH
RATES = ("0", "0.002", "2", "0.0005")  # with a drop, so that the momentum's scale must be resumed, too
FLAGS = (
    "--model.width=0.125",
    "--model.num-classes=4",
    "--augment.crop-pixels=68",
    "--global-batch-size=8",
    f"--schedule.epochs={NUM_EPOCHS}",
    *("--schedule.weights", *RATES),
    *("--schedule.biases", *RATES),
)


def list_words(shard_set: ShardSet, out: Path, *flags: str) -> tuple[str, ...]:
    """The words that train into `out`."""
    always = ("--data", str(shard_set.path), "--out", str(out), "--device=cpu", "--num-threads=1")
    return ("train", "source-2012", *always, *FLAGS, *flags)


def list_steps(run: Path) -> list[int]:
    """Steps of the checkpoints that a run has kept."""
    return [int(path.stem.removeprefix("step-")) for path in find_checkpoints(run / "checkpoints")]


def read_newest(run: Path) -> Checkpoint:
    """The newest checkpoint of a run."""
    return read_checkpoint(find_checkpoints(run / "checkpoints")[-1])


def assert_equal_to_the_bit(found: Checkpoint, expected: Checkpoint) -> None:
    """Both would go on alike. Whether they stall depends on when they reported, and is left out."""
    assert (found.step, found.evaluations) == (expected.step, expected.evaluations)
    assert found.scaler == expected.scaler
    assert found.model.keys() == expected.model.keys()
    for name, weights in expected.model.items():
        assert torch.equal(found.model[name], weights), name
    assert found.optimizer["param_groups"] == expected.optimizer["param_groups"]
    assert found.optimizer["state"].keys() == expected.optimizer["state"].keys()
    for number, state in expected.optimizer["state"].items():
        assert torch.equal(found.optimizer["state"][number]["momentum_buffer"], state["momentum_buffer"]), number
