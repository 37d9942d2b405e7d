"""Shards as others read them: tarfile, the webdataset library, DALI's own reader and its index maker."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import wds2idx
import webdataset
from nvidia.dali import Pipeline, fn
from PIL import Image
from small_sets import FEW, preprocess

from pipeline.artifacts import ShardSet, read_shard_set
from pipeline.errors import InputError
from pipeline.preprocess.content import ContentReader
from pipeline.preprocess.encodings import decode_pixels
from pipeline.preprocess.images import Recipe
from pipeline.preprocess.records import ShardRecord
from pipeline.preprocess.shards import write_shard
from pipeline.preprocess.sources import Source, read_source
from pipeline.preprocess.statistics import PixelSums

RECIPE = Recipe(side=32, resize="crop", encoding="jpeg", quality=95)

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


@webdataset_leaves_files_open
@pytest.mark.parametrize(("encoding", "extension"), [("raw", "npy"), ("png", "png"), ("jpeg-420", "jpg")])
def test_shards_of_every_encoding_are_read_by_webdataset_and_dali(few_pictures, tmp_path, encoding, extension):
    out = tmp_path / "set"
    assert preprocess(few_pictures, out, *FEW, f"--encoding={encoding}").returncode == 0
    shard_set = read_shard_set(out)
    paths = [str(path) for path in list_shards(shard_set)]
    dataset = webdataset.WebDataset(paths, shardshuffle=False, empty_check=False).decode("rgb8")
    found = list(dataset.to_tuple("__key__", extension, "cls"))
    split = shard_set.open_split("train")
    assert [(key, label) for key, _, label in found] == [
        (split.key(position), split.labels[position]) for position in range(len(split))
    ]
    pipeline = Pipeline(batch_size=len(split), num_threads=1, device_id=None)
    with pipeline:
        indexes = [path.replace(".tar", ".idx") for path in paths]
        pipeline.set_outputs(*fn.readers.webdataset(paths=paths, ext=[extension, "cls"], index_paths=indexes))
    pipeline.build()
    encoded, _ = pipeline.run()
    for (_, pixels, _), content in zip(found, encoded, strict=True):
        np.testing.assert_array_equal(pixels, decode_pixels(np.asarray(content).tobytes(), encoding))
        assert pixels.shape == (32, 32, 3)


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


def write_pictures(root: Path, names: list[tuple[str, str]]) -> Source:
    """One picture a class, and one of each to validate."""
    for split in ("train", "val"):
        for label, (class_name, stem) in enumerate(names):
            path = root / split / class_name / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (30, 20), (40 * label, 100, 200)).save(path)
    return read_source(root, layout=None, val_fraction=None, seed=0, allow_partial=False)


def write(
    root: Path, source: Source, directory: Path, *, sums: PixelSums | None = None
) -> tuple[ShardRecord, list[None]]:
    calls: list[None] = []
    with ContentReader(root, source.containers) as reader:
        record = write_shard(
            directory,
            "odd",
            "train",
            source.splits["train"],
            reader,
            RECIPE,
            sums=sums,
            count_image=lambda: calls.append(None),
        )
    return record, calls


@webdataset_leaves_files_open
def test_names_with_dots_blanks_other_scripts_and_great_length_survive_in_tar_and_index(tmp_path):
    names = [("Vögel", "écureuil"), ("c" * 155, "s" * 96), ("great white", "a.b c"), ("x", "1.tar"), ("動物", "粒")]
    source = write_pictures(tmp_path / "pictures", names)
    directory = tmp_path / "shards"
    record, _ = write(tmp_path / "pictures", source, directory)
    keys = ["Vögel/écureuil", f"{'c' * 155}/{'s' * 96}", "great_white/a_b_c", "x/1_tar", "動物/粒"]
    assert record.shard.num_images == 5
    samples = read_as_tars([directory / "odd.tar"])
    assert [key for key, _, _ in samples] == keys == sorted(keys)
    assert [label for _, _, label in samples] == list(range(5))
    assert [item.id for item in source.classes] == ["Vögel", "c" * 155, "great white", "x", "動物"]
    assert np.load(directory / "odd.npy")["key"].tolist() == [key.encode() for key in keys]
    dataset = webdataset.WebDataset(str(directory / "odd.tar"), shardshuffle=False, empty_check=False)
    assert [sample["__key__"] for sample in dataset] == keys


def test_a_shard_without_one_decodable_picture_leaves_no_file(tmp_path):
    source = write_pictures(tmp_path / "pictures", [("class", "bad")])
    (bad,) = (tmp_path / "pictures" / "train").rglob("*.png")
    bad.write_text("no picture")
    source = read_source(tmp_path / "pictures", layout=None, val_fraction=None, seed=0, allow_partial=False)
    sums = PixelSums.empty(RECIPE.side)
    record, calls = write(tmp_path / "pictures", source, tmp_path / "shards", sums=sums)
    assert record.shard is None
    assert sums.num_images == 0
    assert [(entry.action, entry.key, entry.file) for entry in record.dropped] == [
        ("dropped", "class/bad", "train/class/bad.png")
    ]
    assert list((tmp_path / "shards").iterdir()) == []
    assert len(calls) == 1


def test_a_write_that_fails_leaves_no_shard_that_looks_whole(tmp_path):
    source = write_pictures(tmp_path / "pictures", [("a", "1"), ("b", "2")])
    (tmp_path / "pictures" / "train" / "b" / "2.png").unlink()
    with pytest.raises(InputError, match=r"train/b/2\.png does not exist any more"):
        write(tmp_path / "pictures", source, tmp_path / "shards")
    assert list((tmp_path / "shards").iterdir()) == []
