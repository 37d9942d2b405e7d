"""Shards as others read them: tarfile, the webdataset library, DALI's own reader and its index maker."""

import contextlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import wds2idx
import webdataset
from nvidia.dali import Pipeline, fn
from PIL import Image

from pipeline.artifacts import ShardSet
from pipeline.preprocess.shards import write_shard
from pipeline.preprocess.sources import LabelledImage, build_key

webdataset_leaves_files_open = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


def list_shards(shard_set: ShardSet, split: str = "train") -> list[Path]:
    return [shard_set.path / split / f"{shard.name}.tar" for shard in shard_set.info.splits[split].shards]


def read_as_tars(paths: list[Path]) -> list[tuple[str, bytes, int]]:
    """Key, picture and label of each sample, by Python's own tarfile."""
    samples = []
    for path in paths:
        with tarfile.open(path) as tar:
            members = [(member.name, tar.extractfile(member).read()) for member in tar]
        for (picture_name, picture), (label_name, label) in zip(members[::2], members[1::2], strict=True):
            key = picture_name.removesuffix(".jpg")
            assert label_name == f"{key}.cls"
            samples.append((key, picture, int(label)))
    return samples


def test_shards_hold_each_picture_once_and_our_index_points_at_it(shard_set):
    samples = read_as_tars(list_shards(shard_set))
    split = shard_set.open_split("train")
    assert len(samples) == len(split) == 48
    assert len({key for key, _, _ in samples}) == 48
    for position, (key, picture, label) in enumerate(samples):
        assert split.key(position) == key
        assert split.labels[position] == label == int(key.split("/")[0].removeprefix("n"))
        assert split.read(position).tobytes() == picture


def test_statistics_are_those_of_the_stored_training_pictures(shard_set):
    samples = read_as_tars(list_shards(shard_set))
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(picture))) for _, picture, _ in samples]).astype(np.float64)
    np.testing.assert_allclose(shard_set.read_mean_image(), pixels.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(shard_set.info.color.mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(
        shard_set.info.color.covariance, np.cov(pixels.reshape(-1, 3).T, bias=True), rtol=1e-9, atol=1e-9
    )


@webdataset_leaves_files_open
def test_the_webdataset_library_reads_keys_pixels_and_labels(shard_set):
    paths = list_shards(shard_set)
    dataset = webdataset.WebDataset([str(path) for path in paths], shardshuffle=False, empty_check=False)
    found = list(dataset.decode("rgb8").to_tuple("__key__", "jpg", "cls"))
    expected = read_as_tars(paths)
    assert [(key, label) for key, _, label in found] == [(key, label) for key, _, label in expected]
    for (_, pixels, _), (_, picture, _) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(picture))))


@pytest.mark.parametrize("with_index", [True, False])
def test_dalis_webdataset_reader_reads_the_same_bytes(shard_set, with_index):
    paths = list_shards(shard_set)
    pipeline = Pipeline(batch_size=48, num_threads=1, device_id=None)
    with pipeline:
        options = {"index_paths": [str(path.with_suffix(".idx")) for path in paths]} if with_index else {}
        outputs = fn.readers.webdataset(
            paths=[str(path) for path in paths], ext=["jpg", "cls"], missing_component_behavior="error", **options
        )
        pipeline.set_outputs(*outputs)
    pipeline.build()
    pictures, labels = pipeline.run()
    found = [
        (np.asarray(picture).tobytes(), int(np.asarray(label).tobytes()))
        for picture, label in zip(pictures, labels, strict=True)
    ]
    assert found == [(picture, label) for _, picture, label in read_as_tars(paths)]


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_text_index_is_what_dalis_own_tool_makes(shard_set, split, tmp_path):
    for path in list_shards(shard_set, split):
        made = tmp_path / "made.idx"
        with wds2idx.IndexCreator(str(path), str(made), verbose=False) as creator:
            creator.create_index()
        assert path.with_suffix(".idx").read_text() == made.read_text()


def write_pictures(folder: Path, names: list[tuple[str, str]]) -> list[LabelledImage]:
    images = []
    for label, (class_name, stem) in enumerate(names):
        path = folder / class_name / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20), (40 * label, 100, 200)).save(path)
        images.append(LabelledImage(path=path, label=label, key=build_key(class_name, stem)))
    return images


@webdataset_leaves_files_open
def test_names_with_dots_blanks_other_scripts_and_great_length_survive_in_tar_and_index(tmp_path):
    names = [("great white", "a.b c"), ("Vögel", "écureuil"), ("動物", "粒"), ("c" * 155, "s" * 96), ("x", "1.tar")]
    images = write_pictures(tmp_path / "pictures", names)
    directory = tmp_path / "shards"
    result = write_shard(directory, "odd", "train", images, side=256, count_image=lambda: None)
    keys = [image.key for image in images]
    assert keys[:3] == ["great_white/a_b_c", "Vögel/écureuil", "動物/粒"]
    assert result.shard.num_images == 5
    samples = read_as_tars([directory / "odd.tar"])
    assert [(key, label) for key, _, label in samples] == list(zip(keys, range(5), strict=True))
    assert np.load(directory / "odd.npy")["key"].tolist() == [key.encode() for key in keys]
    dataset = webdataset.WebDataset(str(directory / "odd.tar"), shardshuffle=False, empty_check=False)
    assert [sample["__key__"] for sample in dataset] == keys


def test_a_shard_without_one_decodable_picture_leaves_no_file(tmp_path):
    bad = tmp_path / "class" / "bad.JPEG"
    bad.parent.mkdir()
    bad.write_text("no picture")
    calls = []
    images = [LabelledImage(path=bad, label=0, key="class/bad")]
    result = write_shard(
        tmp_path / "shards", "empty", "train", images, side=256, count_image=lambda: calls.append(None)
    )
    assert result.shard is None
    assert result.sums.num_images == 0
    assert [(entry.action, entry.key) for entry in result.entries] == [("dropped", "class/bad")]
    assert list((tmp_path / "shards").iterdir()) == []
    assert len(calls) == 1


def test_a_write_that_fails_leaves_no_shard_that_looks_whole(tmp_path):
    images = write_pictures(tmp_path / "pictures", [("a", "1"), ("a", "2")])
    images[1].path.unlink()
    with contextlib.suppress(FileNotFoundError):
        write_shard(tmp_path / "shards", "cut", "train", images, side=256, count_image=lambda: None)
    assert not (tmp_path / "shards" / "cut.tar").exists()
