"""Small data sets with the structure of the official ones: archives, kits, Kaggle's tree, CIFAR-10, FashionMNIST."""

import csv
import gzip
import io
import pickle
import struct
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.io
from PIL import Image

from pipeline.preprocess.arrays import CIFAR10
from pipeline.preprocess.sources import Source

ARCHIVES = {
    2010: {split: f"ILSVRC2010_images_{split}.tar" for split in ("train", "val", "test")},
    2012: {split: f"ILSVRC2012_img_{split}.tar" for split in ("train", "val")},
}
KITS = {2010: "devkit-1.0", 2012: "ILSVRC2012_devkit_t12"}
SYNSET_FIELDS = ("WNID", "words", "gloss", "num_children", "children", "wordnet_height", "num_train_images")


def draw_jpeg(number: int, width: int, height: int) -> bytes:
    """A picture that differs from that of every other number."""
    generator = np.random.default_rng(number)
    coarse = Image.fromarray(generator.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    content = io.BytesIO()
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(content, "JPEG", quality=90)
    return content.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes]) -> None:
    """A tar of files, as GNU tar writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pack_tar(members))


def pack_tar(members: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def rewrite_tar(path: Path, change: Callable[[dict[str, bytes]], object]) -> None:
    """Write a tar anew after `change` was made to its members, a dict by name."""
    with tarfile.open(path) as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive}
    change(members)
    write_tar(path, members)


def write_files(root: Path, *names: str) -> Path:
    """Files that hold their own names, where nothing is decoded."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def list_keys(source: Source) -> dict[str, list[tuple[str, int]]]:
    """Key and label of every picture by split."""
    return {split: [(row["key"].decode(), int(row["label"])) for row in rows] for split, rows in source.splits.items()}


