"""Small and grey pictures go through the same stages: 32×32, luminance, brought to the size that a network needs."""

import pytest
from ranks import run_ranks

from pipeline.checkpoint import find_checkpoints, read_checkpoint
from pipeline.tracking import Journal

FLAGS = (
    "--model.width=0.125",
    "--model.num-classes=3",
    "--global-batch-size=4",
    "--schedule.epochs=1",
    "--augment.num-offsets=1",
    "--augment.crop-pixels=32",
    "--augment.resize-pixels=96",
    "--augment.color-scale=none",
)
GRAY = ("--augment.gray", "--augment.mean=none", "--augment.pixel-scale=255", "--model.in-channels=1")
DEVIATIONS = ("--augment.mean=channel", "--augment.pixel-scale=std")


@pytest.mark.parametrize(("flags", "num_channels"), [(GRAY, 1), (DEVIATIONS, 3)], ids=["gray", "colour"])
def test_pictures_of_32_pixels_are_trained_on_and_evaluated(few_set, tmp_path, flags, num_channels):
    run = tmp_path / "run"
    words = ("train", "source-2012", "--data", str(few_set.path), "--out", str(run), "--device=cpu", *FLAGS, *flags)
    ended = run_ranks(*words)
    assert ended.returncode == 0, ended.stderr
    (newest,) = find_checkpoints(run / "checkpoints")
    assert read_checkpoint(newest).model["conv1.weight"].shape == (12, num_channels, 11, 11)
    ended = run_ranks("evaluate", str(run), "--device=cpu", "--views=center")
    assert ended.returncode == 0, ended.stderr
    assert "of 6 pictures" in ended.stdout
    assert [entry.step for entry, _ in Journal(run / "journal.jsonl").read_metric("val/center_top1_error")] == [4]
