"""A loss that is no number ends the run: with step, rates, layer and the last good checkpoint, on every rank."""

import re
from pathlib import Path

import pytest
from accidents import break_gradients, break_images
from ranks import run_ranks, start_ranks
from small_runs import STEPS_PER_EPOCH, list_steps, list_words, read_newest

from pipeline.tracking import Journal


@pytest.fixture
def train(shard_set, tmp_path):
    """Trains into one run directory, which fails; returns what was said of it."""

    def train(*flags: str, processes: int = 1, accident=None) -> str:
        words = list_words(shard_set, tmp_path / "run", *flags)
        ended = run_ranks(*words, processes=processes, prepare=accident)
        assert ended.returncode == 1, ended.stderr
        assert ended.stderr.count("\n") == 1, ended.stderr
        return ended.stderr.removesuffix("\n")

    return train


def assert_finite(run: Path) -> None:
    newest = read_newest(run)
    assert all(value.isfinite().all() for value in newest.model.values())
    assert all(state["momentum_buffer"].isfinite().all() for state in newest.optimizer["state"].values())


def test_a_rate_that_is_too_high_is_named_with_step_layer_and_checkpoint(train, tmp_path):
    wild = ("0", "0.002", "1", "1e20")
    said = train("--schedule.weights", *wild, "--schedule.biases", *wild, "--log-every=1")
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000006.pt"
    assert re.fullmatch(
        r"alexnet train: the loss or a gradient of step (7|8|9) \(epoch 1\.\d\d\) is not finite, "
        r"at rates of weights 1e\+20, biases 1e\+20, conv1 1e\+20, head 1e\+20; "
        r"it began in the (weights|outputs|gradient) of (conv|fc)\d(\.\w+)?; "
        rf"the last good checkpoint is {re.escape(str(checkpoint))}: "
        r"start anew in another --out with smaller --schedule.weights, or look at the data",
        said,
    ), said
    assert list_steps(tmp_path / "run") == [6]
    assert_finite(tmp_path / "run")


@pytest.mark.parametrize("log_every", [1, 20])
def test_the_step_is_named_however_rarely_there_are_reports(train, tmp_path, log_every):
    said = train(f"--log-every={log_every}", accident=break_images(8, victim=0))
    assert said.startswith("alexnet train: the loss or a gradient of step 8 (epoch 1.33) is not finite")
    assert "it began in the images themselves; the last good checkpoint is" in said
    losses = Journal(tmp_path / "run" / "journal.jsonl").read_metric("train/loss")
    assert losses[-1][0].step == (8 if log_every == 1 else STEPS_PER_EPOCH)
    assert_finite(tmp_path / "run")


def test_weights_that_are_no_numbers_are_in_no_checkpoint(train, tmp_path):
    wild = (
        "0",
        "0.002",
        "1",
        "1e45",
    )  # beyond float32: loss and gradients are finite, and what they make of weights not
    said = train("--schedule.weights", *wild, "--schedule.biases", *wild, "--checkpoint-every=1", "--keep=9")
    assert said.startswith("alexnet train: the loss or a gradient of step 7 ")
    assert "it began in the weights of conv1; " in said
    assert list_steps(tmp_path / "run")[-1] == 6
    assert_finite(tmp_path / "run")


def test_without_a_checkpoint_it_says_so(train):
    assert "there is no checkpoint yet: start anew" in train(accident=break_images(2, victim=0))


@pytest.mark.distributed
def test_what_breaks_on_the_second_rank_ends_both_and_is_said_by_the_first(shard_set, tmp_path):
    words = list_words(shard_set, tmp_path / "run", "--log-every=2")
    accident = break_images(9, victim=1)
    with start_ranks(*words, processes=2, output=tmp_path / "said", prepare=accident) as started:
        for process in started:
            process.join(60)
        assert [process.exitcode for process in started] == [1, 1]
    said = (tmp_path / "said.0.stderr").read_text()
    assert said.startswith("alexnet train: the loss or a gradient of step 9 (epoch 1.50) is not finite")
    assert "it began in the images themselves" in said
    assert list_steps(tmp_path / "run") == [6]
    assert_finite(tmp_path / "run")


def test_float16_whose_gradients_are_never_finite_is_not_trained_to_the_end_for_nothing(train):
    said = train("--precision=float16", "--log-every=1", accident=break_gradients)
    assert said.startswith(
        "alexnet train: no scale of the loss keeps the gradients of float16 finite (it is down to 0.000"
    )


def test_a_gradient_that_is_no_number_ends_the_run_though_the_loss_is_one(train, tmp_path):
    said = train("--log-every=4", accident=break_gradients)
    assert said.startswith("alexnet train: the loss or a gradient of step 0 (epoch 0.00) is not finite")
    assert list_steps(tmp_path / "run") == []
