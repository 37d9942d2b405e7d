"""What differs between two configurations, field by field."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from pipeline.config import ExperimentConfig


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
