"""`alexnet augment preview`: what is drawn is what training sees, and the numbers printed are those drawn."""

import base64
import dataclasses
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from augment_oracle import LOADING, RESIZED_TOLERANCE, TOLERANCE, build_world, cut_patch, decode, measure_error
from augment_sets import copy_set, harm
from commands import paint_picture
from matplotlib.font_manager import FontProperties
from PIL import Image
from ranks import run_ranks

from pipeline.artifacts import ShardSet, read_shard_set, write_json
from pipeline.augment import preview_figure as figure
from pipeline.augment.loader import EvaluationLoader, TrainLoader
from pipeline.cli import main
from pipeline.config import AugmentConfig
from pipeline.experiments import EXPERIMENTS
from pipeline.options import PreprocessConfig
from pipeline.preprocess.stage import preprocess

BATCH = "--global-batch-size=16"
SMALL = ("--augment.crop-pixels=24", "--augment.num-offsets=9")
"""Patches that fit 32x32 pictures."""


def preview(capsys: pytest.CaptureFixture[str], shard_set: ShardSet, out: Path, *words: str) -> dict:
    """The JSON that a preview prints, all in this process; nothing else is said."""
    name, *flags = words
    capsys.readouterr()
    main(["augment", "preview", name, "--data", str(shard_set.path), "--out", str(out), "--json", *flags])
    said = capsys.readouterr()
    assert said.err == ""
    return json.loads(said.out)


def read_picture(out: Path) -> np.ndarray:
    """(height, width, 3) of the written PNG, as signed numbers."""
    return np.asarray(Image.open(out).convert("RGB"), np.int16)


