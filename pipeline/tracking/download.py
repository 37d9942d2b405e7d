"""Runs back from a tracking server: directories like those that `alexnet train` writes, without checkpoints."""

import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.artifacts import RunDirectory
from pipeline.errors import RunError
from pipeline.tracking.description import ID_TAG
from pipeline.tracking.server import check_address, connect, describe_failure, mask
from pipeline.tracking.sync import FILES, FOLDERS, NAME

PAGE = 1000


def download_runs(uri: str, folder: Path) -> tuple[list[Path], list[str]]:
    """Bring every run that has ended, and that this pipeline trained, into a directory of its own.

    Args:
        uri: of the tracking server.
        folder: where the directories are made.

    Returns:
        The run directories, oldest first, and a sentence for each run that is left out.

    Raises:
        InputError: the address is none, or names an sqlite file that is not there.
        RunError: the server cannot be reached or refuses.
    """
    check_address(uri, is_read=True)
    try:
        client = connect(uri, is_read=True)
        listed = list(list_runs(client))
    except Exception as error:
        raise RunError(f"MLflow at {mask(uri)} cannot be read: {describe_failure(error, uri)}") from error
    paths, sentences = list[Path](), list[str]()
    for found in listed:
        run = RunDirectory(folder / name_directory(found.info.run_name, folder))
        try:
            download_files(client, found.info.run_id, run)
        except Exception as error:  # noqa: BLE001 - stores fail in many ways, and the other runs are none the worse
            sentences.append(f"{run.path.name} is left out: it cannot be downloaded ({describe_failure(error, uri)})")
            continue
        if run.config.is_file() and run.journal.is_file():
            paths.append(run.path)
        else:
            sentences.append(f"{run.path.name} is left out: it has not ended, or was not brought over to its end")
    return paths, sentences


def list_runs(client: Any) -> Iterator[Any]:
    """Yield MLflow's runs that stand for run directories, oldest first."""
    experiments = [experiment.experiment_id for experiment in list_pages(client.search_experiments)]
    if experiments:
        yield from list_pages(
            client.search_runs,
            experiment_ids=experiments,
            filter_string=f"tags.`{ID_TAG}` LIKE '%'",
            order_by=["attributes.start_time ASC"],
        )


def list_pages(search: Any, **words: Any) -> Iterator[Any]:
    """Yield all that a search finds, page by page."""
    token = None
    while True:
        page = search(max_results=PAGE, page_token=token, **words)
        yield from page
        token = page.token
        if not token:
            return


def name_directory(name: str, folder: Path) -> str:
    """A directory for a run of that name, none that leads elsewhere, and none that is taken."""
    plain = "-".join(NAME.findall(name)) or "run"
    numbered = (f"{plain}-{number}" if number > 1 else plain for number in range(1, len(list(folder.iterdir())) + 2))
    return next(candidate for candidate in numbered if not (folder / candidate).exists())


def download_files(client: Any, run_id: str, run: RunDirectory) -> None:
    """Download what `alexnet sync` uploads, and nothing else that lies there."""
    run.path.mkdir()
    found = [file.path for file in client.list_artifacts(run_id) if not file.is_dir]
    wanted = [path for path in found if path in (*FILES, run.journal.name)]
    for parent in FOLDERS:
        listed = [file.path for file in client.list_artifacts(run_id, parent) if not file.is_dir]
        wanted += [
            path
            for path in listed
            if str(PurePosixPath(path).parent) == parent and NAME.fullmatch(PurePosixPath(path).name)
        ]
    with TemporaryDirectory(dir=run.path.parent, prefix=".") as taken:
        for path in wanted:  # with or without the folders above it, as the store likes
            found_at = client.download_artifacts(run_id, path, taken)
            (run.path / path).parent.mkdir(exist_ok=True)
            shutil.move(found_at, run.path / path)
