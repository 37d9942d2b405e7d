"""What the tests of `alexnet submit` share: its words, and run directories that look as training leaves them."""

import os
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.artifacts import RunRecord, ShardSet, write_json
from pipeline.cli import main
from pipeline.experiments import EXPERIMENTS, get_status

REPOSITORY = Path(__file__).parents[2]


def fail(words: list[str], capsys: pytest.CaptureFixture[str], *, code: int = 2) -> str:
    """Run `alexnet WORDS`, which must end with an exit code; returns its one sentence."""
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    return said.err


def read_script(script: str) -> dict[str, list[str]]:
    """The sbatch lines of a dry run, by name of the job, as words."""
    found = re.findall(r"^(\w+)=\$\((sbatch .*)\)$", script, re.MULTILINE)
    return {name: shlex.split(line) for name, line in found}


def print_plan(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    """The sbatch lines that `alexnet submit WORDS` would submit."""
    main(["submit", *words, "--dry-run"])
    return read_script(capsys.readouterr().out)


def go_nowhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder, as on a machine without Slurm: no variables of it, no commands at all.

    Returns:
        A site file that says nothing.
    """
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_", "ALEXNET_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.chdir(folder)
    site = folder / "site.env"
    site.write_text("# nothing\n")
    return site


def write_run(
    run: Path,
    shard_set: ShardSet,
    *,
    experiment: str = "paper",
    step: int | None = None,
    digest: str | None = None,
    **changes,
) -> Path:
    """A run directory as training leaves it at a step, with a checkpoint that nobody reads; `digest` is of its data."""
    config = EXPERIMENTS[experiment].config
    config = replace(config, model=replace(config.model, num_classes=len(shard_set.info.classes)), **changes)
    info = shard_set.info
    record = RunRecord(
        id="0" * 32,
        experiment=experiment,
        status=get_status(experiment, config),
        config=config,
        data=str(shard_set.path),
        data_digest=digest or info.digest,
        data_layout=info.layout,
        data_complete=info.complete,
        data_packing=info.packing,
        num_dropped_images=0,
        num_train_images=info.splits["train"].num_images,
        num_val_images=info.splits["val"].num_images,
        starts=(),
    )
    write_json(run / "config.json", record)
    if step is not None:
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / f"step-{step:08d}.pt").touch()
    return run
