"""The same bytes whoever does the work: any number of workers and parts, in any order, at once, from any layout."""

import json
import random
import tarfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from official import build_imagenet, write_tar
from small_sets import FEW, SLOW, assert_refused, finish, preprocess, read_files, run, start

from pipeline.artifacts import hold
from pipeline.preprocess.claim import whole_lock


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_the_same_bytes(few_pictures, few_set, tmp_path, workers):
    found = finish(few_pictures, tmp_path / "set", *FEW, f"--workers={workers}")
    assert found == read_files(few_set.path)
    assert {name for name, content in found.items() if content is not None and not name.endswith((".npy", ".idx"))} == {
        "dataset.json",
        "ledger.jsonl",
        "plan/plan.json",
        "statistics/statistics.svg",
        *(f"train/train-00000{number}.tar" for number in range(4)),
        *(f"val/val-00000{number}.tar" for number in range(2)),
    }


@pytest.mark.parametrize("num_parts", [1, 2, 3, 4, 8])
def test_parts_in_any_order_give_the_same_bytes_and_the_last_one_merges(few_pictures, few_set, tmp_path, num_parts):
    out, order = tmp_path / "set", list(range(num_parts))
    random.Random(num_parts).shuffle(order)
    for number in order:
        assert not (out / "dataset.json").exists()
        ended = preprocess(few_pictures, out, *FEW, f"--part={number}/{num_parts}")
        assert (ended.returncode, ended.stderr) == (0, "")
        is_last = number == order[-1]
        assert ("others are not: see `alexnet preprocess status" in ended.stdout) != is_last
    assert read_files(out) == read_files(few_set.path)


def test_parts_that_run_at_the_same_time_and_one_that_ends_late_give_the_same_bytes(slow_pictures, slow_set, tmp_path):
    out = tmp_path / "set"
    with ExitStack() as stack:
        words = ("preprocess", "--source", slow_pictures, "--out", out, *SLOW[:-1], "--workers=1")
        parts = [
            stack.enter_context(start(*words, f"--part={part}/3", output=tmp_path / str(part))) for part in range(3)
        ]
        ended = [part.wait() for part in parts]
    assert [(part.returncode, part.stderr) for part in ended] == [(0, "")] * 3
    assert any("digest" in part.stdout for part in ended)
    assert read_files(out) == read_files(slow_set.path)


def test_parts_that_end_at_the_same_moment_merge_once_and_all_end_well(few_pictures, few_set, tmp_path):
    out = tmp_path / "set"
    pack_all_but_merge(few_pictures, out, *FEW)
    words = ("preprocess", "--source", few_pictures, "--out", out, *FEW)
    with ExitStack() as stack:
        parts = [
            stack.enter_context(start(*words, f"--part={part}/4", output=tmp_path / str(part))) for part in range(4)
        ]
        ended = [part.wait() for part in parts]
    assert [(part.returncode, part.stderr) for part in ended] == [(0, "")] * 4
    assert read_files(out) == read_files(few_set.path)


def test_a_part_that_is_started_again_after_the_end_says_so_and_touches_nothing(few_pictures, few_set):
    before = {path: path.stat().st_mtime_ns for path in few_set.path.rglob("*")}
    for flags in ((), ("--part=1/4",), ("--part=7/9",)):
        ended = preprocess(few_pictures, few_set.path, *FEW, *flags)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.startswith("preprocess: 23 pictures, ")
        assert ended.stdout.endswith(f"digest {few_set.info.digest[:12]}\n")
    assert {path: path.stat().st_mtime_ns for path in few_set.path.rglob("*")} == before


def test_more_parts_than_shards_leave_some_with_nothing_to_do(few_pictures, tmp_path):
    ended = preprocess(few_pictures, tmp_path / "set", *FEW, "--part=6/7")
    assert ended.returncode == 0
    assert "part 6/7: 0 of 0 shards to pack" in ended.stdout


@pytest.mark.parametrize("part", ["4/4", "-1/4", "0/0", "x", "1", "1/", "1/2/3", ""])
def test_a_part_that_is_none_is_refused(few_pictures, tmp_path, part):
    ended = preprocess(few_pictures, tmp_path / "set", *FEW, f"--part={part}")
    assert_refused(ended, f"--part must be I/N with I from 0 to N - 1, such as 0/4 to 3/4, found {part!r}")
    assert not (tmp_path / "set").exists()


