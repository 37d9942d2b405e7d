"""Where the scripts are, and what this cluster asks for: `slurm/site.env`, under the environment."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from pipeline.errors import check

ASSIGNMENT = re.compile(r"\s*(export )?[A-Za-z_]\w*=")
"""What is a line of the file for a shell, which reads it, too."""


@dataclass(frozen=True, slots=True)
class Site:
    """A checkout, and the file of its site."""

    root: Path
    path: Path
    variables: Mapping[str, str]

    @property
    def is_default(self) -> bool:
        """Whether the file is the one that the scripts look for by themselves."""
        return self.path == find_site_file(self.root)

    def get(self, name: str) -> str:
        """A variable of the environment, or else of the file; empty where neither has it."""
        return os.environ.get(name, self.variables.get(name, ""))

    def list_sbatch_variables(self) -> dict[str, str]:
        """The variables that sbatch itself reads, by name."""
        names = sorted(name for name in {*os.environ, *self.variables} if name.startswith("SBATCH_"))
        return {name: self.get(name) for name in names}


def find_root() -> Path:
    """The checkout that holds slurm/: ALEXNET_HOME, or the one that this code runs from.

    Raises:
        InputError: it does not.
    """
    root = Path(os.environ.get("ALEXNET_HOME") or Path(__file__).parents[2]).absolute()
    check(
        (root / "slurm" / "train.sbatch").is_file(),
        f"{root} has no slurm/train.sbatch: name the checkout that has it with ALEXNET_HOME=/path/to/it",
    )
    return root


def find_site_file(root: Path) -> Path:
    """Where a checkout has its site file."""
    return root / "slurm" / "site.env"


def read_site(named: Path | None) -> Site:
    """Read the site file.

    Args:
        named: by --site; None for what ALEXNET_SITE names, or else slurm/site.env of the checkout.

    Raises:
        InputError: it is missing, or a line of it is none.
    """
    root = find_root()
    told = named or os.environ.get("ALEXNET_SITE")
    path = Path(told).absolute() if told else find_site_file(root)
    example = root / "slurm" / "site.env.example"
    check(path.is_file(), f"{path} is not there: cp {example} {path}, then say in it what this cluster asks for")
    with path.open() as file:
        for binding in parse_stream(file):
            number, line = binding.original.line, binding.original.string.strip()
            fits = binding.key is None or (binding.value is not None and ASSIGNMENT.match(line))
            check(fits and not binding.error, f"{path}:{number}: {line!r} is no line NAME=value: correct it")
    return Site(root, path, {name: value or "" for name, value in dotenv_values(path).items()})
