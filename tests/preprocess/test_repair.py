"""Every damage is mended to the same bytes, from the right pictures only."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from damage import DAMAGES, FILES, describe_anew, flip_bit, swap
from PIL import Image
from small_sets import assert_refused, finish, read_files, run
from stopping import end_repair_at_every_change, kill_self

from pipeline.artifacts import hold
from pipeline.preprocess import plan as planning
from pipeline.preprocess.claim import whole_lock


@pytest.fixture
def copy(few_set, tmp_path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(few_set.path, tmp_path / "copy"))


def repair(out: Path, source: Path):
    return run("preprocess", "repair", out, "--source", source, "--workers=2")


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_of_any_kind_is_mended_to_the_same_bytes(few_pictures, few_set, copy, file):
    flip_bit(copy / file)
    ended = repair(copy, few_pictures)
    assert (ended.returncode, ended.stderr) == (0, "")
    first, last = ended.stdout.splitlines()
    assert first.startswith(f"{copy}/{file} has SHA-256 ")
    assert first.endswith("…: mended")
    assert last == f"repair: 1 files mended, {copy} is as it was written"
    assert read_files(copy) == read_files(few_set.path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_everything_damaged_at_once_is_mended_to_the_same_bytes(few_pictures, few_set, copy, damage):
    for path in copy.rglob("*.*"):
        if path.name != "dataset.json":
            DAMAGES[damage](path)
    ended = repair(copy, few_pictures)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert read_files(copy) == read_files(few_set.path)


def test_whole_folders_that_are_gone_come_back(few_pictures, few_set, copy):
    for name in ("train", "plan", "statistics"):
        shutil.rmtree(copy / name)
    assert repair(copy, few_pictures).returncode == 0
    assert read_files(copy) == read_files(few_set.path)


def test_swapped_shards_change_back(few_pictures, few_set, copy):
    swap(copy / "train" / "train-000000.tar", copy / "train" / "train-000001.tar")
    assert repair(copy, few_pictures).returncode == 0
    assert read_files(copy) == read_files(few_set.path)


def test_of_a_whole_set_nothing_is_touched_and_the_source_is_not_even_read(few_set, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in few_set.path.rglob("*")}
    ended = repair(few_set.path, tmp_path / "nowhere")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"repair: 0 files mended, {few_set.path} is as it was written\n"
    assert {path: path.stat().st_mtime_ns for path in few_set.path.rglob("*")} == before


@pytest.mark.parametrize("file", FILES)
def test_another_source_is_refused_and_nothing_is_replaced(few_pictures, copy, tmp_path, file):
    other = tmp_path / "other"
    for path in sorted(few_pictures.rglob("*.JPEG")):
        changed = other / path.relative_to(few_pictures)
        changed.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (9, 90, 200)).save(changed)
        size = path.stat().st_size
        changed.write_bytes(changed.read_bytes().ljust(size, b"\0")[:size])
    (other / "train" / "a" / "1.JPEG").rename(other / "train" / "a" / "new.JPEG")
    (copy / file).unlink()
    before = read_files(copy)
    ended = repair(copy, other)
    if file.startswith("statistics"):
        assert ended.returncode == 0, "these come from the shards"
        return
    assert_refused(ended, "")
    assert read_files(copy).items() >= before.items()
    assert not (copy / file).exists()
    assert repair(copy, few_pictures).returncode == 0
    assert repair(copy, tmp_path).stdout.startswith("repair: 0 files")
    assert not (copy / ".work").exists()


def test_a_changed_picture_is_not_put_in_place_of_the_old_one_and_the_good_shard_is(
    few_pictures, few_set, copy, tmp_path
):
    source = Path(shutil.copytree(few_pictures, tmp_path / "source"))
    keys = np.load(copy / "train" / "train-000001.npy")["key"]
    picture = source / "train" / f"{keys[2].decode()}.JPEG"
    with Image.open(picture) as image:
        mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    size = picture.stat().st_size
    mirrored.save(picture, quality=40)
    os.truncate(picture, size)
    for name in ("train-000000", "train-000001"):
        flip_bit(copy / "train" / f"{name}.tar")
    damaged = (copy / "train" / "train-000001.tar").read_bytes()
    ended = repair(copy, source)
    sentence = f"1 of 2 shards, train-000001 first, came out differently from what {copy}/dataset.json describes"
    assert_refused(ended, sentence)
    assert (copy / "train" / "train-000001.tar").read_bytes() == damaged
    whole = few_set.path / "train" / "train-000000.tar"
    assert (copy / "train" / "train-000000.tar").read_bytes() == whole.read_bytes()
    assert repair(copy, few_pictures).returncode == 0
    assert read_files(copy) == read_files(few_set.path)


def test_pictures_that_were_copied_elsewhere_mend_as_well(few_pictures, few_set, copy, tmp_path):
    source = Path(shutil.copytree(few_pictures, tmp_path / "source", copy_function=shutil.copyfile))
    flip_bit(copy / "train" / "train-000001.tar")
    flip_bit(copy / "plan" / "train.npy")
    assert repair(copy, source).returncode == 0
    assert read_files(copy) == read_files(few_set.path)


def test_other_tools_are_refused(few_pictures, copy, monkeypatch):
    flip_bit(copy / "train" / "train-000001.tar")
    tools = planning.read_tools()
    monkeypatch.setattr(planning, "read_tools", lambda: tools | {"zlib": "9"})
    assert_refused(repair(copy, few_pictures), f"{copy} was begun with zlib {tools['zlib']}, found zlib 9")


def test_a_dataset_json_that_is_damaged_itself_is_refused(few_pictures, copy):
    flip_bit(copy / "dataset.json")
    before = read_files(copy)
    assert_refused(repair(copy, few_pictures), "dataset.json")
    assert read_files(copy) == before


def test_two_repairs_at_once_are_refused_with_the_holder(few_pictures, few_set, copy):
    flip_bit(copy / "train" / "train-000001.tar")
    with hold(whole_lock(copy)):
        assert_refused(repair(copy, few_pictures), f"--out {copy} is being written (process {os.getpid()} on ")
    assert repair(copy, few_pictures).returncode == 0
    assert read_files(copy) == read_files(few_set.path)


def test_killed_before_any_change_on_disk_a_repair_is_done_by_the_next(few_pictures, few_set, copy, tmp_path):
    for file in ("train/train-000001.tar", "val/val-000001.npy", "plan/val.npy", "statistics/mean_image.npy"):
        flip_bit(copy / file)
    folder = tmp_path / "ended"
    codes = end_repair_at_every_change(kill_self, folder, copy, few_pictures, every=4)
    assert len(codes) > 10
    expected = read_files(few_set.path)
    for number in range(len(codes)):
        assert read_files(folder / str(number)) == expected, f"killed at change {4 * number}"


@pytest.mark.parametrize("flags", [("--encoding=raw",), ("--encoding=png", "--resize=warp"), ("--encoding=jpeg-420",)])
def test_every_encoding_is_mended(few_pictures, tmp_path, flags):
    out = tmp_path / "set"
    expected = finish(few_pictures, out, "--pixels=33", "--images-per-shard=9", "--max-dropped=0.1", *flags)
    flip_bit(out / "train" / "train-000000.tar")
    (out / "statistics" / "mean_image.npy").unlink()
    assert repair(out, few_pictures).returncode == 0
    assert read_files(out) == expected


def test_a_problem_that_checksums_do_not_see_is_no_work_for_repair(few_pictures, copy):
    index = np.load(copy / "train" / "train-000001.npy")
    index["label"][0] = 9
    np.save(copy / "train" / "train-000001.npy", index)
    describe_anew(copy)
    assert repair(copy, few_pictures).stdout.startswith("repair: 0 files mended")
