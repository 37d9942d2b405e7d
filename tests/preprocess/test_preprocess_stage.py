"""The whole stage: what is stored, what is written down, what is refused, and that nothing of others is touched."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import paint_picture
from official import build_cifar10, write_cifar10
from PIL import Image
from small_sets import FEW, assert_refused, finish, preprocess, read_files

from pipeline.artifacts import ShardSet, read_shard_set

ODD = ("--images-per-shard=4", "--workers=1", "--val-fraction=0.25")


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
    picture.resize((90, 70)).save(root / "b" / "small.JPEG", "PNG")
    (root / "b" / "empty.JPEG").write_bytes(b"")
    (root / "b" / "text.JPEG").write_text("moved permanently")
    (root / "b" / "cut.JPEG").write_bytes((root / "a" / "0.JPEG").read_bytes()[:3000])
    return root


@pytest.fixture(scope="module")
def odd_set(odd_source, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("odd_set") / "set"
    assert preprocess(odd_source, out, *ODD, "--max-dropped=0.2").returncode == 0
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
        ("b/small", "PNG with the extension .JPEG"),
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
    found = finish(odd_source, tmp_path / "set", *ODD, "--max-dropped=0.2", "--workers=2")
    assert found == read_files(odd_set)


def test_another_seed_stores_the_same_pictures_in_another_order(few_pictures: Path, few_set: ShardSet, tmp_path: Path):
    out = tmp_path / "set"
    finish(few_pictures, out, *FEW, "--seed=1")
    info = read_shard_set(out).info
    for split in ("train", "val"):
        found, before = list_keys(out, split), list_keys(few_set.path, split)
        assert sorted(found) == sorted(before)
        assert found != before
        assert before != sorted(before)
    assert info.color == few_set.info.color
    assert info.digest != few_set.info.digest
    assert info.files["statistics/mean_image.npy"] == few_set.info.files["statistics/mean_image.npy"]


def test_too_many_undecodable_pictures_stop_the_run_and_the_advised_flag_goes_on(odd_source, odd_set, tmp_path):
    out = tmp_path / "set"
    stopped = preprocess(odd_source, out, *ODD, "--max-dropped=0.05")
    assert_refused(stopped, "of 17 pictures cannot be decoded, b/")
    assert_refused(stopped, "allow a larger share than 0.05 with --max-dropped, which goes on from here")
    assert not (out / "dataset.json").exists()
    assert finish(odd_source, out, *ODD, "--max-dropped=0.2") == read_files(odd_set)


def test_a_split_without_one_decodable_picture_stops_the_run(tmp_path):
    for split in ("train", "val"):
        (tmp_path / "source" / split / "a").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "source" / "train" / "a" / "1.png")
    (tmp_path / "source" / "val" / "a" / "1.png").write_bytes(b"broken")
    stopped = preprocess(tmp_path / "source", tmp_path / "out", "--max-dropped=1")
    assert_refused(stopped, "not one val picture of the source could be decoded")
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_summary_is_json_for_scripts(few_pictures: Path, few_set: ShardSet, tmp_path: Path):
    out = tmp_path / "set"
    part = preprocess(few_pictures, out, *FEW, "--part=0/2", "--json")
    assert json.loads(part.stdout) == {"out": str(out), "finished": False}
    whole = preprocess(few_pictures, out, *FEW, "--json")
    summary = json.loads(whole.stdout)
    assert summary["images"] == {"train": 17, "val": 6}
    assert (summary["finished"], summary["dropped"], summary["classes"]) == (True, 1, 3)
    assert summary["digest"] == few_set.info.digest
    assert summary["bytes"] == sum(path.stat().st_size for path in out.rglob("*.tar"))


def test_cifar10_is_stored_at_its_own_size(tmp_path: Path):
    write_cifar10(tmp_path / "source", build_cifar10(20), packed=True)
    flags = ("--allow-partial", "--pixels=32", "--encoding=raw")
    finish(tmp_path / "source", tmp_path / "set", *flags)
    shard_set = read_shard_set(tmp_path / "set")
    assert shard_set.info.layout == "cifar10"
    assert shard_set.open_split("train").read(0).shape == (32, 32, 3)
    assert (tmp_path / "set" / "ledger.jsonl").read_text() == ""


def test_a_folder_that_holds_something_else_is_never_written_to(few_pictures: Path, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    assert_refused(preprocess(few_pictures, tmp_path), "already holds something that is no shard set")
    assert read_files(tmp_path) == {"notes.txt": b"mine"}


def test_a_file_in_place_of_the_output_is_refused_and_kept(few_pictures: Path, tmp_path: Path):
    (tmp_path / "out").write_text("mine")
    assert_refused(preprocess(few_pictures, tmp_path / "out"), "is a file: choose a directory that does not exist yet")
    assert (tmp_path / "out").read_text() == "mine"


def test_an_output_around_the_source_is_refused(few_pictures: Path, tmp_path: Path):
    source = Path(shutil.copytree(few_pictures, tmp_path / "all" / "source"))
    before = read_files(tmp_path)
    assert_refused(preprocess(source, tmp_path / "all"), "already holds something that is no shard set")
    assert read_files(tmp_path) == before


def test_an_output_inside_the_source_is_refused(few_pictures: Path):
    before = read_files(few_pictures)
    assert_refused(preprocess(few_pictures, few_pictures / "train" / "shards"), "lies inside --source")
    assert read_files(few_pictures) == before


@pytest.mark.parametrize("existed", [True, False])
def test_a_source_that_does_not_fit_leaves_the_output_as_it_was(tmp_path: Path, existed: bool):
    (tmp_path / "source").mkdir()
    if existed:
        (tmp_path / "out").mkdir()
    assert_refused(preprocess(tmp_path / "source", tmp_path / "out"), "which are no known layout")
    assert (tmp_path / "out").exists() == existed
    assert read_files(tmp_path / "out") == {}


def test_a_lost_description_is_made_anew_by_the_same_command(few_pictures: Path, few_set: ShardSet, tmp_path: Path):
    out = Path(shutil.copytree(few_set.path, tmp_path / "set"))
    (out / "dataset.json").unlink()
    assert_refused(preprocess(few_pictures, out, *FEW, "--seed=1"), "was begun with --seed 0, found --seed 1")
    assert finish(few_pictures, out, *FEW) == read_files(few_set.path)


def test_a_finished_set_is_not_taken_for_that_of_another_source(few_pictures: Path, few_set: ShardSet, tmp_path: Path):
    other = Path(shutil.copytree(few_pictures, tmp_path / "other"))
    for path in other.rglob("*.JPEG"):
        path.write_bytes(path.read_bytes() + b"more")
    assert_refused(preprocess(other, few_set.path, *FEW), "changed since this shard set was begun")
