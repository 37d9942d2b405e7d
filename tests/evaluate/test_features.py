"""`alexnet evaluate --neighbours`: the nearest training pictures in the last hidden layer, against NumPy."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from commands import paint_picture
from ranks import run_ranks
from torch import nn
from untrained import STEP, build_config, pack_pictures, write_run

from pipeline.artifacts import NeighboursRecord, RunDirectory, ShardSet, read_json, read_shard_set
from pipeline.checkpoint import find_checkpoints, read_checkpoint, write_checkpoint
from pipeline.errors import InputError
from pipeline.evaluate.features import Features, Nearest, check_queries, cut_last_layer, measure_distances
from pipeline.model.alexnet import build_alexnet
from pipeline.model.layers import MaskDropout
from pipeline.options import EvaluateConfig
from pipeline.preprocess.inspect import read_image
from pipeline.submit.done import is_evaluated

PIXELS, NUM_TRAIN, NUM_VAL, NUM_TWINS = 24, 40, 7, 9


@pytest.fixture(scope="module")
def twins_set(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """40 training and 7 validation pictures of two classes; 9 and 2 of them are the same one."""
    generator = np.random.default_rng(3)
    twin = paint_picture(generator, PIXELS, PIXELS)
    pictures = {}
    for split, count, num_twins in (("train", NUM_TRAIN, NUM_TWINS), ("val", NUM_VAL, 2)):
        for number in range(count):
            is_twin = number % 4 == 0 and number < 4 * num_twins
            own = twin if is_twin else paint_picture(generator, PIXELS, PIXELS)
            pictures[f"{split}/{'ab'[number % 2]}/{'twin' if is_twin else 'own'}-{number}"] = own
    return pack_pictures(tmp_path_factory.mktemp("twins"), pictures, pixels=PIXELS)


def compute_features(run: RunDirectory, shard_set: ShardSet, name: str) -> np.ndarray:
    """Last hidden layer's activations of a split in float64, (pictures, units), written out for `build_config`."""
    checkpoint = read_checkpoint(find_checkpoints(run.checkpoints)[-1])
    weights = {key: value.double() for key, value in checkpoint.model.items()}
    split, mean = shard_set.open_split(name), shard_set.read_mean_image().astype(np.float64)
    pixels = np.stack([read_image(shard_set, split, position) for position in range(len(split))])
    centred = torch.from_numpy((pixels - mean)[:, 2:-2, 2:-2] / 50).permute(0, 3, 1, 2)
    maps = F.conv2d(centred, weights["conv1.weight"], weights["conv1.bias"], stride=3)
    activations = F.max_pool2d(maps.relu(), 3, 2).flatten(1).numpy()
    for place, linear in enumerate(checkpoint.config.model.linears[:-1]):
        kept = 0.5 if place > 0 else 1.0  # dropout of the layer before, as at test time (§4.2)
        weight, bias = (weights[f"{linear.name}.{kind}"].numpy() for kind in ("weight", "bias"))
        activations = np.maximum(kept * activations @ weight.T + bias, 0)
    return activations


def find_by_brute_force(run: RunDirectory, shard_set: ShardSet, count: int) -> list[tuple[int, list[int], np.ndarray]]:
    """Position of each query, those of its nearest, and their distances, from all distances at once."""
    train, val = (compute_features(run, shard_set, name) for name in ("train", "val"))
    found = []
    for part in range(count):
        query = (2 * part + 1) * len(val) // (2 * count)
        distances = np.sqrt(((train - val[query]) ** 2).sum(1))
        order = sorted(range(len(train)), key=lambda place: (distances[place].round(9), place))[:6]
        found.append((query, order, distances[order]))
    return found


def find(run: RunDirectory, *flags: str, processes: int = 1, count: int = 3) -> NeighboursRecord:
    words = ("evaluate", str(run.path), "--device=cpu", "--num-threads=1", "--views", "center", f"--neighbours={count}")
    ended = run_ranks(*words, *flags, processes=processes)
    assert ended.returncode == 0, ended.stderr
    return read_json(run.neighbours / f"val-step-{STEP}.json", NeighboursRecord)


