"""Checkpoints on disk: what comes back, what is kept, what is refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.checkpoint import Checkpoint, Identity, check_belongs, find_checkpoints, read_checkpoint, write_checkpoint
from pipeline.config import ExperimentConfig
from pipeline.errors import InputError
from pipeline.experiments import EXPERIMENTS


def build_checkpoint(*, step: int = 30, experiment: str = "source-2012") -> Checkpoint:
    generator = torch.Generator().manual_seed(step)
    parameter = torch.nn.Parameter(torch.randn(20, 10, generator=generator))
    optimizer = torch.optim.SGD([{"params": [parameter], "role": "weights", "buffer_lr": 0.01}], lr=0.01, momentum=0.9)
    parameter.grad = torch.randn(20, 10, generator=generator)
    optimizer.step()
    return Checkpoint(
        experiment=experiment,
        config=EXPERIMENTS[experiment].config,
        data_digest="d" * 64,
        step=step,
        steps_per_epoch=10,
        val_top1_errors=(0.5, 1 / 3),
        draws_digest="e" * 64,
        model={"fc8.weight": parameter.detach()},
        optimizer=optimizer.state_dict(),
    )


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_what_is_read_is_what_was_written_to_the_bit(tmp_path, experiment):
    written = build_checkpoint(experiment=experiment)
    read = read_checkpoint(write_checkpoint(tmp_path, written, keep=1))
    for field in ("experiment", "config", "data_digest", "step", "steps_per_epoch", "val_top1_errors", "draws_digest"):
        assert getattr(read, field) == getattr(written, field)
    assert torch.equal(read.model["fc8.weight"], written.model["fc8.weight"])
    momentum = [checkpoint.optimizer["state"][0]["momentum_buffer"] for checkpoint in (read, written)]
    assert torch.equal(*momentum)
    assert read.optimizer["param_groups"] == written.optimizer["param_groups"]


def test_the_epoch_counts_only_finished_ones():
    assert [build_checkpoint(step=step).epoch for step in (9, 10, 19, 20)] == [0, 1, 1, 2]


def test_the_newest_by_step_are_kept_and_nothing_else_is_touched(tmp_path):
    (tmp_path / "step-notes.pt").write_text("mine")
    for step in (99_999_999, 100_000_000, 5):
        write_checkpoint(tmp_path, build_checkpoint(step=step), keep=5)
    found = [path.name for path in find_checkpoints(tmp_path)]
    assert found == ["step-00000005.pt", "step-99999999.pt", "step-100000000.pt"]
    write_checkpoint(tmp_path, build_checkpoint(step=100_000_001), keep=2)
    assert [path.name for path in find_checkpoints(tmp_path)] == ["step-100000000.pt", "step-100000001.pt"]
    assert (tmp_path / "step-notes.pt").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_directory_that_does_not_exist_holds_no_checkpoint(tmp_path):
    assert find_checkpoints(tmp_path / "none") == []


def test_any_flipped_byte_is_noticed(tmp_path):
    path = write_checkpoint(tmp_path, build_checkpoint(), keep=1)
    content = path.read_bytes()
    for place in np.linspace(0, len(content) - 1, 300).astype(int):
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"step-00000030\.pt is damaged"):
            read_checkpoint(path)
    path.write_bytes(content)
    assert read_checkpoint(path).step == 30


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_file_cut_short_is_refused_by_name(tmp_path, share):
    path = write_checkpoint(tmp_path, build_checkpoint(), keep=1)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"step-00000030\.pt is damaged.*: remove it"):
        read_checkpoint(path)


def test_a_file_of_another_program_is_refused(tmp_path):
    path = tmp_path / "step-00000001.pt"
    torch.save({"model": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="no checkpoint that `alexnet train` wrote"):
        read_checkpoint(path)
    with pytest.raises(InputError, match=r"nowhere\.pt does not exist"):
        read_checkpoint(tmp_path / "nowhere.pt")


def test_a_checkpoint_of_an_earlier_version_is_refused(tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path, build_checkpoint(), keep=1)
    state = torch.load(path)
    del state["draws_digest"]
    monkeypatch.setattr(torch, "load", lambda *_, **__: state)
    with pytest.raises(InputError, match=r"step-00000030\.pt was written by an earlier version"):
        read_checkpoint(path)


def change_config(**fields) -> ExperimentConfig:
    return dataclasses.replace(EXPERIMENTS["paper"].config, **fields)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"experiment": "source-2012"}, "there belongs to experiment 'paper', not 'source-2012'"),
        ({"config": change_config(seed=3)}, r"another configuration \(seed is 0 there and 3 now\)"),
        ({"data_digest": "e" * 64}, "trained on the shard set dddddddddddd, not on eeeeeeeeeeee"),
    ],
)
def test_what_belongs_to_another_run_is_refused_with_the_difference(wanted, message):
    found = Identity(experiment="paper", config=change_config(), data_digest="d" * 64)
    check_belongs(Path("there"), found, found)
    with pytest.raises(InputError, match=message):
        check_belongs(Path("there"), found, dataclasses.replace(found, **wanted))
