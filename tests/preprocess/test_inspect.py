"""`alexnet preprocess inspect`: the sheet shows what is stored, and every number is that of the files."""

import dataclasses
import io
import json
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from commands import paint_picture, run_command
from PIL import Image
from test_pictures import find_picture, read_sheet

from pipeline.artifacts import ClassInfo, ShardSet, read_shard_set, write_json
from pipeline.errors import InputError
from pipeline.options import InspectConfig, PreprocessConfig
from pipeline.preprocess.inspect import (
    OddKind,
    Sheet,
    format_summary,
    generalize,
    inspect,
    sample_positions,
    summarize,
)
from pipeline.preprocess.pictures import draw_contact_sheet
from pipeline.preprocess.stage import preprocess

SIDE = 16


@pytest.fixture(scope="module")
def odd_source(tmp_path_factory) -> Path:
    """Classes `$x_1$` of 9 pictures and `動物` of 4 in train, with oddities; 2 of each in val."""
    root = tmp_path_factory.mktemp("source")
    generator = np.random.default_rng(2)
    for split, name, count in (("train", "$x_1$", 9), ("train", "動物", 4), ("val", "$x_1$", 2), ("val", "動物", 2)):
        folder = root / split / name
        folder.mkdir(parents=True)
        for number in range(count):
            paint_picture(generator, 40, 30 + number).save(folder / f"{number}.JPEG")
    folder = root / "train" / "$x_1$"
    for number in (0, 1, 2):
        paint_picture(generator, 9 + number, 40).save(folder / f"{number}.JPEG")
    paint_picture(generator, 30, 30).convert("CMYK").save(folder / "3.JPEG")
    (root / "train" / "動物" / "broken.JPEG").write_bytes(b"no picture")
    (root / "train" / "動物" / "text.JPEG").write_bytes(b"moved permanently")
    return root


def pack(source: Path, out: Path, encoding: str = "jpeg") -> ShardSet:
    preprocess(
        PreprocessConfig(
            source=source, out=out, pixels=SIDE, encoding=encoding, images_per_shard=5, workers=1, max_dropped=0.2
        )
    )
    return read_shard_set(out)


@pytest.fixture(scope="module")
def odd_set(odd_source, tmp_path_factory) -> ShardSet:
    return pack(odd_source, tmp_path_factory.mktemp("sets") / "odd", "png")


def read_facts(shard_set: ShardSet, out: Path, capfd, **options) -> dict:
    """The JSON that `inspect` prints, after which nothing else may have been printed."""
    capfd.readouterr()
    inspect(InspectConfig(shards=shard_set.path, out=out, json=True, **options))
    printed = capfd.readouterr()
    assert printed.err == ""
    return json.loads(printed.out)


