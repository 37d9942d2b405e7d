"""Which runs take a row: none for a stated reason, whatever the row."""

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from written_runs import (
    NUM_EVALUATED,
    NUM_TRAIN,
    START,
    draw_ranks,
    read_runs,
    tiny_imagenet,
    write_evaluation,
    write_kernels,
    write_quickly,
    write_run,
)

from pipeline.artifacts import EvaluationRecord, NeighboursRecord, RunDirectory, read_json
from pipeline.claims import CLAIMS, AnyRun, Comparison, ErrorRate, ErrorRise, GapRise, Neighbours
from pipeline.experiments import get_experiment
from pipeline.options import PackingConfig
from pipeline.report.answers import Answer, list_answers
from pipeline.report.measured import MeasuredRun
from pipeline.tracking import Journal

__all__ = ["tiny_imagenet"]

MEASURED = [claim for claim in CLAIMS if isinstance(claim.measure, ErrorRate | Comparison | AnyRun)]
NEIGHBOURS = NeighboursRecord(
    split="val",
    step=1,
    epoch=1,
    layer="fc7",
    num_units=20,
    num_images=NUM_TRAIN,
    num_skipped=0,
    data_digest="",
    commit="0" * 40,
    dirty=False,
    queries=(),
)
SEEDS = {"source-2012": 5, "six-conv-finetune": 2}
Spoil = Callable[[RunDirectory], None]


def list_evaluations(experiment: str) -> set[tuple[str, str]]:
    """The splits and views that claims ask of an experiment."""
    measures = [claim.measure for claim in MEASURED if experiment in claim.measure.experiments]
    errors = {(measure.split, measure.views) for measure in measures if isinstance(measure, ErrorRate | ErrorRise)}
    of_gaps = {("train", "center"), ("val", "center")}
    return errors | (of_gaps if any(isinstance(measure, GapRise) for measure in measures) else set())


