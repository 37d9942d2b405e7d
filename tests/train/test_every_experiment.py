"""Every experiment takes two real steps, as narrow as it can be, on pictures of the size that it wants."""

import math
from pathlib import Path

import pytest
from ranks import run_ranks

from pipeline.artifacts import RunDirectory, ShardSet
from pipeline.checkpoint import Checkpoint, find_checkpoints, read_checkpoint
from pipeline.experiments import EXPERIMENTS
from pipeline.model.alexnet import build_alexnet
from pipeline.tracking import Journal

SMALL_PICTURES = ("fig1-relu", "fig1-tanh", "tutorial-d2l", "tutorial-d2l-28")
PARENTS = {"six-conv-finetune": "six-conv", "finetune": "one-weird-trick"}


def train(name: str, shard_set: ShardSet, run: Path, *flags: str) -> Checkpoint:
    """Two steps of an experiment at an eighth of its width; returns where it stands after them."""
    ended = run_ranks(
        *("train", name, "--data", str(shard_set.path), "--out", str(run), "--device=cpu"),
        *("--max-steps=2", "--log-every=1", "--model.width=0.125", "--global-batch-size=8"),
        f"--model.num-classes={len(shard_set.info.classes)}",
        *flags,
    )
    assert ended.returncode == 0, ended.stderr
    return read_checkpoint(find_checkpoints(run / "checkpoints")[-1])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_experiment_takes_two_steps_that_change_every_layer_a_little(name, shard_set, few_set, tmp_path):
    pictures = few_set if name in SMALL_PICTURES else shard_set
    given, flags = {}, ()
    if name in PARENTS:
        given = train(PARENTS[name], pictures, tmp_path / "parent", "--max-steps=1", "--seed=1").model
        flags = ("--weights", str(tmp_path / "parent"))
    checkpoint = train(name, pictures, tmp_path / "run", *flags)

    config = RunDirectory(tmp_path / "run").read_record().config
    start = build_alexnet(config.model, input_pixels=config.augment.input_pixels, seed=config.seed).state_dict()
    head = config.model.linears[-1].name
    start |= {field: value for field, value in given.items() if not field.startswith(head)}
    changes = {field: (value - start[field]).norm() for field, value in checkpoint.model.items()}
    assert checkpoint.step == 2
    assert [field for field, change in changes.items() if not 0 < change < math.inf] == []
    weights = {field: value.norm() for field, value in start.items() if field.endswith("weight")}
    assert [
        field for field, norm in weights.items() if changes[field] > 0.5 * max(norm, 0.1)
    ] == []  # Fig. 1 begins with 1e-4

    losses = {entry.step: loss for entry, loss in Journal(tmp_path / "run" / "journal.jsonl").read_metric("train/loss")}
    assert list(losses) == [1, 2]
    assert all(math.isfinite(loss) for loss in losses.values())
