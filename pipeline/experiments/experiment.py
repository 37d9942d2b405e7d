"""What an experiment is: a configuration, the claim that it serves, and where each of its choices is from."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from pipeline.config import ExperimentConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """A configuration with a name, the claim it serves, and where both come from.

    `citations` maps fields, as `alexnet diff` names them and with * for any part, to section, net or file, from the
    general to the particular; what no pattern covers is from `source`.
    """

    name: str
    claim: str
    source: str
    config: ExperimentConfig
    citations: Mapping[str, str] = field(default_factory=dict)

    def cite(self, name: str) -> str:
        """Where the value of a field is from: the last citation whose pattern fits."""
        fitting = [citation for pattern, citation in self.citations.items() if fnmatch(name, pattern)]
        return fitting[-1] if fitting else self.source

    def derive(
        self, *, name: str, claim: str, source: str, citations: Mapping[str, str], **changes: Any
    ) -> "Experiment":
        """Another experiment that differs in the given fields of the configuration, and says where these are from.

        Its own citations come after those that it takes over, and so before them.
        """
        kept = {pattern: citation for pattern, citation in self.citations.items() if pattern not in citations}
        return Experiment(
            name=name,
            claim=claim,
            source=source,
            config=dataclasses.replace(self.config, **changes),
            citations={**kept, **citations},
        )
