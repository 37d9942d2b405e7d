"""The demo's pictures and sentences, the benchmark, and the set-up's word on missing packages."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run_command
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.artifacts import RunDirectory, ShardSet, write_json
from pipeline.config import Precision
from pipeline.errors import InputError
from pipeline.launch.demo import choose_precision, demo, describe_result, write_digits
from pipeline.options import DemoConfig
from pipeline.provenance import read_command, read_commit
from pipeline.report.measured import read_run

ROOT = Path(__file__).parents[2]


def test_digits_are_written_as_grey_jpegs_in_imagenet_s_layout(tmp_path: Path):
    write_digits(tmp_path)
    files = {split: sorted((tmp_path / split).rglob("*.JPEG")) for split in ("train", "val")}
    assert (len(files["train"]), len(files["val"])) == (1500, 297)
    digits = load_digits()
    for file in files["val"][::50]:
        number = int(file.stem)
        assert file.parent.name == f"digit-{digits.target[number]}"
        with Image.open(file) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "L", (256, 256))
            coarse = np.asarray(image.resize((8, 8), Image.Resampling.BOX), np.float64)
        assert np.corrcoef(coarse.ravel(), digits.images[number].ravel())[0, 1] > 0.97


def test_the_demo_leaves_a_folder_of_somebody_else_alone(tmp_path: Path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(InputError, match=f"--out {tmp_path} already holds something that is not the demo's"):
        demo(DemoConfig(out=tmp_path))
    assert [file.name for file in tmp_path.rglob("*")] == ["pictures", "holiday.jpg"]


def test_the_demo_s_last_words_give_the_measured_errors_and_name_the_contrast(finished_run: Path):
    run = read_run(finished_run)
    said = describe_result(run)
    assert ", ".join(f"{error:.1%}" for _, error in run.val_top1_errors) in said
    assert "make demo-paper" in said


@pytest.mark.parametrize(
    ("instructions", "precision"),
    [("avx512_bf16", "bfloat16"), ("amx_bf16", "bfloat16"), ("bf16", "bfloat16"), ("avx512_f", "float32")],
)
def test_the_demo_takes_bfloat16_only_where_the_processor_has_it(
    monkeypatch, tmp_path: Path, instructions: str, precision: str
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, instructions: True})
    assert choose_precision(RunDirectory(tmp_path)) == precision


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_demo_that_goes_on_keeps_the_precision_that_it_began_with(
    finished_run: Path, tmp_path: Path, precision: Precision
):
    record = RunDirectory(finished_run).read_record()
    begun = RunDirectory(tmp_path)
    write_json(
        begun.config, dataclasses.replace(record, config=dataclasses.replace(record.config, precision=precision))
    )
    assert choose_precision(begun) == precision


@pytest.mark.slow
def test_bench_writes_numbers_with_command_commit_and_machine(shard_set: ShardSet, tmp_path: Path):
    flags = ("--num-steps=1", "--batch-size=4", "--device=cpu", "--experiment=tutorial-half")
    result = run_command("bench", "train", f"--data={shard_set.path}", f"--out={tmp_path}", *flags)
    assert result.returncode == 0, result.stderr
    (path,) = tmp_path.glob("bench-train-cpu-*.json")
    record = json.loads(path.read_text())
    assert record["origin"]["command"].startswith("alexnet bench train --data=")
    assert record["origin"]["commit"] == read_commit().id
    assert len(record["timings"]) == 6
    waits = {wait["variant"]: wait for wait in record["data_waits"]}
    assert list(waits) == ["loader and step, jpeg, float32", "loader and step, jpeg, bfloat16"]
    for name, wait in waits.items():
        (timing,) = [timing for timing in record["timings"] if timing["variant"] == name]
        assert wait["share"] == max(0, 1 - timing["ratio"])
        assert wait["reached"] == (wait["share"] < 0.02)
    assert all(timing["images_per_second"] > 0 for timing in record["timings"])
    assert f"{record['timings'][0]['images_per_second']:,.0f}" in result.stdout


@pytest.mark.slow
def test_bench_sets_preprocessing_beside_its_peers(tmp_path: Path):
    flags = ("--num-sampled=6", "--num-rounds=1", "--num-packed=30", f"--peer-python={sys.executable}")
    result = run_command("bench", "preprocess", f"--out={tmp_path}", *flags[:3])
    assert result.returncode == 0, result.stderr
    (path,) = tmp_path.glob("bench-preprocess-cpu-*.json")
    record = json.loads(path.read_text())
    variants = {timing["variant"]: timing for timing in record["timings"]}
    assert {"torchvision", "opencv", "Pillow loop on Pillow-SIMD", "the whole command, 2 workers"} <= variants.keys()
    assert variants["codecs alone: decode, resize, encode"]["ratio"] == 1
    assert [run["num_images"] for run in record["stage_runs"]] == [6, 6, 10, 10, 30, 30]
    assert all(run["peak_bytes"] > 10e6 for run in record["stage_runs"])
    losses = {(form["encoding"], form["quality"]): form["psnr"] for form in record["stored_forms"]}
    assert losses["jpeg", 85] < losses["jpeg", 95] < losses["jpeg", 100]
    assert losses["raw", None] is losses["png", None] is None
    assert path.with_suffix(".md").read_text() in result.stdout
    missing = run_command("bench", "preprocess", f"--out={tmp_path}", *flags)
    assert missing.returncode == 1
    assert "cannot run img2dataset" in missing.stderr


def test_commit_can_be_told_where_there_is_no_checkout(monkeypatch):
    monkeypatch.setenv("ALEXNET_COMMIT", "0123abcd")
    assert (read_commit().id, read_commit().dirty) == ("0123abcd", False)


def test_set_up_names_missing_system_packages_in_one_sentence(tmp_path: Path):
    """A machine without compiler: PATH holds the shell's own tools and a Python, nothing else."""
    for tool in ("bash", "sort"):
        found = subprocess.run(["which", tool], capture_output=True, text=True, check=True).stdout.strip()
        (tmp_path / tool).symlink_to(found)
    (tmp_path / "python3").symlink_to(Path(sys.executable).resolve())
    result = subprocess.run(
        [str(tmp_path / "bash"), str(ROOT / ".ci" / "check-system.sh")],
        env={"PATH": str(tmp_path), "HOME": os.environ.get("HOME", "/")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr == (
        "setup: missing system packages, install them with: "
        "sudo apt-get install -y gcc libc6-dev libjpeg-dev python3-dev zlib1g-dev\n"
    )


@pytest.mark.parametrize(
    ("world_size", "on_this_node", "launcher"),
    [
        (1, None, "alexnet"),
        (4, "4", "alexnet torchrun --nproc-per-node 4"),
        (4, "2", "srun --nodes 2 --ntasks-per-node 1 alexnet torchrun --nproc-per-node 2"),
    ],
)
def test_the_recorded_command_starts_as_many_ranks_on_as_many_nodes(monkeypatch, world_size, on_this_node, launcher):
    monkeypatch.setattr(sys, "argv", ["alexnet", "train", "paper"])
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if on_this_node:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", on_this_node)
    assert read_command(world_size) == f"{launcher} train paper"