@pytest.fixture(scope="module")
def searched(twins_set, tmp_path_factory) -> dict[tuple[int, int], RunDirectory]:
    """The same run searched by one process, by one in odd batches, and by two; by ranks and batch size."""
    runs = {}
    for processes, batch_size in ((1, 16), (1, 7), (2, 16)):
        run = write_run(tmp_path_factory.mktemp("searched") / "run", twins_set, build_config(twins_set))
        find(run, f"--batch-size={batch_size}", processes=processes)
        runs[processes, batch_size] = run
    return runs


def read_searched(run: RunDirectory) -> NeighboursRecord:
    return read_json(run.neighbours / f"val-step-{STEP}.json", NeighboursRecord)


@pytest.mark.distributed
def test_the_nearest_are_those_of_all_distances(searched, twins_set):
    run = searched[1, 16]
    record = read_searched(run)
    train, val = twins_set.open_split("train"), twins_set.open_split("val")
    expected = find_by_brute_force(run, twins_set, 3)
    assert (record.split, record.step, record.epoch, record.layer, record.num_units) == ("val", STEP, 2, "fc7", 20)
    assert (record.num_images, record.num_skipped) == (NUM_TRAIN, 0)
    assert record.data_digest == twins_set.info.digest
    for query, (position, nearest, distances) in zip(record.queries, expected, strict=True):
        assert (query.position, query.label, query.key) == (position, val.labels[position], val.key(position))
        assert [found.position for found in query.nearest] == nearest
        np.testing.assert_allclose([found.distance for found in query.nearest], distances, rtol=1e-4, atol=1e-6)
        assert [found.label for found in query.nearest] == train.labels[nearest].tolist()
        assert [found.key for found in query.nearest] == [train.key(position) for position in nearest]
    assert max(distances.min() for _, _, distances in expected) > 0.1
    assert len({found.position for query in record.queries for found in query.nearest}) > 6


@pytest.mark.distributed
def test_ranks_change_no_bit(searched):
    first, other = (run.neighbours / f"val-step-{STEP}.json" for run in (searched[1, 16], searched[2, 16]))
    assert other.read_bytes() == first.read_bytes()


@pytest.mark.distributed
def test_batches_of_another_size_change_no_more_than_the_rounding(searched):
    for query, other in zip(read_searched(searched[1, 16]).queries, read_searched(searched[1, 7]).queries, strict=True):
        # Not their positions: of the same picture seen in batches of two sizes, one may come out a rounding nearer.
        assert query.position == other.position
        distances = ([found.distance for found in part.nearest] for part in (query, other))
        np.testing.assert_allclose(*distances, rtol=1e-5)


@pytest.mark.distributed
@pytest.mark.parametrize("how", [(1, 16), (2, 16)])
def test_of_pictures_that_are_the_same_the_first_are_found(how, searched, twins_set, tmp_path):
    run = RunDirectory(Path(shutil.copytree(searched[how].path, tmp_path / "run")))
    record = find(run, f"--batch-size={how[1]}", processes=how[0], count=NUM_VAL)
    train = twins_set.open_split("train")
    twins = [position for position in range(NUM_TRAIN) if "twin" in train.key(position)]
    assert len(twins) == NUM_TWINS
    queries = [query for query in record.queries if "twin" in query.key]
    assert len(queries) == 2
    for query in queries:
        assert [(found.position, found.distance) for found in query.nearest] == [(twin, 0.0) for twin in twins[:6]]