@dataclass(frozen=True)
class SmallImageNet:
    """A challenge with few classes and pictures.

    `numbers` are the kit's by WordNet id, in another order than that of the ids; `pictures` are (file name, WordNet id,
    content) by split.
    """

    year: int
    numbers: dict[str, int]
    pictures: dict[str, list[tuple[str, str, bytes]]]

    @property
    def prefix(self) -> str:
        return f"ILSVRC{self.year}"

    def count_train(self, class_id: str) -> int:
        return sum(label == class_id for _, label, _ in self.pictures["train"])

    def truth(self, split: str) -> list[int]:
        """Class number of each picture in order of name: the lines of a ground truth."""
        return [self.numbers[class_id] for _, class_id, _ in sorted(self.pictures[split])]

    def write_archives(self, root: Path, *, val_folder: str = "") -> Path:
        """The archives and the kit; the flat ones hold their pictures below `val_folder`."""
        class_tars = {}
        for class_id in sorted(self.numbers, reverse=True):
            members = {name: data for name, label, data in self.pictures["train"] if label == class_id}
            class_tars[f"{class_id}.tar"] = pack_tar(members)
        for split, name in ARCHIVES[self.year].items():
            flat = {f"{val_folder}{name}": data for name, _, data in self.pictures.get(split, [])}
            write_tar(root / name, class_tars if split == "train" else flat)
        self.write_kit(root)
        return root

    def write_kit(self, root: Path, *, unpacked: bool = False, **changes: bytes) -> Path:
        """The development kit; `changes` are files of `data/` by name without suffix that replace its own."""
        kit = KITS[self.year]
        files = {"meta.mat": self.build_meta(), f"{self.prefix}_validation_ground_truth.txt": self.pack_truth("val")}
        if "test" in self.pictures:
            (root / f"{self.prefix}_test_ground_truth.txt").write_bytes(self.pack_truth("test"))
        files |= {name: changes[name.partition(".")[0]] for name in files if name.partition(".")[0] in changes}
        members = {f"{kit}/readme.txt": b"This is the documentation.\n"}
        members |= {f"{kit}/data/{name}": data for name, data in files.items()}
        if unpacked:
            for name, data in members.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(data)
            return root / kit
        path = root / f"{kit}.tar.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(pack_tar(members), mtime=0))
        return path

    def pack_truth(self, split: str) -> bytes:
        return "".join(f"{number}\n" for number in self.truth(split)).encode()

    def build_meta(self, *, drop: tuple[str, ...] = (), **variables: Any) -> bytes:
        """`meta.mat`: low-level synsets by number, then their ancestors, which have children and no pictures."""
        rows = []
        for class_id, number in sorted(self.numbers.items(), key=lambda item: item[1]):
            words, gloss = f"{class_id} thing, object", "what a picture shows"
            rows.append((number, class_id, words, gloss, 0, [], 0, self.count_train(class_id)))
        low = [row[0] for row in rows]
        rows.append((len(low) + 1, "n00001740", "entity", "that which is", 1, [len(low) + 2], 3, 0))
        rows.append((len(low) + 2, "n00001930", "physical entity", "that which is there", len(low), low, 2, 0))
        fields = (f"{self.prefix}_ID", *SYNSET_FIELDS)
        kept = [field for field in fields if field not in drop]
        synsets = np.empty((len(rows), 1), dtype=[(field, object) for field in kept])
        for position, row in enumerate(rows):
            for field, value in zip(fields, row, strict=True):
                if field in kept:
                    is_text = isinstance(value, str)
                    synsets[field][position, 0] = value if is_text else np.array(value, dtype=np.float64)
        content = io.BytesIO()
        scipy.io.savemat(content, variables or {"synsets": synsets})
        return content.getvalue()

    def write_folders(self, root: Path) -> Path:
        """The same pictures in class folders: SPLIT/CLASS/NAME."""
        for name, data in self.as_members().items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        return root

    def as_members(self) -> dict[str, bytes]:
        return {
            f"{split}/{class_id}/{name}": data
            for split, pictures in self.pictures.items()
            for name, class_id, data in pictures
        }

    def write_kaggle(self, root: Path) -> Path:
        """Kaggle's tree: class folders for training, flat validation and test pictures, tables at the top."""
        images = root / "ILSVRC" / "Data" / "CLS-LOC"
        for split, pictures in self.pictures.items():
            for name, class_id, data in pictures:
                path = images / split / (f"{class_id}/{name}" if split == "train" else name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        (images / "test").mkdir(exist_ok=True)
        (images / "test" / f"{self.prefix}_test_00000001.JPEG").write_bytes(b"unlabelled")
        annotations = root / "ILSVRC" / "Annotations" / "CLS-LOC" / "val"
        annotations.mkdir(parents=True)
        (annotations / f"{self.prefix}_val_00000001.xml").write_text("<annotation/>")
        lines = [f"{class_id} {class_id} thing, object\n" for class_id in sorted(self.numbers)]
        (root / "LOC_synset_mapping.txt").write_text("".join(lines))
        with (root / "LOC_val_solution.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["ImageId", "PredictionString"])
            for name, class_id, _ in reversed(self.pictures["val"]):
                boxes = f"{class_id} 85 1 499 272 {class_id} 1 2 30 40 "
                writer.writerow([name.partition(".")[0], boxes])
        return root


def build_imagenet(
    *,
    year: int = 2012,
    num_classes: int = 4,
    num_train: int = 3,
    num_val: int = 2,
    num_test: int = 3,
    width: int = 40,
    height: int = 32,
    seed: int = 0,
) -> SmallImageNet:
    """A challenge with `num_train` and more training pictures a class, and as many others in each class as is said."""
    generator = np.random.default_rng(seed)
    class_ids = [f"n{1_440_764 + 3 * label:08d}" for label in range(num_classes)]
    numbers = dict(zip(class_ids, (generator.permutation(num_classes) + 1).tolist(), strict=True))
    counter = iter(range(1_000_000))
    pictures: dict[str, list[tuple[str, str, bytes]]] = {"train": []}
    for label, class_id in enumerate(class_ids):
        for number in generator.permutation(num_train + label % 2).tolist():
            name = f"{class_id}_{10 * number + 7}.JPEG"
            pictures["train"].append((name, class_id, draw_jpeg(next(counter), width, height)))
    for split, count in {"val": num_val, "test": num_test if year == 2010 else 0}.items():
        labels = generator.permutation(np.repeat(np.arange(num_classes), count)).tolist()
        if labels:
            pictures[split] = [
                (
                    f"ILSVRC{year}_{split}_{number:08d}.JPEG",
                    class_ids[label],
                    draw_jpeg(next(counter), width, height),
                )
                for number, label in enumerate(labels, 1)
            ]
    return SmallImageNet(year=year, numbers=numbers, pictures=pictures)


class Python2Pickler(pickle._Pickler):  # the C version cannot be made to write what Python 2 wrote
    """Writes pickles as CIFAR-10's are: text as bytes, the module that arrays had then, flags as 0 and 1."""

    def save_text(self, value: str | bytes) -> None:
        encoded = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(encoded)) + encoded)
        self.memoize(value)

    dispatch = pickle._Pickler.dispatch | {str: save_text, bytes: save_text}

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, np.dtype):
            return NotImplemented
        build, (text, align, copy), state = value.__reduce__()
        return build, (text, int(align), int(copy)), state


