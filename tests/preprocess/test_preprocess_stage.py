"""The whole stage: same bytes with any number of workers, odd pictures written down, nothing overwritten."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import paint_picture
from PIL import Image

from pipeline.artifacts import read_shard_set
from pipeline.errors import InputError
from pipeline.options import PreprocessConfig
from pipeline.preprocess.stage import check_output_free, claim_output, preprocess


def read_all_files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def list_keys(path: Path, split: str) -> list[str]:
    found = read_shard_set(path).open_split(split)
    return [found.key(position) for position in range(len(found))]


@pytest.fixture(scope="module")
def odd_source(tmp_path_factory) -> Path:
    """Class folders a, b and c of four good pictures each; in b also three broken files and two odd ones."""
    root = tmp_path_factory.mktemp("odd")
    generator = np.random.default_rng(11)
    for name in "abc":
        (root / name).mkdir()
        for number in range(4):
            paint_picture(generator, 280, 260).save(root / name / f"{number}.JPEG")
    picture = paint_picture(generator, 300, 300)
    picture.convert("CMYK").save(root / "b" / "cmyk.JPEG")
    picture.resize((90, 70)).save(root / "b" / "small.png")
    (root / "b" / "empty.JPEG").write_bytes(b"")
    (root / "b" / "text.JPEG").write_text("moved permanently")
    (root / "b" / "cut.JPEG").write_bytes((root / "a" / "0.JPEG").read_bytes()[:3000])
    return root


def build_config(source: Path, out: Path, **options) -> PreprocessConfig:
    return PreprocessConfig(**({"source": source, "out": out, "images_per_shard": 4, "workers": 1} | options))


@pytest.fixture(scope="module")
def odd_set(odd_source, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("odd_set") / "set"
    preprocess(build_config(odd_source, out, val_fraction=0.25, max_dropped=0.2))
    return out


def test_undecodable_pictures_are_dropped_and_written_down_and_the_rest_is_intact(odd_set):
    info = read_shard_set(odd_set).info
    entries = [json.loads(line) for line in (odd_set / "ledger.jsonl").read_text().splitlines()]
    dropped = {(entry["key"], entry["file"]) for entry in entries if entry["action"] == "dropped"}
    assert dropped == {(f"b/{name}", f"b/{name}.JPEG") for name in ("empty", "text", "cut")}
    assert info.num_dropped == 3
    kept = {(entry["key"], entry["detail"]) for entry in entries if entry["action"] == "kept"}
    assert kept == {
        ("b/cmyk", "mode CMYK converted to RGB"),
        ("b/small", "format PNG"),
        ("b/small", "90x70 enlarged"),
    }
    good = {f"{name}/{number}" for name in "abc" for number in range(4)} | {"b/cmyk", "b/small"}
    train, val = list_keys(odd_set, "train"), list_keys(odd_set, "val")
    assert set(train + val) == good
    assert len(train + val) == len(good) == info.splits["train"].num_images + info.splits["val"].num_images
    for split in ("train", "val"):
        found = read_shard_set(odd_set).open_split(split)
        for position in range(len(found)):
            assert found.labels[position] == "abc".index(found.key(position)[0])
            with Image.open(io.BytesIO(found.read(position).tobytes())) as image:
                assert image.size == (256, 256)


def test_every_file_is_the_same_with_two_workers_even_what_is_said_about_broken_pictures(odd_source, odd_set, tmp_path):
    out = tmp_path / "set"
    preprocess(build_config(odd_source, out, val_fraction=0.25, max_dropped=0.2, workers=2))
    found, expected = read_all_files(out), read_all_files(odd_set)
    assert sorted(found) == sorted(expected)
    for name, content in expected.items():
        assert found[name] == content, name


def test_every_file_is_the_same_from_one_worker_as_from_two(pictures, shard_set, tmp_path):
    out = tmp_path / "set"
    preprocess(PreprocessConfig(source=pictures, out=out, images_per_shard=20, workers=1))
    found, expected = read_all_files(out), read_all_files(shard_set.path)
    assert found == expected
    assert {name for name in found if not name.endswith((".idx", ".npy"))} == {
        "dataset.json",
        "ledger.jsonl",
        "train/train-000000.tar",
        "train/train-000001.tar",
        "train/train-000002.tar",
        "val/val-000000.tar",
    }


def test_another_seed_stores_the_same_pictures_in_another_order(pictures, shard_set, tmp_path):
    out = tmp_path / "set"
    info = preprocess(PreprocessConfig(source=pictures, out=out, images_per_shard=20, workers=2, seed=1))
    for split in ("train", "val"):
        found, before = list_keys(out, split), list_keys(shard_set.path, split)
        assert sorted(found) == sorted(before)
        assert found != before
    assert before != sorted(before)
    assert info.color == shard_set.info.color
    assert info.digest != shard_set.info.digest
    assert (out / "statistics/mean_image.npy").read_bytes() == (
        shard_set.path / "statistics/mean_image.npy"
    ).read_bytes()


def test_too_many_undecodable_pictures_stop_the_run_with_one_sentence_and_the_advised_flag_helps(odd_source, tmp_path):
    out = tmp_path / "set"
    sentence = (
        r"^[123] of 17 pictures cannot be decoded, b/(empty|text|cut)\.JPEG first \(.+\): "
        r"replace them, or allow a larger share than 0\.05 with --max-dropped$"
    )
    with pytest.raises(InputError, match=sentence):
        preprocess(build_config(odd_source, out, val_fraction=0.25, max_dropped=0.05))
    assert not out.exists()
    assert preprocess(build_config(odd_source, out, val_fraction=0.25, max_dropped=0.2)).num_dropped == 3


def test_a_split_without_one_decodable_picture_stops_the_run(tmp_path):
    for split in ("train", "val"):
        (tmp_path / "source" / split / "a").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "source" / "train" / "a" / "1.png")
    (tmp_path / "source" / "val" / "a" / "1.png").write_bytes(b"broken")
    with pytest.raises(InputError, match="source: not one val picture could be decoded"):
        preprocess(build_config(tmp_path / "source", tmp_path / "out", max_dropped=1.0))
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_a_finished_shard_set_is_never_overwritten(pictures, shard_set):
    before = read_all_files(shard_set.path)
    with pytest.raises(InputError, match=r"--out .* already holds a shard set: remove it or choose another"):
        preprocess(build_config(pictures, shard_set.path))
    assert read_all_files(shard_set.path) == before


def test_a_folder_that_holds_something_else_is_never_written_to(pictures, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="already holds an unfinished shard set or something else"):
        preprocess(build_config(pictures, tmp_path))
    assert read_all_files(tmp_path) == {"notes.txt": b"mine"}


def test_a_file_in_place_of_the_output_is_refused_and_kept(pictures, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match=r"--out .*/out is a file: choose a directory that does not exist yet"):
        preprocess(build_config(pictures, tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "mine"


def test_an_empty_folder_may_be_written_to(tmp_path):
    check_output_free(tmp_path)
    check_output_free(tmp_path / "new")


def test_a_source_that_does_not_fit_leaves_no_output(tmp_path):
    (tmp_path / "source").mkdir()
    with pytest.raises(InputError, match="no class folders"):
        preprocess(build_config(tmp_path / "source", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_of_two_that_start_at_once_the_second_leaves_the_first_alone(tmp_path):
    claim = claim_output(tmp_path / "set")
    with pytest.raises(InputError, match="is being written by another process"):
        claim_output(tmp_path / "set")
    assert claim.is_file()