@pytest.mark.distributed
def test_ranks_without_a_picture_and_fewer_pictures_than_places(tmp_path):
    generator = np.random.default_rng(5)
    names = [f"{split}/{label}/0" for split in ("train", "val") for label in "ab"]
    shard_set = pack_pictures(
        tmp_path, {name: paint_picture(generator, PIXELS, PIXELS) for name in names}, pixels=PIXELS
    )
    run = write_run(tmp_path / "run", shard_set, build_config(shard_set))
    record = find(run, processes=3, count=1)
    (query,), ((position, nearest, distances),) = record.queries, find_by_brute_force(run, shard_set, 1)
    assert query.position == position
    assert [found.position for found in query.nearest] == nearest
    assert len(nearest) == 2
    np.testing.assert_allclose([found.distance for found in query.nearest], distances, rtol=1e-4)


def test_without_hidden_linear_layers_the_last_convolution_is_taken(twins_set, tmp_path):
    run = write_run(tmp_path / "run", twins_set, build_config(twins_set, num_linears=1))
    record = find(run, count=2)
    assert (record.layer, record.num_units) == ("conv1", 6 * 2 * 2)
    for query, (position, nearest, distances) in zip(
        record.queries, find_by_brute_force(run, twins_set, 2), strict=True
    ):
        assert (query.position, [found.position for found in query.nearest]) == (position, nearest)
        np.testing.assert_allclose([found.distance for found in query.nearest], distances, rtol=1e-4, atol=1e-6)


def test_what_is_known_is_kept_until_other_pictures_are_asked_for(searched, tmp_path):
    run = RunDirectory(Path(shutil.copytree(searched[1, 16].path, tmp_path / "run")))
    path = run.neighbours / f"val-step-{STEP}.json"
    before = path.stat().st_mtime_ns
    words = ("evaluate", str(run.path), "--device=cpu", "--views", "center")
    ended = run_ranks(*words, "--neighbours=3")
    assert (ended.returncode, path.stat().st_mtime_ns) == (0, before), ended.stderr
    assert f"to 3 of val, by 20 activations of fc7, step {STEP}, found earlier, in {path}" in ended.stdout
    ended = run_ranks(*words, "--neighbours=2")
    assert ended.returncode == 0, ended.stderr
    assert (
        f"evaluate: nearest of 40 training pictures to 2 of val, by 20 activations of fc7, step {STEP}, in {path}"
        in (ended.stdout)
    )
    assert len(read_searched(run).queries) == 2


def test_damaged_pictures_are_left_out_counted_and_written_down(searched, twins_set, tmp_path):
    moved = read_shard_set(Path(shutil.copytree(twins_set.path, tmp_path / "set")))
    gone = {}
    for name, position in (("train", read_searched(searched[1, 16]).queries[0].nearest[0].position), ("val", 3)):
        path, offset, _ = moved.open_split(name).find_bytes(position)
        with path.open("r+b") as shard:
            shard.seek(offset)
            shard.write(bytes(60))
        gone[name] = position
    run = RunDirectory(Path(shutil.copytree(searched[1, 16].path, tmp_path / "run")))
    shutil.rmtree(run.neighbours)
    record = find(run, f"--data={moved.path}", "--on-damaged=skip", count=NUM_VAL)
    assert (record.num_images, record.num_skipped) == (NUM_TRAIN - 1, 2)
    assert [query.position for query in record.queries] == [place for place in range(NUM_VAL) if place != gone["val"]]
    assert all(found.position != gone["train"] for query in record.queries for found in query.nearest)
    damaged = read_json(run.damaged, tuple[dict, ...])
    assert {(image["split"], image["position"]) for image in damaged} == set(gone.items())


def test_activations_that_are_no_numbers_end_it(searched, tmp_path):
    run = RunDirectory(Path(shutil.copytree(searched[1, 16].path, tmp_path / "run")))
    shutil.rmtree(run.neighbours)
    checkpoint = read_checkpoint(find_checkpoints(run.checkpoints)[-1])
    checkpoint.model["fc6.weight"][0, 0] = torch.nan
    write_checkpoint(run.checkpoints, checkpoint, keep=1)
    ended = run_ranks("evaluate", str(run.path), "--device=cpu", "--views", "center", "--neighbours=2")
    assert (ended.returncode, run.neighbours.exists()) == (1, False)
    assert "alexnet evaluate: the activations of fc7 are no numbers" in ended.stderr


