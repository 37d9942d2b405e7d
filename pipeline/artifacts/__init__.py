"""What lies on disk between the stages, and how it is read and written."""

from pipeline.artifacts.files import from_json, read_json, sync_directory, to_json, write_bytes, write_json
from pipeline.artifacts.run_directory import EvaluationRecord, RunDirectory, RunRecord, Start
from pipeline.artifacts.shard_set import (
    FORMAT_VERSION,
    ClassInfo,
    ColorComponents,
    ShardInfo,
    ShardSet,
    ShardSetInfo,
    ShardSplit,
    Split,
    SplitInfo,
    mean_image_path,
    read_shard_set,
)

__all__ = [
    "FORMAT_VERSION",
    "ClassInfo",
    "ColorComponents",
    "EvaluationRecord",
    "RunDirectory",
    "RunRecord",
    "ShardInfo",
    "ShardSet",
    "ShardSetInfo",
    "ShardSplit",
    "Split",
    "SplitInfo",
    "Start",
    "from_json",
    "mean_image_path",
    "read_json",
    "read_shard_set",
    "sync_directory",
    "to_json",
    "write_bytes",
    "write_json",
]
