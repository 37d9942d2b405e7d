"""A loss that stays at chance: noticed in time, measured by layer, with what others do differently."""

import dataclasses
import math
from collections import OrderedDict

import pytest
import torch
from ranks import run_ranks
from torch import nn
from trainees import ALONE, INPUT_PIXELS, NUM_CLASSES, build_trainee, paint_batch

from pipeline.checkpoint import Identity, find_checkpoints, read_checkpoint
from pipeline.experiments import get_experiment
from pipeline.options import RuntimeConfig
from pipeline.tracking import Journal
from pipeline.train.loop import TrainMetrics
from pipeline.train.stall import (
    count_patient_steps,
    format_health,
    is_at_chance,
    list_remedies,
    measure_health,
)
from pipeline.train.trainer import build_trainer
from pipeline.train.trouble import watch_for_stall

REPORT = TrainMetrics(
    step=0, num_steps=20, loss=0, top1_error=0, num_skipped=0, seconds=1, images_per_second=1, data_wait_fraction=0
)


@pytest.mark.parametrize(
    ("asked", "num_steps", "patient"),
    [(None, 2, 1), (None, 100, 25), (None, 1_000_000, 5000), (7, 100, 7), (9000, 100, 9000)],
)
def test_patience_is_as_asked_or_a_quarter_of_all_steps_but_no_more_than_5000(asked, num_steps, patient):
    assert count_patient_steps(asked, num_steps) == patient


def test_chance_is_within_one_percent_of_the_logarithm_of_the_classes():
    chance = math.log(1000)
    assert [is_at_chance(chance * share, 1000) for share in (0.989, 0.991, 1, 1.009, 1.011)] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert not is_at_chance(math.nan, 1000)


@pytest.fixture
def half_dead() -> nn.Sequential:
    """Four maps, of which two never wake, and eight units, of which six never do; a scale of 3 in between."""
    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 4, 1),
            conv1_relu=nn.ReLU(inplace=True),
            flatten=nn.Flatten(),
            fc2=nn.Linear(16, 8),
            fc2_relu=nn.ReLU(inplace=True),
            fc2_dropout=nn.Dropout(0.5),
        )
    )
    with torch.no_grad():
        network.conv1.weight.zero_()
        network.conv1.bias.copy_(torch.tensor([3.0, -3.0, 3.0, -3.0]))
        network.fc2.weight.zero_()
        network.fc2.bias.copy_(torch.tensor([1.0, 2.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0]))
    return network.train()


def test_scale_and_dead_units_are_those_of_a_network_built_so(half_dead):
    layers = {layer.name: layer for layer in measure_health(half_dead, torch.randn(5, 1, 2, 2))}
    assert [*layers] == ["conv1", "conv1_relu", "flatten", "fc2", "fc2_relu", "fc2_dropout"]
    assert layers["conv1"].scale == pytest.approx(3)
    assert layers["conv1_relu"].scale == pytest.approx(3 * math.sqrt(0.5))
    assert (layers["conv1_relu"].dead_share, layers["conv1_relu"].zero_share) == (0.5, 0.5)
    assert layers["fc2"].scale == pytest.approx(math.sqrt((1 + 4 + 6) / 8))
    assert (layers["fc2_relu"].dead_share, layers["fc2_relu"].zero_share) == (0.75, 0.75)
    assert layers["fc2_dropout"].scale == layers["fc2_relu"].scale  # nothing was dropped
    assert {name for name, layer in layers.items() if layer.dead_share is None} == {
        "conv1",
        "flatten",
        "fc2",
        "fc2_dropout",
    }


def test_a_unit_that_one_picture_wakes_in_one_place_is_not_dead(half_dead):
    with torch.no_grad():
        half_dead.conv1.weight[1] = 1.0
    images = torch.zeros(5, 1, 2, 2)
    images[3, 0, 1, 0] = 4.0
    layer = measure_health(half_dead, images)[1]
    assert (layer.dead_share, layer.zero_share) == (pytest.approx(0.25), pytest.approx(1 - 41 / 80))


def test_measuring_leaves_mode_hooks_and_gradients_as_they_were():
    network = build_trainee(dropout=0.5).train()
    measure_health(network, paint_batch().images)
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_table_has_a_line_for_each_layer(half_dead):
    lines = format_health(measure_health(half_dead, torch.randn(5, 1, 2, 2))).splitlines()
    assert lines[0].split("  ")[0] == "layer"
    assert lines[2].split() == ["conv1", "3"]
    assert lines[3].split() == ["conv1_relu", "2.12", "50.0%", "50.0%"]
    assert len(lines) == 2 + 6


