"""Which recipe leaves chance on a small problem: what the winning code did, what the text says, and what lies between.

Six epochs on handwritten digits with one tower at half its width separate them; seeds say how surely.
"""

import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from pipeline.artifacts import RunDirectory, read_shard_set
from pipeline.errors import RunError, check
from pipeline.launch.demo import pack_digits
from pipeline.launch.recipes import RECIPES
from pipeline.options import ContrastConfig, RecipeName
from pipeline.provenance import read_command
from pipeline.report.contrast import RecipeRuns, format_errors, has_ended, write_contrast
from pipeline.report.measured import read_run
from pipeline.report.page import check_own_page, find_page


@dataclass(frozen=True, slots=True)
class Trial:
    """One recipe with one seed: a run."""

    recipe: RecipeName
    seed: int
    path: Path

    @property
    def name(self) -> str:
        """Recipe and seed."""
        return f"{self.recipe}/seed-{self.seed}"

    @property
    def log(self) -> Path:
        """What its training says."""
        return self.path.with_name(f"{self.path.name}.log")


def contrast(config: ContrastConfig) -> Path:
    """Train every recipe with every seed, each as the command that a user would type, and set them side by side.

    A second start goes on with what is unfinished. A run that fails does not stop the others.

    Returns:
        Path of the page.

    Raises:
        InputError: --out holds other runs, or the page is not of this command.
        RunError: a run failed; the page shows how far it came.
    """
    results = config.results or config.out / "contrast"
    check_own_page(find_page(results), "contrast")
    data = config.data or pack_digits(config.out / "digits")
    num_classes = len(read_shard_set(data).info.classes)
    trials = [  # by seed first: all recipes have an answer before any has two
        Trial(recipe, seed, config.out / recipe / f"seed-{seed}")
        for seed, recipe in product(range(config.seeds), config.recipes)
    ]
    waiting = [trial for trial in trials if not is_finished(trial, config, data)]
    print(f"contrast: {len(trials)} runs, {len(waiting)} of them to train, {config.jobs} at a time", flush=True)
    with ThreadPoolExecutor(config.jobs) as pool:
        codes = list(pool.map(lambda trial: train(trial, config, data, num_classes), waiting))
    found = [
        RecipeRuns(
            name=name,
            words=RECIPES[name].words,
            runs={
                trial.seed: read_run(trial.path)
                for trial in trials
                if trial.recipe == name and RunDirectory(trial.path).config.is_file()
            },
        )
        for name in config.recipes
    ]
    page = find_page(results)
    if any(recipe.runs for recipe in found):
        write_contrast(results, found, command=read_command(1), threads=config.threads)
        print(f"contrast: {len(trials)} runs in {page}", flush=True)
    failed = [str(trial.log) for trial, code in zip(waiting, codes, strict=True) if code != 0]
    if failed:
        raise RunError(f"{len(failed)} of {len(trials)} runs failed, see what they said in {', '.join(failed)}")
    return page


def is_finished(trial: Trial, config: ContrastConfig, data: Path) -> bool:
    """Whether a run has the validation error of its last epoch.

    Raises:
        InputError: there is a run of another size, or on other data.
    """
    run = RunDirectory(trial.path)
    if not run.config.is_file():
        return False
    record = run.read_record()
    run.open_data(record, data)
    asked = (config.width, config.epochs)
    found = (record.config.model.width, record.config.schedule.epochs)
    check(
        found == asked,
        f"{trial.path} was begun with --width {found[0]:g} --epochs {found[1]} and asked for are --width {asked[0]:g} "
        f"--epochs {asked[1]}: choose another --out",
    )
    return has_ended(read_run(trial.path))


def train(trial: Trial, config: ContrastConfig, data: Path, num_classes: int) -> int:
    """Start one run, or go on with it; returns its exit code."""
    words = list_words(trial, config, data, num_classes)
    print(f"$ {shlex.join(words)}", flush=True)
    trial.log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(config.threads)}
    with trial.log.open("a") as log:
        code = subprocess.run(
            [sys.executable, "-m", "pipeline", *words[1:]],  # this code, wherever `alexnet` may lead
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    errors = format_errors(read_run(trial.path)) if RunDirectory(trial.path).config.is_file() else "nothing"
    ended = "" if code == 0 else f", then failed with exit code {code} (see {trial.log})"
    print(f"contrast: {trial.name}: validation top-1 error by epoch, %: {errors}{ended}", flush=True)
    return code


def list_words(trial: Trial, config: ContrastConfig, data: Path, num_classes: int) -> list[str]:
    """The command of a run: the recipe, made small."""
    recipe = RECIPES[trial.recipe]
    resume = ("--resume",) if RunDirectory(trial.path).config.is_file() else ()
    return [
        *("alexnet", "train", recipe.experiment, f"--data={data}", f"--out={trial.path}", f"--seed={trial.seed}"),
        *(f"--model.width={config.width:g}", "--model.towers=1", f"--model.num-classes={num_classes}"),
        *(f"--model.convs.{i}.groups=1" for i in (1, 3, 4)),
        *("--global-batch-size=32", "--augment.images-per-crop=1"),  # a batch this small must not share one crop
        *("--precision=bfloat16", f"--schedule.epochs={config.epochs}"),
        *("--log-every=23", f"--num-threads={config.threads}"),
        *recipe.flags,
        *resume,
    ]