def read_cell(picture: np.ndarray, number: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The square of a stored picture, and that of its patch of `side` pixels on the sheet."""
    row, column = divmod(number, figure.NUM_COLUMNS)
    x = figure.MARGIN + column * (figure.CELL_WIDTH + figure.MARGIN)
    y = figure.HEADING_HEIGHT + figure.TITLE + row * figure.CELL_HEIGHT
    right = x + figure.EDGE + figure.GAP
    return picture[y : y + figure.EDGE, x : x + figure.EDGE], picture[y : y + side, right : right + side]


def find_views(picture: np.ndarray, num_rows: int, side: int) -> list[np.ndarray]:
    """The ten views on the sheet."""
    top = figure.HEADING_HEIGHT + 2 * figure.TITLE + num_rows * figure.CELL_HEIGHT
    lefts = [figure.MARGIN + column * (figure.EDGE + figure.GAP) for column in range(1, 6)]
    tops = [top + row * figure.VIEW_HEIGHT for row in range(2)]
    return [picture[y : y + side, x : x + side] for y in tops for x in lefts]


def cut(shard_set: ShardSet, config: AugmentConfig, sample: dict, patch: dict, **rest) -> np.ndarray:
    """The oracle's patch (C, side, side) of a printed box; `rest` says what is subtracted and divided by."""
    return cut_patch(
        decode(shard_set, sample["split"], sample["position"]),
        shard_set.read_mean_image(),
        config,
        top=patch["top"],
        left=patch["left"],
        shape=(patch["height"], patch["width"]),
        mirror=patch["mirror"],
        shift=np.array(patch["color_shift"]),
        **rest,
    )


def compute_seen(shard_set: ShardSet, config: AugmentConfig, sample: dict, patch: dict) -> np.ndarray:
    """What the sheet should show of a patch, magnified as it is: neither mean nor divisor, (edge, edge, 3), 0-255."""
    seen = cut(shard_set, dataclasses.replace(config, mean="none"), sample, patch, divisor=1.0)
    factor = figure.EDGE // config.input_pixels
    return np.clip(seen.transpose(1, 2, 0), 0, 255).repeat(factor, 0).repeat(factor, 1)


RECIPES = {
    "source": ("source-2012", "--step=1", "--augment.images-per-crop=2"),
    "paper": ("paper", "--step=7", "--seed=3", "--augment.color-coefficient-std=3"),
    "modern": ("modern",),
    "box with mean image": ("modern", "--augment.mean=cropped", "--augment.color-scale=std"),
}
SMALL_RECIPES = {
    "caffe": ("caffe", *SMALL),
    "measured channels": ("none", *SMALL, "--augment.mean=channel", "--augment.pixel-scale=std", "--augment.flip"),
    "nothing subtracted": ("tutorial-half", *SMALL, "--augment.mean=none", "--step=1"),
    "grey and larger": ("none", "--augment.gray", "--augment.crop-pixels=28", "--augment.resize-pixels=224"),
    "grey and smaller": ("caffe", *SMALL, "--augment.gray", "--augment.resize-pixels=16", "--augment.mean=channel"),
}


@pytest.mark.parametrize(
    ("name", "words"),
    [("shard_set", words) for words in RECIPES.values()] + [("few_set", words) for words in SMALL_RECIPES.values()],
    ids=[*RECIPES, *SMALL_RECIPES],
)
def test_sheet_and_json_are_what_training_loads(name, words, request, tmp_path, capsys):
    shard_set = request.getfixturevalue(name)
    found = preview(capsys, shard_set, tmp_path / "p.png", *words, BATCH, "--num-images=3")
    config, step = AugmentConfig(**found["augment"]), found["step"]
    order = {"global_batch_size": found["global_batch_size"], "seed": found["seed"]}
    loader = TrainLoader(shard_set, config, world=build_world(), loading=LOADING, **order)
    batch, picture = next(loader.run(step, step + 1)), read_picture(tmp_path / "p.png")
    assert [sample["position"] for sample in found["batch"]] == batch.positions[:3].tolist()
    assert [sample["label"] for sample in found["batch"]] == batch.labels[:3].tolist()
    assert (found["epoch"], found["step_in_epoch"]) == divmod(step, loader.steps_per_epoch)
    assert found["draws_digest"] == loader.sampler.compute_digest(step)
    for number, sample in enumerate(found["batch"]):
        (patch,) = sample["patches"]
        divisor, mean = np.array(patch["divisor"]), np.array(found["channel_mean"])
        expected = cut(shard_set, config, sample, patch, mean=mean, divisor=divisor)
        assert measure_error(batch.images[number], expected, divisor) < RESIZED_TOLERANCE
        seen = compute_seen(shard_set, config, sample, patch)
        _, shown = read_cell(picture, number, len(seen))
        assert np.abs(shown - seen).max() < (1.0 if name == "box with mean image" else 0.51)


@pytest.mark.parametrize("words", [("paper",), ("source-2012", "--split=train")], ids=["paper", "source"])
def test_the_ten_views_are_what_evaluation_loads(shard_set, tmp_path, capsys, words):
    found = preview(capsys, shard_set, tmp_path / "p.png", *words, BATCH, "--num-images=1")
    config, sample, split = AugmentConfig(**found["augment"]), found["views"], found["views"]["split"]
    assert split == ("train" if "--split=train" in words else "val")
    assert sample["key"] == shard_set.open_split(split).key(sample["position"])
    loader = EvaluationLoader(shard_set, config, split, "ten", batch_size=10, world=build_world(), loading=LOADING)
    batch, picture = next(loader.run()), read_picture(tmp_path / "p.png")
    assert sample["position"] == batch.positions[0]
    corners = [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]
    places = [(patch["top"], patch["left"], patch["mirror"]) for patch in sample["patches"]]
    assert places == [(top, left, mirror) for mirror in (False, True) for top, left in corners]
    views = find_views(picture, 1, config.crop_pixels)
    for patch, loaded, shown in zip(sample["patches"], batch.images[0], views, strict=True):
        divisor = np.array(patch["divisor"])
        assert divisor.tolist() == [1.0] * 3
        assert measure_error(loaded, cut(shard_set, config, sample, patch, divisor=divisor), divisor) < TOLERANCE
        assert np.array_equal(shown, compute_seen(shard_set, config, sample, patch))


@pytest.mark.parametrize("words", [("source-2012",), ("modern",)], ids=["square", "box"])
def test_stored_pictures_stand_beside_with_the_patch_outlined(shard_set, tmp_path, capsys, words):
    found = preview(capsys, shard_set, tmp_path / "p.png", *words, BATCH, "--num-images=6")
    picture = read_picture(tmp_path / "p.png")
    yellow = np.array([int(figure.TRAIN_COLOR[first : first + 2], 16) for first in (1, 3, 5)])
    for number, sample in enumerate(found["batch"]):
        (patch,) = sample["patches"]
        shown, _ = read_cell(picture, number, 224)
        stored = decode(shard_set, "train", sample["position"])
        top, left = patch["top"], patch["left"]
        bottom, right = top + patch["height"], left + patch["width"]
        inner = np.s_[top + 4 : bottom - 4, left + 4 : right - 4]
        assert np.array_equal(shown[inner], stored[inner])
        outside = np.ones((256, 256), bool)
        outside[max(top - 4, 0) : bottom + 4, max(left - 4, 0) : right + 4] = False
        assert np.array_equal(shown[outside], stored[outside])
        rows, columns = np.nonzero(np.abs(shown - yellow).max(axis=2) <= 2)
        box = np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])
        assert np.abs(box - np.clip([top, left, bottom, right], 0, 256)).max() <= 2