def test_merge_refuses_what_is_not_there_and_what_is_not_done(few_pictures, few_set, tmp_path):
    out = tmp_path / "set"
    assert_refused(run("preprocess", "merge", out), f"{out} is not a directory")
    for part in (0, 2):
        assert preprocess(few_pictures, out, *FEW, f"--part={part}/3").returncode == 0
    advice = f"first: see `alexnet preprocess status {out}` for the command that packs them"
    assert_refused(run("preprocess", "merge", out), f"{out} lacks 2 shards, train-000001 {advice}")
    assert finish(few_pictures, out, *FEW) == read_files(few_set.path)
    ended = run("preprocess", "merge", out)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_merge_before_the_plan_is_made_is_refused(tmp_path):
    with hold(whole_lock(tmp_path / "set")):
        ended = run("preprocess", "merge", tmp_path / "set")
    assert_refused(ended, f"{tmp_path / 'set'} has no plan yet, let alone shards: see `alexnet preprocess status")


def pack_all_but_merge(source: Path, out: Path, *flags: str) -> None:
    """Do all parts while another process seems to be at work, so that none of them merges."""
    with hold(whole_lock(out), shared=True):
        for part in range(2):
            ended = preprocess(source, out, *flags, f"--part={part}/2")
            assert "others are not" in ended.stdout
    assert not (out / "dataset.json").exists()


def test_merge_does_what_the_last_part_could_not(few_pictures, few_set, tmp_path):
    out = tmp_path / "set"
    pack_all_but_merge(few_pictures, out, *FEW)
    assert_refused(run("preprocess", "merge", out), "1 of 24 pictures cannot be decoded, train/c/5.JPEG first")
    with hold(whole_lock(out), shared=True):
        ended = run("preprocess", "merge", out, "--max-dropped=0.1")
        assert_refused(ended, f"{out} is being written by another process: wait for it")
    ended = run("preprocess", "merge", out, "--max-dropped=0.1")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert read_files(out) == read_files(few_set.path)


def test_what_parts_dropped_together_counts_at_the_merge_and_a_larger_limit_goes_on(few_pictures, few_set, tmp_path):
    out = tmp_path / "set"
    strict = (*FEW[:2], "--workers=1", "--max-dropped=0.01")
    codes = [preprocess(few_pictures, out, *strict, f"--part={part}/2").returncode for part in (0, 1)]
    assert sorted(codes) in ([0, 2], [2, 2])  # the other part refuses to merge if the one that stopped was through
    assert not (out / "dataset.json").exists()
    assert_refused(
        preprocess(few_pictures, out, *strict),
        "allow a larger share than 0.01 with --max-dropped, which goes on from here",
    )
    assert finish(few_pictures, out, *FEW) == read_files(few_set.path)


IMAGENET = build_imagenet(num_classes=3, num_train=4, num_val=2, width=50, height=40)
PACKED = ("--pixels=32", "--images-per-shard=4", "--workers=2")


@pytest.fixture(scope="module")
def from_archives(tmp_path_factory) -> dict[str, bytes | None]:
    """All files of a set that was made from the official archives."""
    folder = tmp_path_factory.mktemp("archives")
    IMAGENET.write_archives(folder / "source")
    return finish(folder / "source", folder / "set", *PACKED, "--allow-partial")


@pytest.mark.parametrize("layout", ["folders", "folders in another order", "tar"])
def test_archives_folders_and_a_tar_of_them_give_the_same_shards_and_statistics(from_archives, tmp_path, layout):
    source, members = tmp_path / "source", IMAGENET.as_members()
    if layout == "tar":
        write_tar(source, dict(sorted(members.items(), reverse=True)))
    else:
        for name in sorted(members, reverse="other" in layout):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(members[name])
    found = finish(source, tmp_path / "set", *PACKED)
    of_source = {"dataset.json", "plan/plan.json", "plan/train.npy", "plan/val.npy"}
    assert found.keys() == from_archives.keys()
    assert {name for name in found if found[name] != from_archives[name]} == of_source
    one, other = (json.loads(files["dataset.json"]) for files in (found, from_archives))
    for name in ("splits", "color", "tools", "num_dropped"):
        assert one[name] == other[name]
    assert (one["layout"], other["layout"]) == ("folders", "ilsvrc2012")
    assert [item["id"] for item in one["classes"]] == [item["id"] for item in other["classes"]]


def test_every_picture_of_the_archives_is_stored_once_under_its_class(from_archives, tmp_path):
    stored = []
    for name in sorted(name for name in from_archives if name.endswith(".tar")):
        (tmp_path / "shard.tar").write_bytes(from_archives[name])
        with tarfile.open(tmp_path / "shard.tar") as tar:
            contents = [(member.name, tar.extractfile(member).read()) for member in tar]
        stored += [
            (name.split("/")[0], key, int(label))
            for (key, _), (_, label) in zip(contents[::2], contents[1::2], strict=True)
        ]
    expected = [
        (split, f"{class_id}/{name.removesuffix('.JPEG')}.jpg", sorted(IMAGENET.numbers).index(class_id))
        for split, pictures in IMAGENET.pictures.items()
        for name, class_id, _ in pictures
    ]
    assert sorted(stored) == sorted(expected)
    assert stored != sorted(stored)