def pickle_batch(pixels: npt.NDArray[np.uint8], labels: list[int], name: str) -> bytes:
    """A batch: pixels (N, 32, 32, 3) uint8 become rows of 3,072, red before green before blue."""
    content = io.BytesIO()
    rows = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1))
    names = [f"thing_s_{number:06d}.png" for number in range(len(pixels))]
    Python2Pickler(content, protocol=2).dump({"batch_label": name, "labels": labels, "data": rows, "filenames": names})
    return content.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def build_cifar10(num_images: int = 20, seed: int = 0) -> dict[str, tuple[npt.NDArray[np.uint8], list[int]]]:
    """Pixels (N, 32, 32, 3) uint8 and labels of each batch, all classes equally often."""
    generator = np.random.default_rng(seed)
    return {
        name: (
            generator.integers(0, 256, (num_images, 32, 32, 3), dtype=np.uint8),
            generator.permutation(np.arange(num_images) % 10).tolist(),
        )
        for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
    }


def write_cifar10(root: Path, batches: Mapping[str, tuple[npt.NDArray[np.uint8], list[int]]], *, packed: bool) -> Path:
    """`cifar-10-batches-py/`, or the tar.gz of it."""
    members = {name: pickle_batch(*batch, name) for name, batch in batches.items()}
    members["batches.meta"] = pickle.dumps({"label_names": list(CIFAR10.classes)}, protocol=2)
    members["readme.html"] = b"<html></html>"
    members = {f"cifar-10-batches-py/{name}": data for name, data in members.items()}
    root.mkdir(parents=True, exist_ok=True)
    if packed:
        (root / "cifar-10-python.tar.gz").write_bytes(gzip.compress(pack_tar(members), mtime=0))
        return root
    for name, data in members.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(data)
    return root


def build_fashion_mnist(
    num_train: int = 40, num_test: int = 20, seed: int = 0
) -> dict[str, tuple[npt.NDArray[np.uint8], list[int]]]:
    """Pixels (N, 28, 28) uint8 and labels of `train` and `t10k`, all classes equally often."""
    generator = np.random.default_rng(seed)
    return {
        name: (
            generator.integers(0, 256, (count, 28, 28), dtype=np.uint8),
            generator.permutation(np.arange(count) % 10).tolist(),
        )
        for name, count in (("train", num_train), ("t10k", num_test))
    }


def write_fashion_mnist(
    root: Path, parts: Mapping[str, tuple[npt.NDArray[np.uint8], list[int]]], *, packed: bool
) -> Path:
    """`FashionMNIST/raw/`, its files packed by gzip or not."""
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for name, (pixels, labels) in parts.items():
        files = {
            f"{name}-images-idx3-ubyte": struct.pack(">4i", 0x803, *pixels.shape) + pixels.tobytes(),
            f"{name}-labels-idx1-ubyte": struct.pack(">2i", 0x801, len(labels)) + bytes(labels),
        }
        for file, data in files.items():
            path = folder / (f"{file}.gz" if packed else file)
            path.write_bytes(gzip.compress(data, mtime=0) if packed else data)
    return root
