"""What a network takes for alike: the training pictures nearest to others in its last hidden layer (§6.1, Fig. 4)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from pipeline import paper
from pipeline.artifacts import (
    Neighbour,
    NeighboursRecord,
    Query,
    RunDirectory,
    ShardSet,
    ShardSplit,
    Split,
    read_json,
    record_damage,
    write_json,
)
from pipeline.augment.loader import EvaluationLoader
from pipeline.augment.order import spread_positions
from pipeline.checkpoint import Checkpoint
from pipeline.distributed import World, broadcast_from_main, gather_to_main
from pipeline.errors import RunError, check
from pipeline.evaluate.earlier import is_final
from pipeline.model.alexnet import AlexNet
from pipeline.model.layers import MaskDropout, widen
from pipeline.model.precision import autocast
from pipeline.options import EvaluateConfig
from pipeline.provenance import Commit

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """One batch's `activations` (N, units) float32 of the last hidden layer, and `positions` (N,) in the split."""

    activations: Tensor
    positions: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Extractor:
    """Passes pictures' centre patches through a network as far as its last hidden layer, shared among the ranks."""

    config: EvaluateConfig
    checkpoint: Checkpoint
    network: AlexNet
    shard_set: ShardSet
    commit: Commit
    world: World

    @property
    def layer(self) -> str:
        """Name of the last hidden layer: fc7, or a convolution where only the last layer is fully connected."""
        model = self.checkpoint.config.model
        names = [layer.name for layer in model.convs] + [layer.name for layer in model.linears]
        return names[-2]

    def load(self, split: Split, positions: npt.NDArray[np.int64] | None = None) -> EvaluationLoader:
        """Pictures of a split, all or those at `positions` (N,), each in one rank's batches."""
        return EvaluationLoader(
            self.shard_set,
            self.checkpoint.config.augment,
            split,
            "center",
            batch_size=self.config.batch_size,
            world=self.world,
            loading=self.config,
            positions=positions,
        )

    def run(self, loader: EvaluationLoader) -> Iterator[Features]:
        """Yield each batch's activations, with the network in evaluation mode; its mode is restored.

        Short batches are filled up, so that a picture's activations do not depend on how many share its batch.
        """
        was_training = self.network.training
        self.network.eval()
        hidden = cut_last_layer(self.network)
        for batch in loader.run():
            images = batch.images.flatten(0, 1)
            filled = F.pad(images, (0, 0) * 3 + (0, self.config.batch_size - len(images)))
            with torch.inference_mode(), autocast(self.checkpoint.config.precision, images.device):
                activations = hidden(filled)[: len(images)]
            yield Features(activations=widen(activations), positions=batch.positions)
        self.network.train(was_training)


def cut_last_layer(network: AlexNet) -> nn.Sequential:
    """The network without its last layer, and without dropout before that, which in evaluation only scales.

    Gives (N, units) for images (N, channels, crop, crop), and shares the network's weights.
    """
    *hidden, _ = network
    while isinstance(hidden[-1], nn.Dropout | MaskDropout):
        hidden.pop()
    return nn.Sequential(*hidden)


@dataclass(frozen=True, kw_only=True, slots=True)
class Nearest:
    """The pictures found nearest to each of Q queries, by rising distance, and by position where distances are equal.

    `positions` (Q, n) int64 in the split, `distances` (Q, n) float64.
    """

    positions: npt.NDArray[np.int64]
    distances: npt.NDArray[np.float64]

    def merge(self, other: "Nearest") -> "Nearest":
        """The `FIGURE_4_NEAREST` nearest among those of both, for the same queries."""
        positions = np.concatenate([self.positions, other.positions], axis=1)
        distances = np.concatenate([self.distances, other.distances], axis=1)
        order = np.lexsort((positions, distances))[:, : paper.FIGURE_4_NEAREST]
        return Nearest(
            positions=np.take_along_axis(positions, order, axis=1),
            distances=np.take_along_axis(distances, order, axis=1),
        )