def test_a_patch_that_is_larger_than_its_place_is_reduced(few_set, tmp_path, capsys):
    words = ("none", *SMALL, "--augment.resize-pixels=384", "--num-images=2", BATCH)
    found = preview(capsys, few_set, tmp_path / "p.png", *words)
    config, picture = AugmentConfig(**found["augment"]), read_picture(tmp_path / "p.png")
    for number, sample in enumerate(found["batch"]):
        seen = cut(few_set, dataclasses.replace(config, mean="none"), sample, sample["patches"][0], divisor=1.0)
        means = [plane.reshape(64, 6, 64, 6).mean(axis=(1, 3)) for plane in seen]
        shown = read_cell(picture, number, figure.EDGE)[1].reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
        assert np.abs(shown - np.stack(means, axis=2)).max() < 3


def test_the_mean_image_is_on_the_sheet(shard_set, tmp_path, capsys):
    preview(capsys, shard_set, tmp_path / "p.png", "paper", BATCH, "--num-images=1")
    top = figure.HEADING_HEIGHT + 2 * figure.TITLE + figure.CELL_HEIGHT
    left = figure.WIDTH - figure.MARGIN - figure.CELL_WIDTH
    shown = read_picture(tmp_path / "p.png")[top : top + 256, left : left + 256]
    assert np.array_equal(shown, np.rint(shard_set.read_mean_image()))


def test_batch_and_seed_are_those_of_the_experiment(few_set, tmp_path, capsys, monkeypatch):
    known = EXPERIMENTS["source-2012"]
    config = dataclasses.replace(known.config, global_batch_size=12, seed=9)
    monkeypatch.setitem(EXPERIMENTS, "mine", dataclasses.replace(known, config=config))
    found = preview(capsys, few_set, tmp_path / "p.svg", "mine", *SMALL)
    assert (found["global_batch_size"], found["seed"]) == (12, 9)
    assert found["changed"] == {"crop_pixels": 24, "num_offsets": 9}


def test_where_colour_is_off_no_shift_is_drawn_and_nothing_is_divided_by_1_1(few_set, tmp_path, capsys):
    words = ("source", "--global-batch-size=8", *SMALL, "--augment.color-off-epoch=1")
    last = preview(capsys, few_set, tmp_path / "2.svg", *words, "--step=1")
    first = preview(capsys, few_set, tmp_path / "3.svg", *words, "--step=2")
    assert [(found["epoch"], found["step_in_epoch"]) for found in (last, first)] == [(0, 1), (1, 0)]
    (drawn,), (undrawn,) = ([sample["patches"][0] for sample in found["batch"][:1]] for found in (last, first))
    assert min(map(abs, drawn["color_shift"])) > 0
    assert drawn["divisor"] == pytest.approx([1.1] * 3)
    assert (undrawn["color_shift"], undrawn["divisor"]) == ([0.0] * 3, [1.0] * 3)
    assert ">RGB shift" in (tmp_path / "2.svg").read_text()
    assert ">RGB shift" not in (tmp_path / "3.svg").read_text()


def test_a_damaged_picture_that_is_left_out_shifts_no_draws(few_set, tmp_path, capsys):
    whole = preview(capsys, few_set, tmp_path / "whole.svg", "paper", BATCH, *SMALL)
    shutil.copytree(few_set.path, tmp_path / "set")
    copy = read_shard_set(tmp_path / "set")
    path, offset, _ = copy.open_split("train").locate(whole["batch"][2]["position"]).rsplit(":", 2)
    with Path(path).open("r+b") as shard:
        shard.seek(int(offset))
        shard.write(bytes(400))
    words = ["--data", str(copy.path), "--out", str(tmp_path / "p.svg"), "--json", BATCH, *SMALL, "--on-damaged=skip"]
    main(["augment", "preview", "paper", *words])
    said = capsys.readouterr()
    assert re.fullmatch(r"augment: .* cannot be decoded .*: left out\n", said.err)
    batch = json.loads(said.out)["batch"]
    assert batch[:7] == whole["batch"][:2] + whole["batch"][3:]
    assert len(batch) == 8