def read_stored(shard_set: ShardSet, split: str) -> dict[str, np.ndarray]:
    """The pixels of each key, by tarfile, Pillow and NumPy alone."""
    stored = {}
    for path in sorted((shard_set.path / split).glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                content = io.BytesIO(tar.extractfile(member).read())
                key, _, extension = member.name.rpartition(".")
                if extension != "cls":
                    stored[key] = np.load(content) if extension == "npy" else np.asarray(Image.open(content))
    return stored


@pytest.mark.parametrize("encoding", ["jpeg", "jpeg-420", "raw", "png"])
def test_the_sheet_shows_the_stored_pixels_in_order_of_class_in_any_encoding(odd_source, tmp_path, capfd, encoding):
    shard_set = pack(odd_source, tmp_path / "set", encoding)
    facts = read_facts(shard_set, tmp_path / "new" / "sheet.png", capfd, num_images=100)
    samples, stored = facts["sheet"]["samples"], read_stored(shard_set, "train")
    assert [sample["label"] for sample in samples] == [0] * 9 + [1] * 4
    assert sorted(sample["key"] for sample in samples) == sorted(stored)
    assert {(sample["class_id"], sample["class_name"], sample["label"]) for sample in samples} == {
        ("$x_1$", "$x_1$", 0),
        ("動物", "動物", 1),
    }
    sheet = read_sheet((tmp_path / "new" / "sheet.png").read_bytes())
    factor = 128 // SIDE
    places = [
        find_picture(sheet, stored[sample["key"]].repeat(factor, axis=0).repeat(factor, axis=1)) for sample in samples
    ]
    assert places == sorted(places)


def test_pictures_of_256_pixels_stand_on_the_sheet_as_they_are(shard_set, tmp_path, capfd):
    facts = read_facts(shard_set, tmp_path / "sheet.png", capfd, num_images=8, split="val")
    stored = read_stored(shard_set, "val")
    sheet = read_sheet((tmp_path / "sheet.png").read_bytes())
    assert facts["sheet"]["split"] == "val"
    assert [sample["label"] for sample in facts["sheet"]["samples"]] == [0, 0, 1, 1, 2, 2, 3, 3]
    for sample in facts["sheet"]["samples"]:
        find_picture(sheet, stored[sample["key"]])


def test_each_sample_stands_above_the_id_and_name_of_its_class_and_the_heading_says_what_the_set_is(
    odd_set, tmp_path, capfd
):
    path = tmp_path / "set"
    shutil.copytree(odd_set.path, path)
    classes = (odd_set.info.classes[0], ClassInfo(id="動物", name="animal, beast"))
    info = dataclasses.replace(odd_set.info, classes=classes)
    write_json(path / "dataset.json", dataclasses.replace(info, digest=info.compute_digest()))
    facts = read_facts(read_shard_set(path), tmp_path / "sheet.png", capfd, num_images=5)
    samples, stored = facts["sheet"]["samples"], read_stored(odd_set, "train")
    titles = {"$x_1$": "$x_1$", "動物": "動物\nanimal, beast"}
    expected = draw_contact_sheet(
        [stored[sample["key"]] for sample in samples],
        [titles[sample["class_id"]] for sample in samples],
        f"{path} train: 5 of 13 pictures, 2 classes, 16×16 png (crop), digest {facts['digest'][:12]}",
        side=SIDE,
    )
    assert {sample["class_id"] for sample in samples} == set(titles)
    assert (tmp_path / "sheet.png").read_bytes() == expected


def test_the_facts_are_those_of_the_files(odd_set, tmp_path, capfd):
    facts = read_facts(odd_set, tmp_path / "sheet.png", capfd)
    assert facts["path"] == str(odd_set.path)
    assert (facts["layout"], facts["complete"]) == ("folders", False)
    assert facts["digest"] == odd_set.info.digest
    for split, count, shards in (("train", 13, 3), ("val", 4, 1)):
        tars = list((odd_set.path / split).glob("*.tar"))
        assert facts["splits"][split] == {
            "num_images": count,
            "num_shards": shards,
            "size_bytes": sum(path.stat().st_size for path in tars),
        }
        assert len(tars) == shards
    packing = {name: facts["packing"][name] for name in ("encoding", "quality", "pixels", "resize")}
    assert packing == {"encoding": "png", "quality": 95, "pixels": SIDE, "resize": "crop"}
    assert facts["num_classes"] == 2
    assert facts["largest_class"] == {"id": "$x_1$", "name": "$x_1$", "num_images": 9}
    assert facts["smallest_class"] == {"id": "動物", "name": "動物", "num_images": 4}
    pixels = np.stack(list(read_stored(odd_set, "train").values())).reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(facts["rgb_mean"], pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(facts["rgb_std"], pixels.std(axis=0), rtol=1e-9)


def test_odd_pictures_are_counted_by_what_was_odd_with_the_first_of_each(odd_set, tmp_path, capfd):
    facts = read_facts(odd_set, tmp_path / "sheet.png", capfd)
    assert facts["num_dropped"] == 2
    found = {(odd["action"], odd["kind"]): odd for odd in facts["odd"]}
    counts = {kind: odd["num_entries"] for kind, odd in found.items()}
    assert counts == {
        ("kept", "NxM enlarged"): 3,
        ("dropped", "no known picture format, begins with …"): 2,
        ("kept", "mode CMYK converted to RGB"): 1,
    }
    assert [odd["num_entries"] for odd in facts["odd"]] == [3, 2, 1]
    ledger = [json.loads(line) for line in (odd_set.path / "ledger.jsonl").read_text().splitlines()]
    first = next(entry for entry in ledger if entry["detail"].endswith("enlarged"))
    enlarged = found["kept", "NxM enlarged"]
    assert (enlarged["file"], enlarged["detail"]) == (first["file"], first["detail"])


@pytest.mark.parametrize(
    ("detail", "kind"),
    [
        ("90x70 enlarged", "NxM enlarged"),
        ("first of 12 frames", "first of N frames"),
        ("0 bytes", "0 bytes"),
        ("PNG with the extension .JPEG", "PNG with the extension .JPEG"),
        ("JPEG2000 with the extension .jpg", "JPEG2000 with the extension .jpg"),
        ("mode I;16 converted to RGB", "mode I;16 converted to RGB"),
        ("no known picture format, begins with b'12 first'", "no known picture format, begins with …"),
        ("50,000 pictures without labels, a, b.JPEG first", "N pictures without labels"),
        ("image file is truncated (17 bytes not processed)", "image file is truncated (N bytes not processed)"),
        ("mode F with values from 0 to 2.5 instead of 0 to 1", "mode F with values from 0 to N instead of 0 to N"),
    ],
)
def test_what_is_particular_to_one_picture_is_no_part_of_its_kind(detail, kind):
    assert generalize(detail) == kind


def test_as_many_classes_as_can_be_and_of_each_about_the_same_number():
    labels = np.repeat([0, 1, 3, 4], [10, 3, 1, 7])[np.random.default_rng(0).permutation(21)]
    for num_images, expected in (
        (4, {0: 1, 1: 1, 3: 1, 4: 1}),
        (7, {0: 2, 1: 2, 3: 1, 4: 2}),
        (16, {0: 6, 1: 3, 3: 1, 4: 6}),
        (21, {0: 10, 1: 3, 3: 1, 4: 7}),
        (500, {0: 10, 1: 3, 3: 1, 4: 7}),
    ):
        positions = sample_positions(labels, num_images, seed=0)
        assert len(set(positions)) == len(positions)
        assert Counter(labels[positions].tolist()) == expected
        assert labels[positions].tolist() == sorted(labels[positions].tolist())


def test_of_more_classes_than_pictures_each_gives_one_at_most_and_the_seed_decides_which():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(1000), 5))
    found = [sample_positions(labels, 48, seed=seed) for seed in range(40)]
    assert all(len(set(labels[positions].tolist())) == 48 for positions in found)
    assert found[0] == sample_positions(labels, 48, seed=0) != found[1]
    drawn = np.bincount(labels[np.concatenate(found)], minlength=1000)
    assert drawn[:500].sum() == pytest.approx(960, abs=110)  # five standard deviations


