"""slurm/site.env: read as a shell reads it, under the environment."""

import subprocess
from pathlib import Path

import pytest
from submitting import REPOSITORY, fail, go_nowhere

from pipeline.errors import InputError
from pipeline.submit.site import read_site


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site file that says nothing; there is no Slurm."""
    return go_nowhere(tmp_path, monkeypatch)


def test_the_environment_goes_before_the_file(site: Path, monkeypatch):
    site.write_text("SBATCH_PARTITION=gpu\nSBATCH_ACCOUNT=vision\nGPU_TYPE=h100\n")
    monkeypatch.setenv("SBATCH_PARTITION", "debug")
    monkeypatch.setenv("SBATCH_QOS", "high")
    read = read_site(site)
    assert read.list_sbatch_variables() == {
        "SBATCH_ACCOUNT": "vision",
        "SBATCH_PARTITION": "debug",
        "SBATCH_QOS": "high",
    }
    assert read.get("GPU_TYPE") == "h100"
    assert read.get("GPU_REQUEST") == ""
    assert not read.is_default


def test_every_line_of_the_example_is_read_as_a_shell_reads_it(tmp_path: Path):
    lines = (REPOSITORY / "slurm" / "site.env.example").read_text().splitlines()
    wanted = [line[1:] for line in lines if line.startswith("#") and not line.startswith("# ")]
    assert len(wanted) > 10
    path = tmp_path / "site.env"
    path.write_text("\n".join(wanted))
    read = read_site(path)
    printed = subprocess.run(
        [
            "/bin/bash",
            "-c",
            'set -a; . "$0"; for name in "$@"; do printf "%s\\n" "${!name}"; done',
            path,
            *read.variables,
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert list(read.variables.values()) == printed.splitlines()


def test_the_checkout_of_this_code_is_found_and_another_one_may_be_named(site: Path, tmp_path: Path, monkeypatch):
    assert read_site(site).root == REPOSITORY
    (tmp_path / "other" / "slurm").mkdir(parents=True)
    (tmp_path / "other" / "slurm" / "train.sbatch").touch()
    monkeypatch.setenv("ALEXNET_HOME", str(tmp_path / "other"))
    assert read_site(site).root == tmp_path / "other"
    monkeypatch.setenv("ALEXNET_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"has no slurm/train\.sbatch: name the checkout"):
        read_site(site)


def test_a_missing_file_is_one_sentence_with_the_command_that_makes_it(tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "train.sbatch").touch()
    monkeypatch.setenv("ALEXNET_HOME", str(tmp_path))
    said = fail(["submit", "report", "run"], capsys)
    assert f"{tmp_path}/slurm/site.env is not there: cp {tmp_path}/slurm/site.env.example " in said
    monkeypatch.setenv("ALEXNET_SITE", str(tmp_path / "told.env"))
    assert f"{tmp_path}/told.env is not there" in fail(["submit", "report", "run"], capsys)
    assert f"{tmp_path}/named.env is not there" in fail(["submit", "report", "run", "--site", "named.env"], capsys)


@pytest.mark.parametrize("line", ["SBATCH_PARTITION = gpu", "SBATCH_PARTITION", "GPU TYPE=h100", 'MODULES="cuda'])
def test_what_a_shell_would_not_take_is_refused_with_its_line(line: str, site: Path):
    site.write_text(f"# first\n{line}\n")
    with pytest.raises(InputError, match=r"site\.env:2: .* is no line NAME=value"):
        read_site(site)