@pytest.fixture(scope="module")
def odd_set(tmp_path_factory) -> ShardSet:
    """32x32 pictures in classes with names that are hard to write; train only."""
    root = tmp_path_factory.mktemp("odd")
    generator = np.random.default_rng(23)
    for name in ("$x_1$ & <b>", "動物 наука", "two\nlines", "an endless name, " * 9):
        (root / "source" / name).mkdir(parents=True)
        for number in range(2):
            paint_picture(generator, 40, 40).save(root / "source" / name / f"{'long_' * 17}{number}.png")
    config = PreprocessConfig(source=root / "source", out=root / "set", pixels=32, val_fraction=0.5, workers=1)
    preprocess(dataclasses.replace(config, encoding="raw"))
    info = read_shard_set(config.out).info
    info = dataclasses.replace(info, splits={"train": info.splits["train"]}, digest="")
    write_json(config.out / "dataset.json", dataclasses.replace(info, digest=info.compute_digest()))
    return read_shard_set(config.out)


def test_names_of_any_kind_are_written_and_long_ones_are_shortened(odd_set, tmp_path, capsys):
    flags = ("--global-batch-size=4", "--num-images=4", *SMALL)
    for out in ("p.svg", "p.png"):
        found = preview(capsys, odd_set, tmp_path / out, "caffe", *flags)
    text = (tmp_path / "p.svg").read_text()
    for words in (">$x_1$ &amp; &lt;b&gt;<", ">動物 наука<", ">two lines<"):
        assert words in text
    font = FontProperties(size=figure.CAPTION_POINTS, weight="bold")
    name = re.search(r">(an endless name, an .*…)<", text)[1]
    assert figure.CELL_WIDTH - 20 < figure.measure(name, font) <= figure.CELL_WIDTH
    keys = [sample["key"] for sample in (*found["batch"], found["views"])]
    assert re.findall(">…[^<]*long_([01])<", text) == [key[-1] for key in keys]
    # Without a val split the ten views are of a training picture.
    assert (found["views"]["split"], found["views"]["position"]) == ("train", 0)


def test_the_same_preview_has_the_same_bytes(few_set, tmp_path, capsys):
    for out in ("p.png", "p.svg"):
        contents = set()
        for name in ("a", "b"):
            preview(capsys, few_set, tmp_path / name / out, "paper", BATCH, *SMALL)
            contents.add((tmp_path / name / out).read_bytes())
        assert len(contents) == 1


def test_the_svg_keeps_every_pixel_of_a_patch(few_set, tmp_path, capsys):
    config = AugmentConfig(**preview(capsys, few_set, tmp_path / "p.svg", "none", BATCH, *SMALL)["augment"])
    encoded = re.findall(r'data:image/png;base64,([^"]+)"', (tmp_path / "p.svg").read_text())
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")) for png in encoded]
    assert [len(picture) for picture in pictures] == [32, 24] * 8 + [32] + [24] * 10 + [32]
    loader = TrainLoader(few_set, config, global_batch_size=16, seed=0, world=build_world(), loading=LOADING)
    for shown, position in zip(pictures[1:16:2], loader.sampler.select(0), strict=False):
        assert np.array_equal(shown, decode(few_set, "train", position)[4:28, 4:28])


def test_on_a_person_s_command_line_one_line_says_what_was_written(few_set, tmp_path):
    out = tmp_path / "new" / "p.png"
    words = ("paper", "--data", str(few_set.path), "--out", str(out), "--global-batch-size=5", "--num-images=3", *SMALL)
    ended = run_ranks("augment", "preview", *words, "--step=4")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == (
        f"augment preview: {out}: 3 of the 5 pictures of step 4 (epoch 1, step 1 of 3 in it, all counted from 0), and "
        f"the ten views of val picture {few_set.open_split('val').key(0)}\n"
    )
    assert out.read_bytes().startswith(b"\x89PNG")
    again = run_ranks("augment", "preview", *words)
    assert again.returncode == 2
    assert again.stderr == f"alexnet augment preview: --out {out} already exists: remove it or choose another file\n"


