"""Reading a shard set back: what is missing, changed, cut short or swapped is refused in one sentence."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

import pipeline.artifacts.shard_set as reading
from pipeline.artifacts import ShardSet, ShardSetInfo, read_json, read_shard_set, write_json
from pipeline.errors import InputError, RunError


@pytest.fixture
def copy(shard_set, tmp_path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(shard_set.path, tmp_path / "copy"))


@pytest.fixture
def copy_of_few(few_set, tmp_path) -> ShardSet:
    """A small set that nothing else has open."""
    return read_shard_set(Path(shutil.copytree(few_set.path, tmp_path / "few")))


def edit_dataset(path: Path, **changes) -> None:
    content = json.loads((path / "dataset.json").read_text())
    (path / "dataset.json").write_text(json.dumps(content | changes))


def test_a_whole_set_is_read_and_describes_itself(shard_set, copy):
    found = read_shard_set(copy)
    assert found == ShardSet(copy, shard_set.info)
    info = found.info
    assert [(name, split.num_images) for name, split in info.splits.items()] == [("train", 48), ("val", 20)]
    assert [shard.num_images for shard in info.splits["train"].shards] == [20, 20, 8]
    assert [item.id for item in info.classes] == [f"n{label:08d}" for label in range(4)]
    assert info.layout == "folders"
    assert info.packing.pixels == 256
    assert found.read_mean_image().shape == (256, 256, 3)


def test_a_picture_is_located_by_shard_offset_and_key(shard_set):
    split = shard_set.open_split("train")
    place, offset, key = split.locate(21).split(":")
    assert place.endswith("train/train-000001.tar")
    assert key == split.key(21)
    content = split.read(21).tobytes()
    assert Path(place).read_bytes()[int(offset) : int(offset) + len(content)] == content


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere is not a directory: pass the directory that `alexnet preprocess`"):
        read_shard_set(tmp_path / "nowhere")


def test_a_set_without_dataset_json_counts_as_unfinished(copy):
    (copy / "dataset.json").unlink()
    with pytest.raises(InputError, match=r"has no dataset\.json, so it is no finished shard set: restore it, or"):
        read_shard_set(copy)


@pytest.mark.parametrize("changes", [{"num_dropped": 1}, {"complete": True}, {"digest": "0" * 64}])
def test_an_edited_dataset_json_is_refused(copy, changes):
    edit_dataset(copy, **changes)
    with pytest.raises(InputError, match=r"dataset\.json does not match its own digest, so it was changed after"):
        read_shard_set(copy)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"unheard_of": 1}, "has fields that this version does not know or lacks some that it needs"),
        ({"num_dropped": "many"}, "field num_dropped: .*found 'many'"),
    ],
)
def test_fields_that_do_not_fit_are_refused_by_name(copy, changes, sentence):
    edit_dataset(copy, **changes)
    with pytest.raises(InputError, match=sentence):
        read_shard_set(copy)


def test_a_dataset_json_that_was_cut_short_is_refused(copy):
    path = copy / "dataset.json"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=r"dataset\.json is not valid JSON .*: restore it"):
        read_shard_set(copy)


def test_another_format_version_is_refused(copy):
    info = replace(read_json(copy / "dataset.json", ShardSetInfo), format_version=1)
    write_json(copy / "dataset.json", replace(info, digest=info.compute_digest()))
    with pytest.raises(InputError, match=r"has format 1, expected 2: run `alexnet preprocess` into a new directory"):
        read_shard_set(copy)


def test_a_tar_that_was_cut_short_is_refused(copy):
    tar = copy / "train" / "train-000001.tar"
    size = tar.stat().st_size
    tar.write_bytes(tar.read_bytes()[:-512])
    with pytest.raises(InputError, match=rf"train-000001\.tar has {size - 512} bytes, expected {size}: restore it, or"):
        read_shard_set(copy).open_split("train")
    assert len(read_shard_set(copy).open_split("val")) == 20


def test_a_missing_tar_is_refused(copy):
    (copy / "train" / "train-000002.tar").unlink()
    with pytest.raises(InputError, match=r"train-000002\.tar has no bytes, expected \d+: restore it, or"):
        read_shard_set(copy).open_split("train")


def test_a_missing_index_is_refused(copy):
    (copy / "train" / "train-000000.npy").unlink()
    with pytest.raises(InputError, match=r"train-000000\.npy does not exist: restore it, or run"):
        read_shard_set(copy).open_split("train")


def test_swapped_indexes_are_refused(copy):
    first, second = copy / "train" / "train-000000.npy", copy / "train" / "train-000001.npy"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    with pytest.raises(InputError, match=r"train-000000\.npy is not the file that dataset\.json describes"):
        read_shard_set(copy).open_split("train")


def test_an_index_of_another_set_is_refused(copy, few_set):
    shutil.copy(few_set.path / "train" / "train-000000.npy", copy / "train" / "train-000000.npy")
    with pytest.raises(InputError, match=r"train-000000\.npy is not the file that dataset\.json describes: restore it"):
        read_shard_set(copy).open_split("train")


def test_a_tar_that_is_cut_short_while_in_use_still_gives_the_pictures_before_the_cut(copy):
    split = read_shard_set(copy).open_split("train")
    expected = split.read(20).tobytes()
    path, offset, _ = split.locate(25).split(":")
    os.truncate(path, int(offset) + 100)
    assert split.read(20).tobytes() == expected
    for position in (25, 39):
        place = re.escape(split.locate(position))
        with pytest.raises(
            RunError, match=rf"^{place} is cut short, so the shard changed while in use: restore it, or"
        ):
            split.read(position)
    assert split.read(40).size > 0  # of the next shard


def test_a_tar_that_has_gone_before_its_first_picture_is_read_is_named(copy):
    split = read_shard_set(copy).open_split("train")
    (copy / "train" / "train-000001.tar").unlink()
    place = re.escape(str(copy / "train" / "train-000001.tar"))
    with pytest.raises(RunError, match=rf"^{place} is gone, so the set changed while in use: restore it, or run"):
        split.read(20)
    assert split.read(0).size > 0


def test_more_shards_than_may_be_open_are_read_by_closing_others(copy_of_few, monkeypatch):
    def count_open() -> int:
        return sum(file.path.startswith(f"{copy_of_few.path}/") for file in psutil.Process().open_files())

    whole = copy_of_few.open_split("train")
    expected = [whole.read(position).tobytes() for position in range(len(whole))]
    assert count_open() == len(whole.info.shards) == 4
    del whole
    assert count_open() == 0
    monkeypatch.setattr(reading, "MAX_OPEN_SHARDS", 2)
    split = copy_of_few.open_split("train")
    order = np.random.default_rng(0).integers(len(split), size=300).tolist()
    assert [split.read(position).tobytes() for position in order] == [expected[position] for position in order]
    assert count_open() == 2


def test_a_missing_mean_image_is_refused(copy):
    (copy / "statistics" / "mean_image.npy").unlink()
    with pytest.raises(InputError, match=r"mean_image\.npy does not exist: restore it, or run `alexnet preprocess"):
        read_shard_set(copy).read_mean_image()


def test_another_mean_image_is_refused(copy):
    np.save(copy / "statistics" / "mean_image.npy", np.full((256, 256, 3), 128, np.float32))
    with pytest.raises(InputError, match=r"mean_image\.npy is not the file that dataset\.json describes"):
        read_shard_set(copy).read_mean_image()


def test_a_split_that_the_set_lacks_is_refused_with_those_it_has(shard_set):
    with pytest.raises(InputError, match="has no split 'test', only train, val"):
        shard_set.open_split("test")
