"""What differs between two configurations, field by field, and between two experiments, layer by layer."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.config import ConvConfig, ExperimentConfig, LinearConfig
from pipeline.experiments.experiment import Experiment

Layer = ConvConfig | LinearConfig
ABSENT = "absent"
"""Stands for a layer that one side lacks."""


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted field name, plain value) for a configuration, as the flags and the tracker name them."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from flatten(getattr(value, field.name), f"{prefix}{field.name}.")
    elif isinstance(value, tuple) and any(dataclasses.is_dataclass(item) for item in value):
        for index, item in enumerate(value):
            yield from flatten(item, f"{prefix}{index}.")
    else:
        yield prefix[:-1], value


def find_differences(config: ExperimentConfig, other: ExperimentConfig) -> dict[str, tuple[Any, Any]]:
    """Fields whose values differ, by dotted name, with both values; None where a side lacks the field."""
    left, right = dict(flatten(config)), dict(flatten(other))
    return {
        name: (left.get(name), right.get(name))
        for name in left | right
        if (name in left, left.get(name)) != (name in right, right.get(name))
    }


@dataclass(frozen=True, slots=True)
class Difference:
    """One knob that two experiments set differently."""

    knob: str
    """Dotted name; layers go by name, not by number, and one that only one side has is a single knob."""
    left: Any
    """The first one's value; of a whole layer, its fields by name, and `ABSENT` where there is no such layer."""
    right: Any
    """The second one's, likewise."""
    left_citation: str
    """Where the first one's value, or its lack of the layer, is from."""
    right_citation: str
    """Where the second one's is from."""


def compare(left: Experiment, right: Experiment) -> list[Difference]:
    """Every knob that two experiments set differently, in the order of the configuration."""
    ours, theirs = dict(_list_knobs(left.config)), dict(_list_knobs(right.config))
    parents = [name.rpartition(".")[0] for name in ours | theirs]
    names = sorted(ours | theirs, key=lambda name: parents.index(name.rpartition(".")[0]))
    return [
        Difference(knob, value, other, left.cite(knob), right.cite(knob))
        for name in names
        for knob, value, other in _pair(name, ours.get(name, ABSENT), theirs.get(name, ABSENT))
        if value != other
    ]


def _list_knobs(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) for all fields but those of layers, which come whole and by name."""
    for field in dataclasses.fields(value):
        name, item = f"{prefix}{field.name}", getattr(value, field.name)
        if dataclasses.is_dataclass(item):
            yield from _list_knobs(item, f"{name}.")
        elif name in ("model.convs", "model.linears"):
            yield from ((f"{name}.{layer.name}", layer) for layer in item)
        else:
            yield name, item


def _pair(name: str, left: Any, right: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted name, left value, right value): each field of a layer that both have, anything else as it is."""
    if isinstance(left, Layer) and isinstance(right, Layer):
        for field in dataclasses.fields(left):
            yield f"{name}.{field.name}", getattr(left, field.name), getattr(right, field.name)
    else:
        yield name, _list_fields(left), _list_fields(right)


def _list_fields(value: Any) -> Any:
    return dataclasses.asdict(value) if isinstance(value, Layer) else value