def test_the_seed_alone_decides_what_is_on_the_sheet(odd_set, tmp_path, capfd):
    sheets = []
    for number, seed in enumerate((0, 0, 1)):
        out = tmp_path / f"{number}.png"
        keys = [
            sample["key"] for sample in read_facts(odd_set, out, capfd, num_images=4, seed=seed)["sheet"]["samples"]
        ]
        sheets.append((keys, out.read_bytes()))
    assert sheets[0] == sheets[1]
    assert sheets[0][0] != sheets[2][0]
    assert sheets[0][1] != sheets[2][1]


def test_people_are_told_the_same_facts(odd_set, tmp_path, capfd):
    inspect(InspectConfig(shards=odd_set.path, out=tmp_path / "sheet.png", num_images=6))
    printed = capfd.readouterr()
    assert printed.err == ""
    facts = {}
    for line in printed.out.splitlines():
        facts.setdefault(line[:8].rstrip(), []).append(line[9:])
    mean, std = (
        " ".join(f"{level:.1f}" for level in levels)
        for levels in (odd_set.info.color.mean, np.sqrt(np.diag(odd_set.info.color.covariance)))
    )
    sizes = {split: sum(shard.size_bytes for shard in found.shards) for split, found in odd_set.info.splits.items()}
    odd = facts.pop("odd")
    assert odd[0].startswith("3 kept: NxM enlarged (train/$x_1$/")
    assert odd[2] == "1 kept: mode CMYK converted to RGB (train/$x_1$/3.JPEG)"
    assert facts == {
        "source": ["folders, partial, or of no official data set"],
        "stored": ["16×16 png (crop)"],
        "train": [f"13 pictures in 3 shards, {sizes['train'] / 1e6:.1f} MB"],
        "val": [f"4 pictures in 1 shards, {sizes['val'] / 1e6:.1f} MB"],
        "classes": ["2, with 4 (動物) to 9 ($x_1$) training pictures"],
        "RGB": [f"mean {mean}, standard deviation {std}, of 0-255"],
        "dropped": ["2"],
        "digest": [odd_set.info.digest],
        "sheet": [f"{tmp_path}/sheet.png, 6 train pictures"],
    }


