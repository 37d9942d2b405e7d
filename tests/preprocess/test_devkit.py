"""Development kits and Kaggle's tables: what is read from them, and what is refused."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from official import SmallImageNet, build_imagenet, pack_tar

from pipeline.errors import InputError
from pipeline.preprocess.devkit import (
    ILSVRC2010,
    ILSVRC2012,
    find_devkit,
    read_devkit,
    read_kaggle_names,
    read_kaggle_solution,
)

TRUTH = "ILSVRC2012_validation_ground_truth"


@pytest.fixture(scope="module")
def net() -> SmallImageNet:
    return build_imagenet(num_classes=5)


def read(root: Path, challenge=ILSVRC2012):
    path = find_devkit(root, challenge)
    assert path is not None
    return read_devkit(path, challenge)


@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize(("year", "challenge"), [(2010, ILSVRC2010), (2012, ILSVRC2012)])
def test_a_kit_gives_classes_in_order_of_its_numbers_and_the_class_of_every_number(tmp_path, year, challenge, unpacked):
    net = build_imagenet(year=year, num_classes=5)
    net.write_kit(tmp_path, unpacked=unpacked)
    kit = read(tmp_path, challenge)
    ids = sorted(net.numbers, key=lambda class_id: net.numbers[class_id])
    assert ids != sorted(ids)
    assert [synset.id for synset in kit.synsets] == ids
    assert [synset.words for synset in kit.synsets] == [f"{class_id} thing, object" for class_id in ids]
    assert [synset.num_train_images for synset in kit.synsets] == [net.count_train(class_id) for class_id in ids]
    assert list(kit.truths) == (["val", "test"] if year == 2010 else ["val"])
    for split, truth in kit.truths.items():
        expected = {int(name[-13:-5]): class_id for name, class_id, _ in net.pictures[split]}
        assert truth.class_ids == expected
        assert truth.prefix == f"ILSVRC{year}_{split}"


def test_a_kit_is_found_by_any_of_its_names_and_not_by_that_of_another_task(tmp_path, net):
    assert find_devkit(tmp_path, ILSVRC2012) is None
    packed = net.write_kit(tmp_path)
    packed.rename(tmp_path / "ILSVRC2012_devkit_t3.tar.gz")
    assert find_devkit(tmp_path, ILSVRC2012) is None
    plain = tmp_path / "ILSVRC2012_devkit_t12.tar"
    plain.write_bytes(gzip.decompress((tmp_path / "ILSVRC2012_devkit_t3.tar.gz").read_bytes()))
    assert len(read(tmp_path).synsets) == 5
    assert find_devkit(tmp_path, ILSVRC2010) is None


def test_a_kit_unpacked_into_a_folder_of_its_own_name_is_found(tmp_path, net):
    net.write_kit(tmp_path / "ILSVRC2012_devkit_t12", unpacked=True)
    (tmp_path / "ILSVRC2012_devkit_t12" / "ILSVRC2012_devkit_t12" / "data" / "._meta.mat").write_bytes(b"junk")
    assert len(read(tmp_path).synsets) == 5


@pytest.mark.parametrize("change", [b"\r\n", b"\n\n  \n", b" \n", b"\n\xef\xbb\xbf"])
def test_line_ends_blanks_and_a_byte_order_mark_do_not_shift_the_ground_truth(tmp_path, net, change):
    lines = [str(number).encode() for number in net.truth("val")]
    start, end = (change[1:], b"\n") if change.endswith(b"\xbf") else (b"", change)
    content = start + (b"\r\n" if b"\r" in change else b"\n").join(lines) + end
    net.write_kit(tmp_path, **{TRUTH: content})
    assert list(read(tmp_path).truths["val"].class_ids) == list(range(1, 11))


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("1\n\n2\n", "line 2: found '', expected a class number from 1 to 5: download the ground truth again"),
        ("1\n6\n", "line 2: found '6', expected a class number from 1 to 5"),
        ("0\n", "line 1: found '0', expected a class number"),
        ("1\n-1\n", "line 2: found '-1', expected a class number"),
        ("1\n2.0\n", "line 2: found '2.0', expected a class number"),
        ("1\n٣\n", "line 2: found '٣', expected a class number"),
        ("1 2\n", "line 1: found '1 2', expected a class number"),
        ("n01440764\n", "line 1: found 'n01440764', expected a class number"),
        ("<html>\n", "line 1: found '<html>', expected a class number"),
    ],
)
def test_a_line_that_is_no_class_number_is_refused_by_its_number(tmp_path, net, lines, sentence):
    net.write_kit(tmp_path, **{TRUTH: lines.encode()})
    with pytest.raises(InputError, match=sentence):
        read(tmp_path)


def build_meta(net: SmallImageNet, change) -> bytes:
    """`meta.mat` after `change` was made to its synsets, a structured array (N, 1)."""
    synsets = scipy.io.loadmat(io.BytesIO(net.build_meta()))["synsets"]
    change(synsets)
    return net.build_meta(synsets=synsets)


def put(field: str, position: int, value):
    def change(synsets):
        synsets[field][position, 0] = value

    return change


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda _: b"", r"meta.mat is no MATLAB file with synsets \(.*\): download the kit again"),
        (lambda _: b"<html>" * 100, "meta.mat is no MATLAB file with synsets"),
        (lambda net: net.build_meta()[:400], "meta.mat is no MATLAB file with synsets"),
        (lambda net: net.build_meta(other=np.zeros(3)), r"no MATLAB file with synsets \('synsets'"),
        (lambda net: net.build_meta(synsets=np.zeros(3)), "its synsets have the fields  but not ILSVRC2012_ID, WNID"),
        (lambda net: net.build_meta(drop=("words",)), "have the fields .* but not words, so it is not"),
        (lambda net: net.build_meta(drop=("num_train_images",)), "but not num_train_images, so it is not"),
        (lambda net: build_meta(net, put("ILSVRC2012_ID", 0, 2)), "its 5 synsets .* the numbers 1 to 5 and as many"),
        (lambda net: build_meta(net, put("ILSVRC2012_ID", 0, 9)), "its 5 synsets .* the numbers 1 to 5 and as many"),
        (lambda net: build_meta(net, put("num_children", 0, 3)), "its 4 synsets .* the numbers 1 to 4 and as many"),
        (lambda net: build_meta(net, put("num_children", 6, 0)), "its 6 synsets .* the numbers 1 to 6 and as many"),
        (lambda net: build_meta(net, put("WNID", 0, "n01440767")), "its 5 synsets .* and as many WordNet ids"),
        (lambda net: build_meta(net, put("WNID", 0, "tench")), "its 5 synsets .* and as many WordNet ids"),
        (lambda net: build_meta(net, put("num_train_images", 0, "many")), "its synsets have no numbers"),
        (lambda net: build_meta(net, put("num_children", 0, [])), "its synsets have no numbers"),
    ],
)
def test_a_meta_mat_that_does_not_fit_is_refused(tmp_path, net, build, sentence):
    net.write_kit(tmp_path, meta=build(net))
    with pytest.raises(InputError, match=sentence):
        read(tmp_path)


def test_the_kit_of_another_year_is_refused(tmp_path):
    build_imagenet(year=2010).write_kit(tmp_path).rename(tmp_path / "ILSVRC2012_devkit_t12.tar.gz")
    with pytest.raises(
        InputError, match=r"have the fields ILSVRC2010_ID.* but not ILSVRC2012_ID, so it is not the devel"
    ):
        read(tmp_path)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda content: content[: len(content) // 2], r"cannot be unpacked \(.*\): download it again"),
        (lambda _: b"", "cannot be unpacked"),
        (lambda _: b"<html>" * 200, "cannot be unpacked"),
        (lambda _: gzip.compress(pack_tar({"readme.txt": b"x"})), "has no data/meta.mat: download the dev"),
    ],
)  # fmt: skip
def test_a_damaged_kit_is_refused(tmp_path, net, damage, sentence):
    path = net.write_kit(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=sentence):
        read(tmp_path)


def test_kaggles_tables_give_the_class_of_every_number_and_words(tmp_path, net):
    net.write_kaggle(tmp_path)
    truth = read_kaggle_solution(tmp_path / "LOC_val_solution.csv")
    assert truth.class_ids == {int(name[-13:-5]): class_id for name, class_id, _ in net.pictures["val"]}
    assert truth.prefix == "ILSVRC2012_val"
    names = read_kaggle_names(tmp_path / "LOC_synset_mapping.txt")
    assert names == {class_id: f"{class_id} thing, object" for class_id in net.numbers}


@pytest.mark.parametrize(
    "line",
    [
        "ILSVRC2012_val_00000002,n01440764 1 2 3 4 n01440767 1 2 3 4",
        "ILSVRC2012_val_00000001,n01440764 1 2 3 4",
        "ILSVRC2012_val_2,n01440764 1 2 3 4",
        "ILSVRC2010_val_00000002,n01440764 1 2 3 4",
        "ILSVRC2012_val_00000002,tench 1 2 3 4",
        "ILSVRC2012_val_00000002,",
        "ILSVRC2012_val_00000002",
        "\0\0",
    ],
)
def test_a_line_of_kaggles_table_that_does_not_fit_is_refused_by_its_number(tmp_path, line):
    path = tmp_path / "LOC_val_solution.csv"
    path.write_text(f"ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 1 2 3 4 \n{line}\n")
    with pytest.raises(
        InputError, match=r"line 3: found .*, expected ILSVRC2012_val_ with a number that no other line"
    ):
        read_kaggle_solution(path)
