"""A run in MLflow's own pages, in a real browser: what was measured, how it was configured, what it left behind."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import Browser
from mlflow import MlflowClient
from mlflow_server import MlflowServer
from PIL import Image
from selenium.webdriver.support.wait import WebDriverWait
from tracked_runs import read_run_id

from pipeline.artifacts import RunDirectory
from pipeline.experiments import flatten
from pipeline.tracking import Journal, sync_run

pytestmark = pytest.mark.slow

WAIT_SECONDS = 60
ALWAYS_SAID = (
    "/mlflow/users/current - Failed to load resource",  # who is logged in? Without basic authentication, no such route
    "ResizeObserver loop completed with undelivered notifications",  # its charts fit themselves to their cards
)
"""What MLflow 3.17 says in the console whatever run it shows, and why."""


@pytest.fixture(scope="module")
def run(finished_run: Path, running_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A finished run, brought to the server."""
    copy = tmp_path_factory.mktemp("runs") / "a run of mine, ü"
    shutil.copytree(finished_run, copy, ignore=shutil.ignore_patterns("mlflow.*"))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", running_server.uri)
        sync_run(RunDirectory(copy))
    return RunDirectory(copy)


@pytest.fixture
def show(browser: Browser, running_server: MlflowServer, run: RunDirectory) -> Iterator[Callable[..., None]]:
    """Opens a tab of the run's page; nothing unexpected may be said or asked for until the test ends."""
    run_id = read_run_id(run)
    experiment_id = MlflowClient(running_server.uri).get_run(run_id).info.experiment_id
    page = f"{running_server.uri}/#/experiments/{experiment_id}/runs/{run_id}"
    # Charts are drawn once they come into the window: this one has room for all of them.
    yield lambda tab="": browser.open(page + tab, width=1600, height=5000)
    assert [line for line in browser.read_console() if not any(known in line for known in ALWAYS_SAID)] == []
    asked = [url.removeprefix("blob:") for url in browser.read_requests()]
    assert [url for url in asked if not url.startswith(running_server.uri)] == []


def wait_until(browser: Browser, script: str, *words: object):
    """What a JavaScript expression gives as soon as it is something."""
    return WebDriverWait(browser.driver, WAIT_SECONDS, 0.2).until(lambda _: browser.run(script, *words))


def read_row(browser: Browser, name: str) -> str:
    """What stands beside a name in a table of the page."""
    rows = "[...document.querySelectorAll('[role=row]')].map(row => [...row.children].map(cell => cell.innerText))"
    return wait_until(browser, f"({rows}.find(cells => cells[0] === arguments[0]) ?? [])[1]", name)


def test_the_overview_shows_metrics_parameters_and_state(show, browser: Browser, run: RunDirectory):
    show()
    for key in ("train/loss", "val/top1_error"):
        assert float(read_row(browser, key)) == pytest.approx(Journal(run.journal).read_metric(key)[-1][1])
    parameters = {name: str(value) for name, value in flatten(run.read_record().config)}
    for name in ("model.width", "global_batch_size", "schedule.epochs", "seed"):
        assert read_row(browser, name) == parameters[name]
    page = browser.run("document.body.innerText")
    assert re.search(r"Status\s+Finished", page)
    assert run.path.name in page
    assert run.read_record().data_digest[:36] in page
    assert f"Parameters ({len(parameters)})" in page


def test_metrics_are_curves_with_the_journals_points(show, browser: Browser, run: RunDirectory):
    show("/model-metrics")
    traces = "[...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => plot.data)"
    drawn = f"{traces}.find(trace => trace.metricKey === arguments[0] && trace.x?.length)"
    for key in ("train/loss", "train/top1_error", "val/top1_error", "val/top5_error", "optim/lr"):
        x, y = wait_until(browser, f"(trace => trace && [[...trace.x], [...trace.y]])({drawn})", key)
        points = Journal(run.journal).read_metric(key)
        assert x == [entry.step for entry, _ in points], key
        assert y == pytest.approx([value for _, value in points]), key
    assert browser.run("document.querySelectorAll('.js-plotly-plot path.js-line').length") > 0


def test_the_configuration_opens_in_the_page(show, browser: Browser, run: RunDirectory):
    show("/artifacts/config.json")
    assert wait_until(browser, "document.body.innerText.includes(arguments[0])", f'"id": "{run.read_record().id}"')


@pytest.mark.parametrize("name", ["figures/conv1.png", "figures/curves.svg"])
def test_a_figure_opens_in_the_page(show, browser: Browser, run: RunDirectory, name: str):
    show(f"/artifacts/{name}")
    image = "[...document.querySelectorAll('img')].find(image => image.src.startsWith('blob:') && image.complete)"
    width = wait_until(browser, f"{image}?.naturalWidth")
    if name.endswith(".png"):
        with Image.open(run.path / name) as picture:
            assert width == picture.width