def test_remedies_are_what_experiments_that_leave_chance_have_instead():
    remedies = list_remedies("paper", get_experiment("paper").config)
    assert remedies[0] == "train: what source-2012 sets differently (all of it: `alexnet diff paper source-2012`):"
    assert "  model.convs.conv3.weight_std: 0.03 there, 0.01 here" in remedies
    changed = dataclasses.replace(get_experiment("source-2012").config, global_batch_size=8)
    assert not any("what source-2012 sets" in line for line in list_remedies("source-2012", changed))


FLAGS = (
    "--model.width=0.125",
    "--model.num-classes=4",
    "--global-batch-size=8",
    "--augment.crop-pixels=68",
    "--num-threads=1",
    "--device=cpu",
)
FROZEN = ("--schedule.weights", "0", "0", "--schedule.biases", "0", "0", "--schedule.epochs=2")
STUCK = (*FROZEN, "--model.linears.2.weight-std=0")
"""No rate, and logits of 0, so that the loss is that of guessing and stays there."""


@pytest.fixture
def train(shard_set, tmp_path):
    """Trains `source-2012` in one run directory; returns what was said."""

    def train(*flags: str, processes: int = 1) -> str:
        words = ("train", "source-2012", "--data", str(shard_set.path), "--out", str(tmp_path / "run"), *FLAGS, *flags)
        ended = run_ranks(*words, processes=processes)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return train


def list_stalls(run) -> list[int]:
    return [entry.step for entry, _ in Journal(run / "journal.jsonl").read_metric("train/stalled")]


def test_a_run_that_cannot_learn_says_so_once_with_layers_and_remedies(train, tmp_path):
    said = train(*STUCK, "--log-every=2", "--stall-after=5").splitlines()
    (warning,) = [number for number, line in enumerate(said) if "still that of guessing" in line]
    assert said[warning].startswith("train: warning: after 6 steps the loss 1.386 is still that")
    assert said[warning].endswith(" of guessing (1.386); what the layers put out:")
    assert said[warning + 1].split("  ")[0] == "layer"
    shares = {line.split()[0]: line.split()[-2] for line in said[warning + 3 :] if "_relu" in line.split(" ")[0]}
    assert [*shares] == [f"conv{n}_relu" for n in range(1, 6)] + ["fc6_relu", "fc7_relu"]
    assert list_stalls(tmp_path / "run") == [6]


@pytest.mark.distributed
def test_several_ranks_say_it_once(train, tmp_path):
    said = train(*STUCK, "--log-every=2", "--stall-after=5", processes=2)
    assert said.count("still that of guessing") == 1
    assert list_stalls(tmp_path / "run") == [6]


def test_a_stall_that_was_said_is_not_said_again_after_a_resume(train, tmp_path):
    flags = (*STUCK, "--log-every=2", "--stall-after=2")
    assert "still that of guessing" in train(*flags, "--max-steps=4")
    (*_, newest) = find_checkpoints(tmp_path / "run" / "checkpoints")
    assert read_checkpoint(newest).stalled
    assert "still that of guessing" not in train(*flags, "--resume")
    assert list_stalls(tmp_path / "run") == [2]


def test_without_being_asked_a_quarter_of_all_steps_is_waited_for(train, tmp_path):
    train(*STUCK, "--log-every=1")
    assert list_stalls(tmp_path / "run") == [3]


def test_a_loss_that_has_left_chance_is_no_stall(train, tmp_path):
    said = train(*FROZEN, "--model.linears.2.weight-std=1", "--log-every=1", "--stall-after=1")
    losses = [loss for _, loss in Journal(tmp_path / "run" / "journal.jsonl").read_metric("train/loss")]
    assert len(losses) == 12
    assert not any(is_at_chance(loss, NUM_CLASSES) for loss in losses), losses
    assert "guessing" not in said
    assert list_stalls(tmp_path / "run") == []


def test_a_stall_that_ends_and_begins_again_is_said_again(shard_set, small_config, tmp_path, capsys):
    config = dataclasses.replace(
        small_config, augment=dataclasses.replace(small_config.augment, crop_pixels=INPUT_PIXELS)
    )
    identity = Identity(experiment="source-2012", config=config, data_digest=shard_set.info.digest)
    runtime = RuntimeConfig(data=shard_set.path, out=tmp_path / "run", device="cpu", num_threads=1, stall_after=3)
    trainer = build_trainer(identity, runtime, shard_set, ALONE, None)
    chance = math.log(NUM_CLASSES)
    losses = [chance, 1.0, chance, 3.0, chance, 1.0, chance, chance * 1.005, 3.0]  # worse than guessing ends none
    said = []
    for step, loss in enumerate(losses, start=1):
        capsys.readouterr()
        watch_for_stall(trainer, dataclasses.replace(REPORT, step=step, loss=loss))
        said.append("still that of guessing" in capsys.readouterr().out)
    assert [step for step, spoke in enumerate(said, start=1) if spoke] == [3, 7]
    assert list_stalls(tmp_path / "run") == [3, 7]