def measure_distances(queries: Tensor, features: Features) -> Nearest:
    """Euclidean distances of a batch from queries (Q, units), of float64 differences, in no order."""
    # The quick way, by scalar products, would lose what little lies between near neighbours.
    distances = torch.cdist(
        queries.double(), features.activations.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    positions = np.broadcast_to(features.positions, distances.shape)
    return Nearest(positions=positions, distances=distances.cpu().numpy())


def check_queries(config: EvaluateConfig, shard_set: ShardSet) -> None:
    """Refuse to look for neighbours of more pictures than there are, or without training pictures.

    Raises:
        InputError: as above.
    """
    splits = shard_set.info.splits
    if config.neighbours == 0 or config.split not in splits:
        return
    check("train" in splits, f"{shard_set.path} has no split 'train', where --neighbours looks: leave it out")
    found = splits[config.split].num_images
    check(
        config.neighbours <= found,
        f"--neighbours {config.neighbours} is more than the {found:,} pictures of {config.split}: ask for fewer",
    )


def save_neighbours(extractor: Extractor) -> NeighboursRecord:
    """Find the neighbours of `config.neighbours` pictures of `config.split`, and write them to the run.

    What was found earlier is not looked for again, unless damaged pictures were left out or the code had changes.

    Raises:
        RunError: the network's activations are no numbers, or a picture is damaged and not to be left out.
    """
    config, is_main = extractor.config, extractor.world.is_main
    run = RunDirectory(config.run)
    path = run.neighbours / f"{config.split}-step-{extractor.checkpoint.step}.json"
    record = broadcast_from_main(read_json(path, NeighboursRecord) if path.is_file() else None)
    said = "found earlier, in"
    if record is None or not is_final(record, extractor.commit) or len(record.queries) != config.neighbours:
        record, said = find_neighbours(extractor), "in"
        if is_main:
            write_json(path, record)
    if is_main:
        print(f"evaluate: {format_neighbours(record)}, {said} {path}", flush=True)
    return record


def find_neighbours(extractor: Extractor) -> NeighboursRecord:
    """Pass the queries through the network, then all training pictures, of which only the nearest so far are kept.

    Returns:
        The same record on every rank.
    """
    config, checkpoint, world = extractor.config, extractor.checkpoint, extractor.world
    asked = spread_positions(extractor.shard_set.info.splits[config.split].num_images, config.neighbours)
    loader, train = extractor.load(config.split, asked), extractor.load("train")
    queries = gather_queries(extractor, loader)
    nearest = search(extractor, queries, train)
    damaged = [image for part in gather_to_all(loader.damage.describe() + train.damage.describe()) for image in part]
    if world.is_main:
        record_damage(RunDirectory(config.run), [damaged])
    return NeighboursRecord(
        split=config.split,
        step=checkpoint.step,
        epoch=checkpoint.epoch,
        layer=extractor.layer,
        num_units=queries.activations.shape[1],
        num_images=len(train.split) - sum(image.split == "train" for image in damaged),
        num_skipped=len(damaged),
        data_digest=extractor.shard_set.info.digest,
        commit=extractor.commit.id,
        dirty=extractor.commit.dirty,
        queries=tuple(
            describe_query(int(position), loader.split, train.split, positions.tolist(), distances.tolist())
            for position, positions, distances in zip(
                queries.positions, nearest.positions, nearest.distances, strict=True
            )
        ),
    )


def describe_query(
    position: int, split: ShardSplit, train: ShardSplit, positions: list[int], distances: list[float]
) -> Query:
    """A picture of `split`, and those at `positions` in `train` so far from it."""
    nearest = tuple(
        Neighbour(position=found, label=int(train.labels[found]), key=train.key(found), distance=distance)
        for found, distance in zip(positions, distances, strict=True)
    )
    return Query(position=position, label=int(split.labels[position]), key=split.key(position), nearest=nearest)


def gather_queries(extractor: Extractor, loader: EvaluationLoader) -> Features:
    """The activations of a loader's pictures over all ranks, in order of position, on every rank.

    Raises:
        RunError: all of the pictures are damaged, or the activations are no numbers.
    """
    batches = [(batch.positions, batch.activations.cpu()) for batch in extractor.run(loader)]
    parts = [batch for part in gather_to_all(batches) for batch in part]
    if not parts:
        raise RunError(
            "not one of the pictures asked for by --neighbours can be decoded: see `alexnet preprocess verify`"
        )
    positions = np.concatenate([positions for positions, _ in parts])
    activations = torch.cat([activations for _, activations in parts])
    if not activations.isfinite().all():
        raise RunError(f"the activations of {extractor.layer} are no numbers, so no pictures are near each other in it")
    order = np.argsort(positions)
    return Features(positions=positions[order], activations=activations[torch.from_numpy(order)])


def search(extractor: Extractor, queries: Features, loader: EvaluationLoader) -> Nearest:
    """The pictures of a loader nearest to the queries over all ranks, on every rank."""
    activations = queries.activations.to(extractor.world.device)
    bar = tqdm(
        extractor.run(loader),
        total=len(loader),
        desc=f"evaluate {loader.split.name}, {extractor.layer}",
        unit=" batches",
        disable=None if extractor.world.is_main else True,
    )
    nothing = np.empty((len(activations), 0))
    nearest = Nearest(positions=nothing.astype(np.int64), distances=nothing)
    for batch in bar:
        nearest = nearest.merge(measure_distances(activations, batch))
    return reduce(Nearest.merge, gather_to_all(nearest))


def gather_to_all(value: T) -> list[T]:
    """Every rank's picklable value on every rank, in order of rank."""
    return broadcast_from_main(gather_to_main(value))


def format_neighbours(record: NeighboursRecord) -> str:
    """What was found, as a line for people."""
    return (
        f"nearest of {record.num_images:,} training pictures to {len(record.queries):,} of {record.split}, by "
        f"{record.num_units:,} activations of {record.layer}, step {record.step}"
    ) + (f", {record.num_skipped:,} damaged left out" if record.num_skipped else "")
