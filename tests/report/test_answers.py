"""What is measured of each kind of claim, computed here by another way, and the verdicts at their borders."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest, mannwhitneyu
from written_runs import (
    NUM_EVALUATED,
    NUM_TRAIN,
    draw_ranks,
    read_runs,
    tiny_imagenet,
    write_evaluation,
    write_kernels,
    write_run,
)

from pipeline.artifacts import RunDirectory
from pipeline.claims import CLAIMS, Claim, ErrorRate, Errors
from pipeline.report.answers import Answer, Measurement, list_answers
from pipeline.report.network_answers import measure_colors
from pipeline.report.verdicts import judge_bounds, judge_colors, judge_count, judge_difference, judge_errors

__all__ = ["tiny_imagenet"]


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(11)


def find_answer(key: str, *paths: Path) -> Answer:
    return next(answer for answer in list_answers(read_runs(*paths)) if answer.claim.key == key)


def read_saved(path: Path, name: str = "val-ten") -> dict[str, np.ndarray]:
    (file,) = RunDirectory(path).predictions.glob(f"{name}-*.npz")
    with np.load(file) as saved:
        return dict(saved)


def test_a_run_s_errors_are_its_counts_with_wilson_s_interval_and_log_loss(tmp_path, generator):
    path = write_run(tmp_path, "source-2012")
    write_evaluation(path, draw_ranks(generator, top1=163, top5=73))
    answer = find_answer("one-cnn-2012", path)
    assert (answer.top1.value, answer.top5.value) == (163 / 400, 73 / 400)
    assert answer.text.startswith("40.75 [36.04, 45.63] / 18.25 [14.77, 22.33]; log loss ")
    saved = read_saved(path)
    losses = -np.log(saved["probabilities"][np.arange(NUM_EVALUATED), saved["labels"]].astype(np.float64))
    assert answer.text.endswith(f"; log loss {losses.mean():.4f}")
    assert (answer.verdict, answer.remarks, answer.num_images) == ("reproduced", (), NUM_EVALUATED)


def test_an_ensemble_s_errors_are_those_of_the_mean_probabilities(tmp_path, generator):
    paths = [write_run(tmp_path, "source-2012", seed=seed) for seed in range(5)]
    paths += [write_run(tmp_path, "six-conv-finetune", seed=seed) for seed in range(2)]
    for path in paths:
        write_evaluation(path, draw_ranks(generator, top1=200, top5=80))
    for key, members in (("five-cnns-2012", paths[:5]), ("seven-cnns-pretrained", paths)):
        answer = find_answer(key, *paths)
        saved = [read_saved(path) for path in members]
        order = np.argsort(-np.mean([one["probabilities"].astype(np.float64) for one in saved], axis=0), axis=1)
        ranks = (order == saved[0]["labels"][:, None]).argmax(1)
        assert (answer.top1.value, answer.top5.value) == (np.mean(ranks > 0), np.mean(ranks > 4))
        assert answer.top1.value != 0.5  # which is each member's
        assert [run.path for run in answer.runs] == members
    assert "seeds 0, 1, 2, 3, 4, 0, 1" in answer.remarks
    assert any("SHA-256 abababababab" in remark and "not proved" in remark for remark in answer.remarks)


def test_a_difference_pairs_the_runs_picture_by_picture(tmp_path, generator):
    ranks = np.array(draw_ranks(generator, top1=160, top5=70))
    worse, better = write_run(tmp_path, "no-color"), write_run(tmp_path, "source-2012")
    write_evaluation(better, ranks.tolist())
    ranks[np.flatnonzero(ranks == 0)[:8]] = 1  # eight more errors, on pictures that the other gets right
    write_evaluation(worse, ranks.tolist())
    answer = find_answer("no-color", worse, better)
    assert answer.top1.value == pytest.approx(8 / 400)
    assert answer.top5.value == 0
    low, high = answer.top1.interval
    share = np.array([9, 1]) / 402  # Bonett and Price add one to each count of pictures that one alone gets wrong
    reach = 1.959964 * np.sqrt((share.sum() - (share[0] - share[1]) ** 2) / 402)
    assert (low, high) == pytest.approx((share[0] - share[1] - reach, share[0] - share[1] + reach), abs=1e-7)
    assert answer.verdict == "reproduced"
    assert answer.text.startswith("2.00 [0.")
    assert "/ 0.00 [−" in answer.text


def test_a_difference_is_not_that_of_two_runs_on_pictures_in_another_order(tmp_path, generator):
    worse, better = write_run(tmp_path, "no-color"), write_run(tmp_path, "source-2012")
    for path in (worse, better):
        write_evaluation(path, draw_ranks(generator, top1=160, top5=70))
    saved = read_saved(worse)
    (file,) = RunDirectory(worse).predictions.glob("*.npz")
    np.savez(file, **saved | {"labels": saved["labels"][::-1]})
    answer = find_answer("no-color", worse, better)
    assert (answer.verdict, answer.remarks) == (
        "not run",
        ("no-color and source-2012 were evaluated on other pictures",),
    )


def test_damaged_probabilities_cost_the_row_and_not_the_report(tmp_path, generator):
    worse, better = write_run(tmp_path, "no-color"), write_run(tmp_path, "source-2012")
    for path in (worse, better):
        write_evaluation(path, draw_ranks(generator, top1=160, top5=70))
    (file,) = RunDirectory(worse).predictions.glob("*.npz")
    file.write_bytes(file.read_bytes()[:1000])
    answer = find_answer("no-color", worse, better)
    assert answer.verdict == "not run"
    assert answer.remarks[0].startswith(f"no-color/predictions/{file.name} is damaged (")
    assert find_answer("one-cnn-2012", worse, better).verdict == "reproduced"


@pytest.mark.parametrize(
    ("without", "verdict"), [(0.55, "reproduced"), (0.41, "within noise"), (0.25, "not reproduced")]
)
def test_weight_decay_s_claim_is_of_the_last_epoch_s_training_errors(tmp_path, without, verdict):
    paths = [
        write_run(tmp_path, "source-2012", train_errors=(0.9, 0.9, 0.4)),
        write_run(tmp_path, "no-weight-decay", train_errors=(0.1, without)),
    ]
    answer = find_answer("weight-decay", *paths)
    assert answer.verdict == verdict
    shown = f"{round(without * NUM_TRAIN) / NUM_TRAIN:.2%} without it, {round(0.4 * NUM_TRAIN) / NUM_TRAIN:.2%} with it"
    assert answer.text.startswith(shown)


def write_gap(folder: Path, experiment: str, *, train: int, val: int) -> Path:
    """A run whose centre patches were classified with so many errors."""
    path = write_run(folder, experiment, train_errors=(0.5,), val_error=0.9)
    for split, num_errors, num_images in (("train", train, NUM_TRAIN), ("val", val, NUM_EVALUATED)):
        ranks = [1] * num_errors + [0] * (num_images - num_errors)
        write_evaluation(path, ranks, split=split, views="center")
    return path


def test_dropout_s_claim_is_of_the_gaps_from_training_to_validation_error(tmp_path):
    plain = write_gap(tmp_path, "source-2012", train=128, val=180)
    path = write_gap(tmp_path, "no-dropout", train=32, val=240)
    answer = find_answer("dropout-overfitting", plain, path)
    assert answer.verdict == "reproduced"
    ends = [
        (binomtest(*count).proportion_ci(method="wilson"), count[0] / count[1], sign)
        for count, sign in (
            ((240, NUM_EVALUATED), 1),
            ((32, NUM_TRAIN), -1),
            ((180, NUM_EVALUATED), -1),
            ((128, NUM_TRAIN), 1),
        )
    ]
    below = np.hypot.reduce([share - ci.low if sign > 0 else ci.high - share for ci, share, sign in ends])
    above = np.hypot.reduce([ci.high - share if sign > 0 else share - ci.low for ci, share, sign in ends])
    interval = f"[{52.5 - 100 * below:.2f}, {52.5 + 100 * above:.2f}]"
    assert answer.text.endswith(f"60.00% − 12.50% without it, 45.00% − 50.00% with it: 52.50 {interval}")
    path = write_gap(tmp_path, "no-dropout", train=128, val=180)
    assert find_answer("dropout-overfitting", plain, path).verdict == "within noise"


@pytest.mark.parametrize(
    ("tanh", "text", "verdict"),
    [
        ([0.9] * 10 + [0.4, 0.1], "5.8 times: 11.5 and 2.0", "reproduced"),
        ([0.9] * 5 + [0.4, 0.2, 0.1], "3.4 times: 6.8 and 2.0", "not reproduced"),
        ([0.9], "at least 20.0 times: not in 40 and 2.0", "not reproduced"),
        ([0.2], "at most 0.5 times: at most 1.0 and 2.0", "not reproduced"),
    ],
)
def test_figure_1_s_claim_is_the_ratio_of_epochs(tmp_path, tanh, text, verdict):
    paths = [
        write_run(tmp_path, "fig1-relu", train_errors=(0.45, 0.25, 0.1)),
        write_run(tmp_path, "fig1-tanh", train_errors=tanh),
    ]
    answer = find_answer("figure-1", *paths)
    assert (answer.text, answer.verdict) == (text, verdict)


def test_figure_1_has_no_ratio_where_relu_never_comes_there_or_a_bound_where_it_begins_there(tmp_path):
    tanh = write_run(tmp_path, "fig1-tanh", train_errors=[0.9] * 4 + [0.2])
    relu = write_run(tmp_path, "fig1-relu", train_errors=(0.2,))
    answer = find_answer("figure-1", tanh, relu)
    assert (answer.text.split(":")[0], answer.verdict) == ("at least 4.9 times", "within noise")
    write_run(tmp_path, "fig1-tanh", train_errors=(0.1,))
    assert find_answer("figure-1", tanh, relu).remarks == ("fig1-tanh and fig1-relu both begin below 25%",)
    write_run(tmp_path, "fig1-relu", train_errors=(0.5,))
    answer = find_answer("figure-1", tanh, relu)
    assert (answer.verdict, answer.remarks) == ("not run", ("fig1-relu never comes below 25%",))


def test_the_kernels_claim_is_of_the_towers_shares_of_colour(tmp_path, generator):
    grey = np.repeat(generator.normal(size=(48, 1, 11, 11)), 3, axis=1) + 0.1 * generator.normal(size=(48, 3, 11, 11))
    colored = generator.normal(size=(48, 3, 11, 11))
    path = write_run(tmp_path, "source-2012")
    write_kernels(path, np.concatenate([grey, colored]).astype(np.float32))
    answer = find_answer("figure-3", path)
    axis = np.ones(3) / np.sqrt(3)
    shares = [1 - (np.einsum("c,kchw->khw", axis, k) ** 2).sum((1, 2)) / (k**2).sum((1, 2, 3)) for k in (grey, colored)]
    medians = [np.median(share) for share in shares]
    p = mannwhitneyu(*shares).pvalue
    assert answer.text == f"median share of colour {medians[0]:.0%} and {medians[1]:.0%}, p = {p:.1g}"
    assert (round(medians[0], 2), round(medians[1], 2)) == (0.01, 0.68)
    assert answer.verdict == "reproduced"
    write_kernels(path, np.concatenate([colored, colored[::-1]]))
    assert find_answer("figure-3", path).verdict == "not reproduced"
    RunDirectory(path).kernels.unlink()
    assert find_answer("figure-3", path).remarks == ("source-2012: no conv1.npy",)


def test_grey_kernels_have_no_colour_and_opposite_colours_nothing_else():
    grey, opposite = np.full((1, 3, 2, 2), 0.3), np.array([1.0, -1.0, 0.0]).reshape(1, 3, 1, 1)
    assert measure_colors(grey) == pytest.approx(0)
    assert measure_colors(opposite) == pytest.approx(1)


def test_time_is_that_of_training_and_gets_no_verdict(tmp_path):
    answer = find_answer("time", write_run(tmp_path, "source-2012"))
    assert (answer.text, answer.verdict) == ("1 h 31 min for 91 epochs", "no verdict")
    assert answer.remarks == ("1 on CPU, AMD EPYC, 2 cores",)


def test_what_one_run_shows_is_of_the_preferred_experiment_whatever_data_comes_first(tmp_path):
    preferred, other = write_run(tmp_path, "source-2012"), write_run(tmp_path, "paper", data_digest="0ther" * 12)
    for paths in ((preferred, other), (other, preferred)):
        assert [run.path for run in find_answer("time", *paths).runs] == [preferred]


def test_counts_are_computed_and_others_work_stays_theirs():
    answers = {answer.claim.key: answer for answer in list_answers([])}
    assert [answers[key].text for key in ("parameters", "neurons")] == ["60,965,224", "659,272"]
    assert [answers[key].verdict for key in ("parameters", "neurons")] == ["reproduced"] * 2
    others = {"sparse-coding", "sift-fvs", "runner-up"}
    assert {key for key, answer in answers.items() if answer.verdict == "others' work"} == others
    rest = {answer.verdict for key, answer in answers.items() if key not in {*others, "parameters", "neurons"}}
    assert rest == {"not run"}


def test_all_answers_come_in_the_paper_s_order():
    assert [answer.claim for answer in list_answers([])] == list(CLAIMS)


RATE = ErrorRate(members=(("source-2012", 1),), dataset="ILSVRC-2012", split="val")


def judge(kind, low, high, *, number=0.40, top5=(0.18, 0.18), **claim):
    claimed = Claim(key="", text="", where="", paper=Errors(top1=number, top5=0.18), measure=RATE, **claim)
    first, second = (Measurement(value=sum(ends) / 2, interval=ends) for ends in ((low, high), top5))
    return judge_errors(claimed, first, second, kind)


@pytest.mark.parametrize(
    ("low", "high", "verdict", "remarks"),
    [
        (0.399, 0.401, "reproduced", ()),
        (0.4004, 0.405, "reproduced", ()),  # 40.04 % rounds to 40.0 %
        (0.4006, 0.405, "within noise", ("top-1 higher than the paper's",)),
        (0.395, 0.3994, "within noise", ("top-1 lower than the paper's",)),
        (0.4048, 0.41, "within noise", ("top-1 higher than the paper's",)),  # 0.43 % above 40.05 %
        (0.4050, 0.41, "not reproduced", ("top-1 higher than the paper's",)),
        (0.39, 0.3950, "not reproduced", ("top-1 lower than the paper's",)),
    ],
)
def test_an_error_is_judged_by_its_interval_and_the_source_s_spread(low, high, verdict, remarks):
    assert judge("one run", low, high) == (verdict, remarks)
    without_spread = "not reproduced" if verdict == "within noise" else verdict
    assert judge("ensemble", low, high) == (without_spread, remarks)


def test_the_worse_of_the_two_errors_counts():
    assert judge("one run", 0.39, 0.41, top5=(0.20, 0.21)) == ("not reproduced", ("top-5 higher than the paper's",))
    assert judge("one run", 0.42, 0.43, top5=(0.181, 0.19))[0] == "not reproduced"
    assert judge("one run", 0.39, 0.41, top5=(0.181, 0.19))[0] == "within noise"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.001, 0.02, "reproduced"),
        (0.0, 0.02, "within noise"),
        (-0.01, 0.013, "not reproduced"),
        (0.018, 0.03, "not reproduced"),
        (-0.03, -0.01, "not reproduced"),
    ],
)
def test_a_difference_is_judged_by_the_paper_s_number_and_zero(low, high, verdict):
    assert judge_difference((low, high), (0.0135, 0.0145)) == verdict


def test_over_a_number_has_no_upper_bound_and_about_is_to_the_nearest_percent():
    over = {"number": 0.01, "at_least": True, "top5": (0.17, 0.19)}
    ends = [(0.03, 0.04), (0.008, 0.012), (0.004, 0.009), (-0.01, 0.02)]
    verdicts = ["reproduced", "reproduced", "not reproduced", "within noise"]
    assert [judge("difference", *end, **over)[0] for end in ends] == verdicts
    about = {"number": 0.02, "precision": 0.01, "top5": (0.17, 0.19)}
    ends = [(0.024, 0.03), (0.026, 0.03), (0.01, 0.016), (0.01, 0.014)]
    verdicts = ["reproduced", "not reproduced", "reproduced", "not reproduced"]
    assert [judge("difference", *end, **about)[0] for end in ends] == verdicts


def test_counts_are_cut_and_not_rounded():
    assert [judge_count(count, 650_000) for count in (650_000, 659_999, 660_000, 649_999)] == [
        "reproduced",
        "reproduced",
        "not reproduced",
        "not reproduced",
    ]


def test_bounds_are_judged_by_all_that_they_allow():
    ends = ((5.6, 6.4), (4.0, np.inf), (7.0, np.inf), (0.0, 5.0))
    verdicts = ["reproduced", "within noise", "not reproduced", "not reproduced"]
    assert [judge_bounds(end, (5.5, 6.5)) for end in ends] == verdicts


def test_colours_are_judged_by_medians_and_p():
    assert judge_colors((0.1, 0.6), 0.001) == "reproduced"
    assert judge_colors((0.1, 0.6), 0.06) == "within noise"
    assert judge_colors((0.66, 0.67), 0.7) == "not reproduced"
    assert judge_colors((0.55, 0.6), 0.001) == "not reproduced"