def test_a_chain_s_evaluation_is_done_once_its_neighbours_are_there(searched, tmp_path):
    run = RunDirectory(Path(shutil.copytree(searched[1, 16].path, tmp_path / "run")))
    wanted = EvaluateConfig(run=run.path, views=("center",), neighbours=3)
    assert is_evaluated(run, wanted)
    shutil.rmtree(run.neighbours)
    assert not is_evaluated(run, wanted)
    assert is_evaluated(run, dataclasses.replace(wanted, neighbours=0))


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"neighbours": -1}, "--neighbours must not be negative, found -1"),
        ({"neighbours": 1, "split": "train"}, "pass --split val or test"),
    ],
)
def test_flags_that_make_no_sense_are_refused(flags, sentence):
    with pytest.raises(InputError, match=sentence):
        EvaluateConfig(run=Path("run"), **flags)


def test_more_queries_than_pictures_are_refused_before_anything_is_measured(searched, tmp_path):
    run = RunDirectory(Path(shutil.copytree(searched[1, 16].path, tmp_path / "run")))
    shutil.rmtree(run.predictions)
    ended = run_ranks("evaluate", str(run.path), "--device=cpu", f"--neighbours={NUM_VAL + 1}")
    assert ended.returncode == 2
    assert "--neighbours 8 is more than the 7 pictures of val: ask for fewer" in ended.stderr
    assert not run.predictions.exists()


def test_a_set_without_training_pictures_is_refused(twins_set):
    info = dataclasses.replace(twins_set.info, splits={"val": twins_set.info.splits["val"]})
    with pytest.raises(InputError, match="has no split 'train', where --neighbours looks"):
        check_queries(EvaluateConfig(run=Path("run"), neighbours=1), ShardSet(twins_set.path, info))
    check_queries(EvaluateConfig(run=Path("run")), ShardSet(twins_set.path, info))


def test_distances_of_near_neighbours_keep_their_digits():
    query = torch.full((1, 4096), 1000.0)
    near = query + torch.tensor([[0.001], [0.002]])
    found = measure_distances(query, Features(activations=near, positions=np.array([8, 3])))
    expected = np.sqrt(((near.double() - query.double()).numpy() ** 2).sum(1))
    np.testing.assert_allclose(found.distances, [expected], rtol=1e-12)
    assert found.positions.tolist() == [[8, 3]]


def test_merging_keeps_the_six_nearest_and_of_equal_ones_the_first_by_position():
    generator = np.random.default_rng(0)
    distances = generator.integers(0, 9, (4, 50)).astype(np.float64)
    positions = np.stack([generator.permutation(50) for _ in range(4)])
    nearest = Nearest(positions=positions[:, :0], distances=distances[:, :0])
    for columns in np.split(np.arange(50), [1, 2, 20, 43]):
        nearest = nearest.merge(Nearest(positions=positions[:, columns], distances=distances[:, columns]))
    for row in range(4):
        expected = sorted(zip(distances[row], positions[row], strict=True))[:6]
        assert list(zip(nearest.distances[row], nearest.positions[row], strict=True)) == expected


@pytest.mark.parametrize("dropout", [nn.Dropout(0.5), MaskDropout(0.5)])
def test_dropout_of_the_last_hidden_layer_is_left_out(dropout, twins_set):
    config = build_config(twins_set, inverted_dropout=isinstance(dropout, nn.Dropout))
    network = build_alexnet(config.model, input_pixels=20, seed=0)
    names = [type(layer).__name__ for layer in cut_last_layer(network)]
    assert names[-2:] == ["Linear", "ReLU"]
    assert type(dropout).__name__ in names
