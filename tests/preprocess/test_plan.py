"""The plan, and what may not change between its making and the last shard: source, flags, tools."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from official import build_imagenet
from small_sets import FEW, SLOW, assert_refused, count_done, finish, preprocess, read_files, start

from pipeline.artifacts import read_json, write_json
from pipeline.options import PackingConfig
from pipeline.preprocess import plan as planning
from pipeline.preprocess.plan import begin_plan, open_plan, read_plan

PUT_BACK = r"put the old .* (back|with)"


def list_keys(out: Path, split: str) -> list[str]:
    return [key.decode() for key in np.load(out / "plan" / f"{split}.npy")["key"]]


def test_every_picture_stands_once_in_the_plan_in_an_order_that_the_seed_decides(few_pictures, tmp_path):
    orders = {}
    for seed in (0, 1):
        begin_plan(few_pictures, PackingConfig(seed=seed), tmp_path / str(seed))
        orders[seed] = list_keys(tmp_path / str(seed), "train")
        assert sorted(orders[seed]) == [f"{name}/{number}" for name in "abc" for number in range(6)]
        assert sorted(list_keys(tmp_path / str(seed), "val")) == [
            f"{name}/{number}" for name in "abc" for number in (0, 1)
        ]
    begin_plan(few_pictures, PackingConfig(), tmp_path / "again")
    assert orders[0] != orders[1]
    assert sorted(orders[0]) != orders[0]
    assert read_files(tmp_path / "again") == read_files(tmp_path / "0")


@pytest.mark.parametrize(
    ("num_images", "per_shard"), [(100, 64), (4096, 64), (4097, 65), (60_000, 938), (319_999, 5000), (1_281_167, 5000)]
)
def test_shards_are_some_64_or_hold_5000_pictures(tmp_path, num_images, per_shard):
    rows = np.zeros(num_images, [("stamp", "<i8")])
    assert planning._write_index(tmp_path, "train", rows, PackingConfig()).images_per_shard == per_shard


def test_shards_cover_each_split_without_gap_or_overlap(few_set):
    plan = read_plan(few_set.path)
    assert [shard.number for shard in plan.shards] == list(range(6))
    bounds = [(shard.name, shard.first, shard.last) for shard in plan.shards]
    assert bounds == [
        ("train-000000", 0, 5),
        ("train-000001", 5, 10),
        ("train-000002", 10, 15),
        ("train-000003", 15, 18),
        ("val-000000", 0, 5),
        ("val-000001", 5, 6),
    ]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--seed=1"], "--seed 0, found --seed 1"),
        (["--pixels=64"], "--pixels 32, found --pixels 64"),
        (["--encoding=png"], "--encoding jpeg, found --encoding png"),
        (["--resize=warp"], "--resize crop, found --resize warp"),
        (["--quality=90"], "--quality 95, found --quality 90"),
        (["--images-per-shard=6"], "--images-per-shard 5, found --images-per-shard 6"),
        (["--layout=folders"], "--layout None, found --layout folders"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_other_flags_on_what_was_begun_are_refused_with_both_values(
    few_pictures, few_set, tmp_path, flags, sentence, finished
):
    out = few_set.path if finished else tmp_path / "set"
    if not finished:
        assert preprocess(few_pictures, out, *FEW, "--part=0/2").returncode == 0
    before = read_files(out)
    ended = preprocess(few_pictures, out, *FEW, *flags)
    assert_refused(ended, f"--out {out} was begun with {sentence}: pass the same, or choose another directory")
    assert read_files(out).items() >= before.items()


def test_other_tools_may_not_go_on_but_may_read_what_is_finished(few_pictures, few_set, tmp_path, monkeypatch):
    out = tmp_path / "set"
    assert preprocess(few_pictures, out, *FEW, "--part=0/2").returncode == 0
    tools = planning.read_tools()
    monkeypatch.setattr(planning, "read_tools", lambda: tools | {"pillow-simd": "99.0"})
    sentence = f"{out} was begun with pillow-simd {tools['pillow-simd']}, found pillow-simd 99.0, which may give other"
    assert_refused(preprocess(few_pictures, out, *FEW), sentence)
    assert preprocess(few_pictures, few_set.path, *FEW).returncode == 0
    monkeypatch.undo()
    assert finish(few_pictures, out, *FEW) == read_files(few_set.path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"format_version": 2}, "has format 2, expected 1"), ({"packing": 7}, "does not fit this version: field packing")],
)
def test_a_plan_of_another_version_is_refused(few_pictures, tmp_path, changes, sentence):
    out = tmp_path / "set"
    assert preprocess(few_pictures, out, *FEW, "--part=0/2").returncode == 0
    file = out / "plan" / "plan.json"
    write_json(file, read_json(file, dict) | changes)
    assert_refused(preprocess(few_pictures, out, *FEW), sentence)


def test_a_damaged_index_is_refused_before_a_picture_is_packed_by_it(few_pictures, tmp_path):
    out = tmp_path / "set"
    assert preprocess(few_pictures, out, *FEW, "--part=0/2").returncode == 0
    index = out / "plan" / "train.npy"
    content = bytearray(index.read_bytes())
    content[-1] ^= 1
    index.write_bytes(content)
    assert_refused(preprocess(few_pictures, out, *FEW), f"{index} has SHA-256 ")


@pytest.fixture
def source(few_pictures, tmp_path) -> Path:
    """A copy of `few_pictures` that a test may change."""
    return Path(shutil.copytree(few_pictures, tmp_path / "source"))


def find_picture(out: Path, shard_number: int, source: Path) -> Path:
    """A picture of a shard that is not packed yet."""
    opened = open_plan(out)
    key = opened.read_rows(opened.plan.shards[shard_number])["key"][0].decode()
    return source / "train" / f"{key}.JPEG"


@pytest.mark.parametrize("change", ["cut", "touched", "gone", "replaced"])
def test_a_picture_that_changed_between_two_starts_is_named_and_put_back_the_next_goes_on(
    source, few_set, tmp_path, change
):
    out = tmp_path / "set"
    assert preprocess(source, out, *FEW, "--part=0/6").returncode == 0
    picture = find_picture(out, 2, source)
    kept, times = tmp_path / "kept", (picture.stat(), picture.parent.stat())
    shutil.copy2(picture, kept)
    if change == "cut":
        os.truncate(picture, 100)
        os.utime(picture, ns=(times[0].st_atime_ns, times[0].st_mtime_ns))
    elif change == "touched":
        picture.touch()
    elif change == "gone":
        picture.unlink()
        os.utime(picture.parent, ns=(times[1].st_atime_ns, times[1].st_mtime_ns))
    else:
        picture.write_bytes(picture.read_bytes()[::-1])
    before = read_files(out)
    for _ in range(2):
        ended = preprocess(source, out, *FEW)
        assert_refused(ended, f"{picture} ")
        assert re.search(r"changed since|does not exist any more", ended.stderr)
        assert "remove --out and begin anew" in ended.stderr
        assert read_files(out).items() >= before.items() - {(".work/request.json", before[".work/request.json"])}
    shutil.copy2(kept, picture)
    os.utime(picture.parent, ns=(times[1].st_atime_ns, times[1].st_mtime_ns))
    assert finish(source, out, *FEW) == read_files(few_set.path)


@pytest.mark.parametrize("change", ["added", "removed", "class removed"])
def test_a_folder_that_changed_between_two_starts_is_named_and_put_back_the_next_goes_on(
    source, few_set, tmp_path, change
):
    out = tmp_path / "set"
    assert preprocess(source, out, *FEW, "--part=0/6").returncode == 0
    folder, kept = source / "train" / "b", tmp_path / "kept"
    shutil.copytree(folder, kept)
    if change == "added":
        (folder / "more.JPEG").write_text("new")
    elif change == "removed":
        (folder / "3.JPEG").unlink()
    else:
        shutil.rmtree(folder)
    ended = preprocess(source, out, *FEW)
    assert_refused(ended, f"{folder} ")
    assert re.search(r"was changed since the shard set .* was begun|does not exist", ended.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(kept, folder)
    assert finish(source, out, *FEW) == read_files(few_set.path)


def test_an_archive_that_was_replaced_between_two_starts_is_named_and_put_back_the_next_goes_on(tmp_path):
    source, out = tmp_path / "source", tmp_path / "set"
    build_imagenet().write_archives(source)
    flags = ("--allow-partial", "--pixels=32", "--images-per-shard=3")
    expected = finish(source, tmp_path / "expected", *flags)
    assert preprocess(source, out, *flags, "--part=1/3").returncode == 0
    archive = source / "ILSVRC2012_img_train.tar"
    shutil.copy2(archive, tmp_path / "kept")
    archive.write_bytes(archive.read_bytes())
    ended = preprocess(source, out, *flags)
    assert_refused(ended, f"{archive} was changed since the shard set at {out} was begun")
    archive.unlink()
    assert_refused(preprocess(source, out, *flags), f"{archive} does not exist (any more): put it back")
    shutil.copy2(tmp_path / "kept", archive)
    assert finish(source, out, *flags) == expected


@pytest.mark.parametrize("change", ["folder moved away", "pictures cut"])
def test_a_source_that_changes_under_a_run_ends_it_with_a_sentence_and_put_back_the_next_goes_on(
    slow_pictures, slow_set, tmp_path, change
):
    source, out = tmp_path / "source", tmp_path / "set"
    shutil.copytree(slow_pictures, source)
    with start("preprocess", "--source", source, "--out", out, *SLOW, output=tmp_path / "said") as command:
        command.wait_until(lambda: count_done(out) > 0)
        if change == "folder moved away":
            (source / "train").rename(source / "elsewhere")
        else:
            for picture in (source / "val").rglob("*.png"):
                os.truncate(picture, 1000)
        ended = command.wait()
    assert_refused(ended, f"{source}/")
    assert re.search(r"changed since|does not exist any more", ended.stderr)
    num_done = count_done(out)
    assert 0 < num_done < 8
    if change == "folder moved away":
        (source / "elsewhere").rename(source / "train")
    else:
        for picture in (source / "val").rglob("*.png"):
            shutil.copy2(slow_pictures / picture.relative_to(source), picture)
    assert finish(source, out, *SLOW) == read_files(slow_set.path)


def test_a_source_that_moved_as_a_whole_is_accepted(source, few_set, tmp_path):
    out = tmp_path / "set"
    assert preprocess(source, out, *FEW, "--part=0/2").returncode == 0
    source.rename(tmp_path / "moved")
    assert_refused(preprocess(source, out, *FEW), f"--source {source} does not exist")
    assert finish(tmp_path / "moved", out, *FEW) == read_files(few_set.path)
