"""What is asked of Slurm for all jobs of a chain: the flags, over the site, over the headers of the scripts."""

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import check
from pipeline.options.submit import SubmitConfig, SubmitRanksConfig
from pipeline.submit.jobs import RANKED, Stage
from pipeline.submit.site import Site


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is asked of Slurm for all jobs of a chain; `main` is the stage that --time and --nodes are meant for."""

    config: SubmitConfig
    site: Site
    main: Stage

    def find_script(self, stage: Stage) -> Path:
        """The script of a stage."""
        return self.site.root / "slurm" / f"{stage}.sbatch"

    def read_header(self, stage: Stage) -> dict[str, str]:
        """What a stage's script asks for itself, by option."""
        text = self.find_script(stage).read_text()
        return dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)", text, re.MULTILINE))

    def count_nodes(self, stage: Stage) -> int:
        """Nodes of a stage's job."""
        asked = self.config.nodes if isinstance(self.config, SubmitRanksConfig) and stage == self.main else None
        return asked or int(self.read_header(stage).get("nodes", "1"))

    def count_gpus(self, stage: Stage) -> int:
        """GPUs of each node of a stage's job."""
        if isinstance(self.config, SubmitRanksConfig) and self.config.gpus_per_node is not None:
            return self.config.gpus_per_node if stage in RANKED else 0
        return int(self.read_header(stage).get("gres", "gpu:0").rpartition(":")[2])

    def count_ranks(self, stage: Stage) -> int:
        """Ranks of a stage's job, over all its nodes."""
        assert isinstance(self.config, SubmitRanksConfig)
        told = str(self.config.ranks_per_node or self.site.get("RANKS_PER_NODE"))
        check(
            not told or (told.isdigit() and int(told) > 0),
            f"RANKS_PER_NODE is {told} in {self.site.path}, or in the environment: name a number",
        )
        return self.count_nodes(stage) * (int(told) if told else max(1, self.count_gpus(stage)))

    def ask_partition(self, stage: Stage) -> str | None:
        """Partition to submit a stage's job to; None to leave it to the environment, or to Slurm."""
        on_cpus = None if stage in RANKED else self.site.get("CPU_PARTITION")
        return on_cpus or self.config.partition

    def find_partition(self, stage: Stage) -> str:
        """Partition that a stage's job will wait in; empty for Slurm's default."""
        return self.ask_partition(stage) or self.site.get("SBATCH_PARTITION")

    def ask_time(self, stage: Stage) -> str | None:
        """Time limit to submit a stage's job with; None to leave it to the environment, or to its script."""
        asked = self.config.time
        if asked is None or stage == self.main:
            return asked
        return asked if count_seconds(asked) < count_seconds(self._find_written_time(stage)) else None

    def find_time(self, stage: Stage) -> str:
        """Time limit that a stage's job will have, as Slurm writes it."""
        return self.ask_time(stage) or self._find_written_time(stage)

    def _find_written_time(self, stage: Stage) -> str:
        return self.site.get("SBATCH_TIMELIMIT") or self.read_header(stage)["time"]


def count_seconds(limit: str) -> float:
    """Seconds of a time limit as Slurm writes it: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S, UNLIMITED."""
    if not limit[0].isdigit():
        return float("inf")
    days, dash, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash or len(parts) == 3:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    else:
        hours, (minutes, seconds) = 0, [*parts, 0][:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
