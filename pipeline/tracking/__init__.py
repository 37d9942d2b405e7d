"""The journal of a run, and what MLflow is told of it; only here is MLflow imported (and by the doctor)."""

from pipeline.tracking.feeder import Feed, feed_mlflow, sync_or_warn
from pipeline.tracking.journal import Journal, JournalEntry
from pipeline.tracking.server import check_form, find_tracking_uri, mask
from pipeline.tracking.sync import is_complete, sync_run
from pipeline.tracking.system import watch_machine

__all__ = [
    "Feed",
    "Journal",
    "JournalEntry",
    "check_form",
    "feed_mlflow",
    "find_tracking_uri",
    "is_complete",
    "mask",
    "sync_or_warn",
    "sync_run",
    "watch_machine",
]
