"""What `verify` says of a shard set that suffered: every kind of damage, by file, with an exit code for scripts."""

import dataclasses
import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from damage import DAMAGES, FILES, describe_anew, flip_bit, swap
from PIL import Image
from small_sets import assert_refused, finish, read_files, run

from pipeline.artifacts import read_shard_set


@pytest.fixture
def copy(few_set, tmp_path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(few_set.path, tmp_path / "copy"))


def verify(out: Path, *flags: str) -> list[dict[str, str]]:
    """The problems that `verify --json` finds, after a look at its exit code."""
    before = read_files(out)
    ended = run("preprocess", "verify", out, "--json", "--workers=2", *flags)
    assert ended.stderr == ""
    found = json.loads(ended.stdout)
    assert ended.returncode == (1 if found["problems"] else 0)
    assert found["digest"] == read_shard_set(out).info.digest
    assert read_files(out) == before
    return found["problems"]


def test_a_whole_set_is_well(few_set):
    assert verify(few_set.path) == verify(few_set.path, "--deep") == []
    said = run("preprocess", "verify", few_set.path).stdout
    assert said == f"verify: 23 pictures, each file as it was written, digest {few_set.info.digest[:12]}: all is well\n"
    said = run("preprocess", "verify", few_set.path, "--deep").stdout
    assert said == f"verify: 23 pictures, each decoded, digest {few_set.info.digest[:12]}: all is well\n"


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_file_that_differs_is_named(copy, file, damage):
    DAMAGES[damage](copy / file)
    (problem,) = verify(copy)
    assert problem["file"] == file
    assert ("is missing" if damage == "gone" else "has SHA-256 ") in problem["found"]
    assert problem["shard"] == (Path(file).stem if file.startswith(("train", "val")) else None)


def test_people_get_a_line_for_each_problem_and_the_command_that_mends_them(copy):
    (copy / "train" / "train-000002.idx").unlink()
    flip_bit(copy / "ledger.jsonl")
    ended = run("preprocess", "verify", copy)
    assert ended.returncode == 1
    ledger, index, advice = ended.stdout.splitlines()
    assert ledger.startswith(f"{copy}/ledger.jsonl has SHA-256 ")
    assert index == f"{copy}/train/train-000002.idx is missing"
    assert advice == f"verify: 2 problems: mend them with `alexnet preprocess repair {copy} --source ...`"


def test_swapped_shards_are_found(copy):
    for suffix in (".tar", ".npy", ".idx"):
        swap(copy / "train" / f"train-000000{suffix}", copy / "train" / f"train-000001{suffix}")
    names = [f"train/train-00000{number}{suffix}" for number in (0, 1) for suffix in (".idx", ".npy", ".tar")]
    assert [problem["file"] for problem in verify(copy)] == names
    assert [problem["file"] for problem in verify(copy, "--deep")] == names


@pytest.mark.parametrize("changes", [{"num_dropped": 7}, {"digest": "0" * 64}])
def test_a_dataset_json_that_does_not_prove_itself_is_refused(copy, changes):
    content = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps(content | changes))
    assert_refused(run("preprocess", "verify", copy), "dataset.json does not match its own digest")


def test_what_is_no_finished_set_is_refused(tmp_path):
    assert_refused(run("preprocess", "verify", tmp_path / "no"), "no is not a directory")
    assert_refused(run("preprocess", "verify", tmp_path), "has no dataset.json, so it is no finished shard set")


def edit_index(out: Path, field: str, row: int, value: object) -> None:
    path = out / "train" / "train-000001.npy"
    index = np.load(path)
    index[field][row] = value
    np.save(path, index)


def edit_tar(out: Path, edit) -> None:
    """Write a shard anew with other members."""
    path = out / "train" / "train-000001.tar"
    with tarfile.open(path) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in edit(members):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def encode_square(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (200, 10, 10)).save(buffer, "JPEG")
    return buffer.getvalue()


def replace_first_picture(members, content: bytes):
    size = len(members[0][1])
    return [(members[0][0], content.ljust(size, b"\0")[:size]), *members[1:]]


DEEP_DAMAGES = {
    "an offset": (lambda out: edit_index(out, "offset", 2, 512), "which the index has at byte 512"),
    "a size": (lambda out: edit_index(out, "size", 0, 9), "which the index has at byte 512"),
    "a label of the index": (lambda out: edit_index(out, "label", 1, 77), "in the index 77"),
    "a key of the index": (lambda out: edit_index(out, "key", 1, b"x/7"), "which the index calls x/7"),
    "a label of the tar": (
        lambda out: edit_tar(out, lambda members: [members[0], (members[1][0], b"9"), *members[2:]]),
        "has the label b'9', in the index",
    ),
    "a picture less": (
        lambda out: edit_tar(out, lambda members: members[:-2]),
        "holds 8 files, expected 2 for each of 5",
    ),
    "a picture that is none": (
        lambda out: edit_tar(out, lambda members: replace_first_picture(members, b"no picture")),
        "cannot be decoded (",
    ),
    "a picture of another size": (
        lambda out: edit_tar(out, lambda members: replace_first_picture(members, encode_square(16))),
        "has shape (16, 16, 3), expected (32, 32, 3)",
    ),
    "no tar at all": (
        lambda out: (out / "train" / "train-000001.tar").write_bytes(b"no tar" * 1000),
        "or its index cannot be read (",
    ),
    "no index at all": (
        lambda out: (out / "train" / "train-000001.npy").write_bytes(b"no index"),
        "or its index cannot be read (",
    ),
}


@pytest.mark.parametrize("damage", DEEP_DAMAGES)
def test_deep_finds_what_fits_its_checksums_but_not_itself(copy, damage):
    change, sentence = DEEP_DAMAGES[damage]
    change(copy)
    describe_anew(copy)
    assert verify(copy) == []
    problems = verify(copy, "--deep")
    assert {problem["file"] for problem in problems} == {"train/train-000001.tar"}
    assert sentence in problems[0]["found"]
    assert problems[0]["shard"] == "train-000001"


def test_deep_finds_statistics_that_are_not_those_of_the_pictures(copy):
    mean = np.load(copy / "statistics" / "mean_image.npy")
    np.save(copy / "statistics" / "mean_image.npy", mean + 1)
    color = read_shard_set(copy).info.color
    wider = tuple(tuple(value * 1.001 for value in row) for row in color.covariance)
    describe_anew(copy, color=dataclasses.replace(color, covariance=wider))
    assert verify(copy) == []
    assert [problem["found"] for problem in verify(copy, "--deep")] == [
        "describes a mean image that is not that of the stored pictures",
        "describes colours that are not those of the stored pictures",
    ]


@pytest.mark.parametrize("encoding", ["jpeg-420", "raw", "png"])
def test_deep_decodes_every_encoding(few_pictures, tmp_path, encoding):
    out = tmp_path / "set"
    finish(few_pictures, out, "--pixels=32", "--images-per-shard=9", "--max-dropped=0.1", f"--encoding={encoding}")
    assert verify(out, "--deep") == []
    shard = out / "train" / "train-000001"
    row = np.load(f"{shard}.npy")[3]
    content = bytearray(shard.with_suffix(".tar").read_bytes())
    content[row["offset"] : row["offset"] + 8] = bytes(8)
    shard.with_suffix(".tar").write_bytes(content)
    describe_anew(out)
    (problem,) = verify(out, "--deep")
    assert f"holds {row['key'].decode()}." in problem["found"]
    assert "cannot be decoded (" in problem["found"]