REFUSALS = {
    "nothing": ((), "name what to do: preview, as in `alexnet augment preview source-2012 --data SHARDS`"),
    "misspelt": (("preveiw", "source"), "unknown 'preveiw': name what to do: preview, as in"),
    "no name": (("preview",), "name what to show first: an experiment (source-2010, "),
    "option first": (("preview", "--step=1"), "name what to show first: an experiment (source-2010, "),
    "unknown": (
        ("preview", "papr"),
        "tutorial-d2l-28) or an augmentation (source, paper, caffe, modern, none)",
    ),
    "no set named": (("preview", "none"), "Missing from alexnet augment preview none: --data"),
    "no set": (("preview", "none", "--data=nowhere"), "nowhere is not a directory: pass the directory that"),
    "a step after the last": (
        ("preview", "paper", "SET", "--step=90"),
        "--step 90: paper has 90 epochs of 1 steps on this set, counted from 0: choose an earlier one",
    ),
    "a patch larger than the pictures": (
        ("preview", "none", "SET", "--augment.crop-pixels=33"),
        "--augment.crop-pixels 33 is more than the stored 32x32 pictures have: choose a smaller patch",
    ),
    "no split": (("preview", "caffe", "SET", "--split=test"), "has no split 'test', only train, val"),
    "step": (("preview", "none", "SET", "--step=-1"), "--step must not be negative, found -1"),
    "no pictures": (("preview", "none", "SET", "--num-images=0"), "--num-images must lie in [1, 256], found 0"),
    "too many": (
        ("preview", "none", "SET", "--num-images=17"),
        "--num-images 17 is more than the batch of --global-batch-size 16: ask for fewer",
    ),
    "small set": (
        ("preview", "none", "SET", "--global-batch-size=64"),
        "has 17 training pictures, fewer than one batch of --global-batch-size 64: choose a smaller batch",
    ),
    "no batch": (("preview", "none", "SET", "--global-batch-size=0"), "--global-batch-size must be positive, found 0"),
    "seed": (("preview", "none", "SET", "--seed=-1"), "--seed must not be negative, found -1"),
    "suffix": (("preview", "none", "SET", "--out=p.jpg"), "--out p.jpg must end in .png or .svg"),
    "colour of grey": (("preview", "paper", "SET", "--augment.gray"), "--augment.gray leaves no colours to shift"),
    "large patches": (
        ("preview", "caffe", "SET", "--augment.num-offsets=10"),
        "--augment.crop-pixels 24 at 10 offsets leaves the stored 32x32 pictures: choose a smaller patch or fewer",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("words", "sentence"), REFUSALS.values(), ids=REFUSALS)
def test_what_does_not_fit_is_one_sentence_and_leaves_no_picture(
    few_set, tmp_path, monkeypatch, capsys, words, sentence
):
    monkeypatch.chdir(tmp_path)
    flags = ["--data", str(few_set.path), BATCH, *SMALL]
    at = words.index("SET") if "SET" in words else len(words)
    with pytest.raises(SystemExit) as end:
        main(["augment", *words[:at], *(flags if at < len(words) else []), *words[at + 1 :]])
    said = capsys.readouterr()
    assert (end.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith("alexnet augment")
    assert sentence in said.err
    assert list(tmp_path.iterdir()) == []


def test_several_processes_are_refused(few_set, tmp_path):
    out = tmp_path / "p.png"
    ended = run_ranks("augment", "preview", "none", "--data", str(few_set.path), "--out", str(out), processes=2)
    assert ended.returncode == 2
    assert "one process makes a preview, found 2: start without torchrun" in ended.stderr
    assert not out.exists()


def test_help_lists_names_and_shows_the_values_of_one(capsys):
    for words, expected in (
        (["augment", "--help"], "preview  a picture of a training batch"),
        (["augment", "preview", "--help"], "an augmentation (source, paper, caffe, modern, none)"),
        (["augment", "preview", "caffe", "--help"], "--augment.crop-pixels"),
    ):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 0
        assert expected in capsys.readouterr().out


def test_a_step_of_nothing_but_damaged_pictures_is_one_sentence(few_set, tmp_path, capsys):
    damaged = copy_set(few_set, tmp_path / "set")
    harm(damaged, "train", range(17))
    words = ("--data", str(damaged.path), "--out", str(tmp_path / "p.png"), "--global-batch-size=2", "--num-images=1")
    with pytest.raises(SystemExit) as end:
        main(["augment", "preview", "none", *words, *SMALL, "--on-damaged=skip"])
    assert end.value.code == 1
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith("alexnet augment preview: each picture of step 0 is damaged: see `alexnet preprocess verify`")
    )
    assert not (tmp_path / "p.png").exists()
