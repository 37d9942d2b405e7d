"""`alexnet sync`: runs, one after the other, to a server; and which others lack something of them."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.artifacts import RunDirectory, find_runs
from pipeline.errors import InputError, check
from pipeline.options import SyncConfig
from pipeline.tracking.delivery import Delivery, read_deliveries
from pipeline.tracking.feeder import Feeder, draw_curves, format_sync, warn_of_damage
from pipeline.tracking.journal import Journal
from pipeline.tracking.server import check_address, find_database, find_tracking_uri, mask
from pipeline.tracking.sync import list_sources


def catch_up(config: SyncConfig) -> bool:
    """Bring every run in or below the paths to MLflow, with a sentence for each.

    Returns:
        Whether all of them arrived.

    Raises:
        InputError: a path has no run, or the address is none; nothing was sent.
    """
    runs = find_begun(config.runs)
    for run in runs:
        check_address(config.tracking_uri or find_tracking_uri(run))
    arrived = [bring_over(run, config.tracking_uri or find_tracking_uri(run)) for run in runs]
    return all(arrived)


def find_begun(paths: Sequence[Path]) -> list[RunDirectory]:
    """Runs in or below the paths, without submitted jobs that have not begun.

    Raises:
        InputError: a path has none.
    """
    found = list[RunDirectory]()
    for path in paths:
        begun = [run for run in map(RunDirectory, find_runs(path)) if run.config.is_file()]
        check(
            begun,
            f"{path} has no config.json, and no folder with one is in it: pass directories that `alexnet train` wrote, "
            "or folders with some in them",
        )
        found += begun
    return list(dict.fromkeys(found))


def bring_over(run: RunDirectory, uri: str) -> bool:
    """Bring one run to MLflow, and say so; a failure is one printed sentence. Returns whether it succeeded."""
    try:
        run.read_record()
    except InputError as error:
        print(f"sync: {error}", flush=True)
        return False
    warn_of_damage(run)
    draw_curves(run)
    feeder = Feeder(run, uri)
    feeder.feed()
    if feeder.tracker is not None:
        sent = f"{feeder.tracker.num_points} points sent"
        print(f"sync: MLflow at {mask(uri)} has all of {run.path} ({sent})", flush=True)
        for delivery in read_deliveries(run).values():
            if delivery.server != mask(uri) and is_behind(run, delivery):
                command = format_sync(run, delivery.server)
                print(f"sync: MLflow at {delivery.server} lacks points of {run.path}: `{command}`", flush=True)
    return feeder.is_delivering


def is_behind(run: RunDirectory, delivery: Delivery) -> bool:
    """Whether a server lacks points; of an sqlite file that is not on this machine nothing can be said."""
    database = find_database(delivery.server)
    return (database is None or database.exists()) and any(
        next(Journal(run.path / name).read_from(delivery.positions.get(name, 0)), None) for name in list_sources(run)
    )