def test_people_are_told_once_how_large_classes_of_one_size_are(shard_set, tmp_path, capfd):
    inspect(InspectConfig(shards=shard_set.path, out=tmp_path / "sheet.png", num_images=1))
    assert "\nclasses  4, each with 12 training pictures\n" in capfd.readouterr().out


def test_of_many_kinds_of_odd_pictures_people_are_told_the_most_frequent_twelve(odd_set):
    kinds = [OddKind(action="dropped", kind=f"{n}", num_entries=99 - n, file="f", detail=f"{n}") for n in range(20)]
    summary = summarize(odd_set, Sheet(path="sheet.png", split="train", samples=()))
    lines = [
        line
        for line in format_summary(dataclasses.replace(summary, odd=tuple(kinds))).splitlines()
        if line[:3] == "odd"
    ]
    assert lines[:12] == [f"odd      {99 - n} dropped: {n} (f first)" for n in range(12)]
    assert lines[12:] == [f"odd      8 other kinds: see {odd_set.path}/ledger.jsonl"]


def test_with_json_standard_output_is_one_object_and_nothing_else_is_said(odd_set, tmp_path):
    out = tmp_path / "sheet.png"
    ended = run_command("preprocess", "inspect", str(odd_set.path), "--out", str(out), "--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["sheet"]["path"] == str(out)
    assert out.is_file()


def test_a_file_in_the_place_of_the_sheet_is_refused_and_kept(odd_set, tmp_path):
    out = tmp_path / "sheet.png"
    out.write_text("mine")
    with pytest.raises(InputError, match=r"--out .*sheet\.png already exists: remove it or choose another file"):
        inspect(InspectConfig(shards=odd_set.path, out=out))
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"split": "test"}, r"has no split 'test', only train, val$"),
        ({"out": Path("sheet.jpg")}, r"--out .*sheet\.jpg must end in \.png"),
        ({"num_images": 1001}, r"--num-images must be at most 1000, found 1001$"),
        ({"shards": Path("nowhere")}, r"nowhere is not a directory"),
    ],
)
def test_what_does_not_fit_is_a_sentence_and_leaves_no_sheet(odd_set, tmp_path, monkeypatch, options, sentence):
    monkeypatch.chdir(tmp_path)
    config = InspectConfig(shards=odd_set.path, out=Path("sheet.png"))
    with pytest.raises(InputError, match=sentence):
        inspect(dataclasses.replace(config, **options))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"\0" * 60, None], ids=["zeros", "another picture"])
def test_a_damaged_sample_is_named_and_leaves_no_sheet(odd_set, tmp_path, damage):
    shutil.copytree(odd_set.path, tmp_path / "set")
    split = read_shard_set(tmp_path / "set").open_split("train")
    tar, offset, key = split.locate(7).rsplit(":", 2)
    buffer = io.BytesIO()
    Image.new("RGB", (3, 5)).save(buffer, "PNG")
    content = bytearray(Path(tar).read_bytes())
    wrong = damage or buffer.getvalue()
    content[int(offset) : int(offset) + len(wrong)] = wrong
    Path(tar).write_bytes(content)
    sentence = rf"{tar}:{offset}:.* is damaged, .*`alexnet preprocess repair {tmp_path}/set` and the --source"
    with pytest.raises(InputError, match=sentence) as caught:
        inspect(InspectConfig(shards=tmp_path / "set", out=tmp_path / "sheet.png"))
    assert f":{key} is damaged" in str(caught.value)
    assert not (tmp_path / "sheet.png").exists()


def test_a_changed_ledger_is_a_sentence_and_leaves_no_sheet(odd_set, tmp_path):
    shutil.copytree(odd_set.path, tmp_path / "set")
    with (tmp_path / "set" / "ledger.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(InputError, match=r"ledger\.jsonl is not the file that dataset\.json describes"):
        inspect(InspectConfig(shards=tmp_path / "set", out=tmp_path / "sheet.png"))
    assert not (tmp_path / "sheet.png").exists()
