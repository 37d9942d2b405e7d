"""Words of one command line that are meant for several parsers, and what the stages make of theirs."""

from collections.abc import Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_origin

from pipeline.commands.evaluate import EVALUATE
from pipeline.commands.preprocess import PREPROCESS
from pipeline.commands.train import TRAIN, parse_training
from pipeline.errors import check
from pipeline.options import EvaluateConfig, PreprocessConfig
from pipeline.submit.chains import EvaluateWords, PreprocessWords, TrainWords

SLIP = 0.86
"""How alike a slip is to what was meant, as difflib measures it: --timeout is not --time."""


def split_words(kind: type[Any], words: Sequence[str], stages: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Split words into those for a dataclass and those for stages.

    Args:
        kind: the dataclass, whose flags are taken with their values.
        words: of the command line.
        stages: that take flags as `--STAGE.FLAG`.

    Returns:
        Its words, and those of stages: by name of the stage, and by "" all others.
    """
    types = {f"--{field.name.replace('_', '-')}": field.type for field in fields(kind)}
    own: list[str] = []
    others: dict[str, list[str]] = {stage: [] for stage in ("", *stages)}
    current, remaining = others[""], iter(words)
    for word in remaining:
        flag, joined, _ = word.partition("=")
        stage, dot, stage_flag = word.removeprefix("--").partition(".")
        if dot and stage in stages and word.startswith("--"):
            current = others[stage]
            current.append(f"--{stage_flag}")
        elif flag in types:
            current = own if get_origin(types[flag]) is tuple else others[""]
            takes_next = not joined and types[flag] is not bool and current is not own
            value = next(remaining, None) if takes_next else None
            own.append(word if value is None else f"{word}={value}")
        elif word in ("-h", "--help"):
            own.append(word)
        else:
            current = others[""] if word.startswith("--") else current
            current.append(word)
    return own, others


def check_spelling(kind: type[Any], words: Sequence[str]) -> None:
    """Refuse a flag for a stage that looks like a slip of one of submit's own.

    Raises:
        InputError: there is one.
    """
    own = [f"--{field.name.replace('_', '-')}" for field in fields(kind)]
    for word in words:
        flag = word.partition("=")[0]
        near = get_close_matches(flag, own, n=1, cutoff=SLIP) if flag.startswith("--") else []
        check(not near, f"{flag} is unknown: did you mean {near[0] if near else ''}?")


def make_absolute(words: Sequence[str], *configs: Any) -> tuple[str, ...]:
    """The words with the values of flags that are paths made absolute, since a job starts elsewhere.

    Args:
        words: for a stage.
        configs: what its parser made of them.
    """
    values = [(field.name, getattr(config, field.name)) for config in configs for field in fields(config)]
    flags = {f"--{name.replace('_', '-')}" for name, value in values if isinstance(value, Path)}
    absolute: list[str] = []
    for previous, word in zip(["", *words], words, strict=False):
        flag, joined, value = word.partition("=")
        if joined and flag in flags:
            absolute.append(f"{flag}={Path(value).absolute()}")
        else:
            absolute.append(str(Path(word).absolute()) if previous in flags else word)
    return tuple(absolute)


def parse_preprocess(words: list[str]) -> PreprocessWords:
    """Prove words for `alexnet preprocess`.

    Raises:
        InputError: they do not fit.
    """
    config = PREPROCESS[0].parse(PreprocessConfig, words)
    check(config.part is None, f"--part {config.part} is the job's to say: pass --parts N")
    return PreprocessWords(words=make_absolute(words, config), config=config)


def parse_train(words: list[str]) -> TrainWords:
    """Prove words for `alexnet train`.

    Raises:
        InputError: they do not fit.
    """
    asked = parse_training(TRAIN, words)
    check(not asked.runtime.resume, "leave out --resume: a job goes on by itself where a run was begun")
    return TrainWords(
        words=make_absolute(words, asked.runtime),
        experiment=asked.experiment,
        config=asked.config,
        runtime=asked.runtime,
    )


def parse_evaluate(words: list[str]) -> EvaluateWords:
    """Prove words for `alexnet evaluate`.

    Raises:
        InputError: they do not fit.
    """
    config = EVALUATE.parse(EvaluateConfig, words, positional=True)
    return EvaluateWords(words=make_absolute(words, config), config=config)