@pytest.fixture(scope="module")
def all_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs that together answer every claim that runs can. Read only."""
    folder, generator = tmp_path_factory.mktemp("all"), np.random.default_rng(1)
    paths = []
    for name in dict.fromkeys(name for claim in MEASURED for name in claim.measure.experiments):
        for seed in range(SEEDS.get(name, 1)):
            path = write_run(folder, name, seed=seed, train_errors=(0.5, 0.2))
            for split, views in list_evaluations(name):
                ranks = [1] * NUM_TRAIN if split == "train" else draw_ranks(generator, top1=160, top5=70)
                write_evaluation(path, ranks, split=split, views=views)
            write_kernels(path, generator.normal(size=(96, 3, 11, 11)))
            write_quickly(RunDirectory(path).neighbours / "val-step-1.json", NEIGHBOURS)
            paths.append(path)
    return paths


@pytest.fixture(scope="module")
def sound_runs(all_runs: list[Path]) -> list[MeasuredRun]:
    return read_runs(*all_runs)


@pytest.fixture(scope="module")
def seeds(sound_runs: list[MeasuredRun]) -> list[MeasuredRun]:
    """The runs of `source-2012` in order of seed."""
    return [run for run in sound_runs if run.record.experiment == "source-2012"]


def copy_runs(paths: list[Path], folder: Path) -> list[Path]:
    return [Path(shutil.copytree(path, folder / path.name)) for path in paths]


def change_record(**changes: object) -> Spoil:
    def spoil(run: RunDirectory) -> None:
        write_quickly(run.config, dataclasses.replace(run.read_record(), **changes))

    return spoil


def change_config(**changes: object) -> Spoil:
    def spoil(run: RunDirectory) -> None:
        record = run.read_record()
        write_quickly(run.config, dataclasses.replace(record, config=dataclasses.replace(record.config, **changes)))

    return spoil


def change_evaluations(**changes: object) -> Spoil:
    def spoil(run: RunDirectory) -> None:
        for path in run.predictions.glob("*.json"):
            write_quickly(path, dataclasses.replace(read_json(path, EvaluationRecord), **changes))

    return spoil


def look_for_neighbours_by_changed_code(run: RunDirectory) -> None:
    write_quickly(run.neighbours / "val-step-1.json", dataclasses.replace(NEIGHBOURS, dirty=True))


def toggle_weights(run: RunDirectory) -> None:
    change_record(weights=None if run.read_record().weights else "other.pt")(run)


def claim_modified(run: RunDirectory) -> None:
    record = run.read_record()
    change_record(status="as registered" if record.config.seed else "modified")(run)


def skip_a_picture(run: RunDirectory) -> None:
    Journal(run.journal).append(step=1, epoch=0.5, metrics={"data/skipped_images": 1.0})


def skip_in_validation(run: RunDirectory) -> None:
    Journal(run.journal).append(step=1, epoch=0.5, metrics={"val/skipped_images": 1.0})


def cut_journal(run: RunDirectory) -> None:
    lines = run.journal.read_text().splitlines(keepends=True)
    run.journal.write_text("".join(lines[:-1]))


def leave_out(run: RunDirectory, pattern: str) -> None:
    for path in run.predictions.glob(pattern):
        path.unlink()


AT_ALL: dict[str, Spoil] = {
    "imported": change_record(status="imported"),
    "modified, and it says so": lambda run: (change_config(precision="bfloat16")(run), claim_modified(run))[0],
    "modified, and it does not say so": change_config(precision="bfloat16"),
    "modified, in the seed alone, and it says otherwise": claim_modified,
    "modified, in another field than the seed, too": change_config(seed=9, global_batch_size=64),
    "dirty": change_record(starts=(dataclasses.replace(START, dirty=True),)),
    "resumed from dirty code": change_record(starts=(START, dataclasses.replace(START, dirty=True))),
    "other weights, or none where some are needed": toggle_weights,
    "partial, or of no official set": change_record(data_complete=False),
    "warped pictures": change_record(data_packing=PackingConfig(resize="warp")),
    "pictures of another size": change_record(data_packing=PackingConfig(pixels=128)),
    "a training picture too few": change_record(num_train_images=NUM_TRAIN - 1),
    "more training pictures lacking than were dropped": change_record(
        num_train_images=NUM_TRAIN - 2, num_dropped_images=1
    ),
    "a training picture too many": change_record(num_train_images=NUM_TRAIN + 1, num_dropped_images=1),
    "a damaged picture in training": skip_a_picture,
    "a damaged picture in validation": skip_in_validation,
}
IN_ERRORS: dict[str, Spoil] = {
    "never evaluated": lambda run: leave_out(run, "*"),
    "not evaluated with these views": lambda run: leave_out(run, "*-[tc]e*-*"),
    "evaluated before the end": change_evaluations(epoch=1),
    "evaluated by code that was not committed": change_evaluations(dirty=True),
    "evaluated on other data": change_evaluations(data_digest="other"),
    "evaluated on a part": change_evaluations(num_images=NUM_EVALUATED - 1),
    "evaluated but for a damaged picture": change_evaluations(num_skipped=1),
}
WITHOUT_PROBABILITIES: dict[str, Spoil] = {"no saved probabilities": lambda run: leave_out(run, "*.npz")}
IN_TRAINING: dict[str, Spoil] = {
    "unfinished": cut_journal,
    "validated on a part": change_record(num_val_images=NUM_EVALUATED - 1),
}


IN_NEIGHBOURS: dict[str, Spoil] = {
    "neighbours of code that was not committed": look_for_neighbours_by_changed_code,
    "no neighbours": lambda run: shutil.rmtree(run.neighbours),
}


def find_kinds() -> list[tuple[str, Spoil, set[str]]]:
    """(reason, what makes it stand, keys of the claims that it keeps from being answered)."""
    everything = {claim.key for claim in MEASURED}
    errors = {claim.key for claim in MEASURED if isinstance(claim.measure, ErrorRate | ErrorRise | GapRise)}
    from_counts = {
        claim.key
        for claim in MEASURED
        if isinstance(claim.measure, GapRise)
        or (isinstance(claim.measure, ErrorRate) and sum(num for _, num in claim.measure.members) == 1)
    }
    neighbours = {claim.key for claim in MEASURED if isinstance(claim.measure, Neighbours)}
    kinds = (
        (AT_ALL, everything),
        (IN_NEIGHBOURS, neighbours),
        (IN_ERRORS, errors),
        (WITHOUT_PROBABILITIES, errors - from_counts),
    )
    return [
        (reason, spoil, keys)
        for spoils, keys in (*kinds, (IN_TRAINING, everything - errors))
        for reason, spoil in spoils.items()
    ]


def find_answers(runs: Sequence[MeasuredRun]) -> dict[str, Answer]:
    keys = {claim.key for claim in MEASURED}
    return {answer.claim.key: answer for answer in list_answers(runs) if answer.claim.key in keys}


def list_answered(runs: Sequence[MeasuredRun]) -> set[str]:
    return {key for key, answer in find_answers(runs).items() if answer.verdict != "not run"}


def test_sound_runs_answer_every_claim_that_runs_can(sound_runs):
    assert list_answered(sound_runs) == {claim.key for claim in MEASURED}


@pytest.mark.parametrize(("reason", "spoil", "keys"), find_kinds(), ids=[kind[0] for kind in find_kinds()])
def test_no_row_is_taken_by_a_run_that_must_not(all_runs, tmp_path, reason, spoil, keys):
    copies = copy_runs(all_runs, tmp_path)
    for path in copies:
        spoil(RunDirectory(path))
    answers = find_answers(read_runs(*copies))
    assert {key for key, answer in answers.items() if answer.verdict == "not run"} == keys
    for key in keys:
        assert (answers[key].text, answers[key].runs, answers[key].top1) == ("", (), None)
        assert answers[key].remarks  # it says why


def test_a_row_stays_empty_where_one_of_its_experiments_is_missing(sound_runs):
    for name in {run.record.experiment for run in sound_runs}:
        needing = {
            claim.key
            for claim in MEASURED
            if name in claim.measure.experiments and not isinstance(claim.measure, AnyRun)
        }
        others = [run for run in sound_runs if run.record.experiment != name]
        assert list_answered(others) == {claim.key for claim in MEASURED} - needing
    assert {claim.key for claim in MEASURED if isinstance(claim.measure, AnyRun)} & list_answered([]) == set()


def test_an_ensemble_of_too_few_seeds_takes_no_row(sound_runs, seeds):
    fewer = [run for run in sound_runs if run != seeds[-1]]
    assert list_answered(fewer) == {claim.key for claim in MEASURED} - {"five-cnns-2012", "seven-cnns-pretrained"}


def test_pictures_that_could_not_be_decoded_when_packed_cost_no_row(all_runs, tmp_path):
    copies = copy_runs(all_runs, tmp_path)
    for path in copies:
        change_record(num_train_images=NUM_TRAIN - 2, num_dropped_images=2)(RunDirectory(path))
    assert list_answered(read_runs(*copies)) == {claim.key for claim in MEASURED}


def test_runs_on_two_shard_sets_are_never_set_beside_each_other(all_runs, tmp_path):
    copies = copy_runs(all_runs, tmp_path)
    comparisons = [claim for claim in MEASURED if isinstance(claim.measure, Comparison)]
    for path in copies:
        if RunDirectory(path).read_record().experiment in {claim.measure.baseline for claim in comparisons}:
            change_record(data_digest="other")(RunDirectory(path))
            change_evaluations(data_digest="other")(RunDirectory(path))
    unanswered = {claim.key for claim in comparisons} | {"seven-cnns-pretrained"}
    assert list_answered(read_runs(*copies)) == {claim.key for claim in MEASURED} - unanswered


def test_a_copy_of_a_run_is_no_other_seed(seeds, tmp_path):
    (copied,) = copy_runs([seeds[0].path], tmp_path)
    assert "five-cnns-2012" in list_answered(seeds)
    assert "five-cnns-2012" not in list_answered([*seeds[:4], *read_runs(copied)])


def test_a_run_that_could_have_answered_had_it_come_first_is_named(seeds, tmp_path):
    copied, elsewhere, spoilt = (
        read_runs(*copy_runs([seeds[0].path], tmp_path / name))[0] for name in ("copied", "elsewhere", "spoilt")
    )
    renamed = [
        Path(run.path).rename(tmp_path / name)
        for run, name in ((copied, "again"), (elsewhere, "elsewhere-again"), (spoilt, "spoilt-again"))
    ]
    for change in (change_record(data_digest="other"), change_evaluations(data_digest="other")):
        change(RunDirectory(renamed[1]))
    change_record(data_complete=False)(RunDirectory(renamed[2]))
    others = read_runs(*renamed)
    remark = "again, elsewhere-again could have answered, too, and came later"
    answers = find_answers([*seeds, *others])
    assert remark in answers["one-cnn-2012"].remarks
    assert "again could have answered, too, and came later" in answers["five-cnns-2012"].remarks
    assert not any("came later" in remark for answer in find_answers(seeds).values() for remark in answer.remarks)


def test_another_seed_takes_a_row_only_where_the_registered_one_is_not_there(seeds):
    answer = find_answers(seeds[::-1])["one-cnn-2012"]
    assert answer.runs[0].record.config == get_experiment("source-2012").config
    assert not any("seed" in remark for remark in answer.remarks)
    answer = find_answers(seeds[:0:-1])["one-cnn-2012"]
    assert answer.runs[0].record.config.seed == 1
    assert "seed 1" in answer.remarks


def test_what_is_in_the_way_is_said_by_name(seeds, tmp_path):
    (spoilt,) = copy_runs([seeds[0].path], tmp_path)
    change_record(data_complete=False)(RunDirectory(spoilt))
    answer = find_answers([*read_runs(spoilt), *seeds[1:]])["five-cnns-2012"]
    reason = "source-2012: data not proved to be all of ILSVRC-2012"
    assert answer.remarks == ("4 of 5 seeds of source-2012", reason)
