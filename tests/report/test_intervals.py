"""Intervals: those of the literature's examples, and how often they hold the truth."""

import numpy as np
import pytest

from pipeline.report.intervals import Count, compute_interval, compute_paired_interval, compute_sum_interval

NUM_DRAWS = 4000


def test_interval_of_an_error_is_wilson_s():
    share, num, z = 0.1, 200, 1.959964
    middle = (share + z**2 / (2 * num)) / (1 + z**2 / num)
    reach = z / (1 + z**2 / num) * (share * (1 - share) / num + z**2 / (4 * num**2)) ** 0.5
    assert compute_interval(Count(20, 200)) == pytest.approx((middle - reach, middle + reach), abs=1e-6)


def test_paired_interval_is_that_of_a_published_example():
    interval = compute_paired_interval(26, 4, 48)  # of statpsych's ci.prop.ps, by Bonett
    assert interval == pytest.approx((0.2548067, 0.6251933), abs=1e-7)


@pytest.mark.parametrize(
    ("num", "only_first", "only_second"), [(200, 0.10, 0.06), (200, 0.02, 0.02), (1000, 0.08, 0.05), (50, 0.2, 0.1)]
)
def test_paired_interval_holds_the_truth_about_95_times_in_100(num, only_first, only_second):
    generator = np.random.default_rng(5)
    draws = generator.multinomial(num, [only_first, only_second, 1 - only_first - only_second], NUM_DRAWS)
    intervals = {pair: compute_paired_interval(*pair, num) for pair in {tuple(draw[:2].tolist()) for draw in draws}}
    held = [low <= only_first - only_second <= high for low, high in (intervals[tuple(draw[:2])] for draw in draws)]
    assert 0.94 < np.mean(held) < 0.985  # it errs on the wide side where differences are rare


def test_the_more_two_runs_err_on_the_same_pictures_the_narrower_their_difference():
    widths = [high - low for low, high in (compute_paired_interval(n + 10, n, 1000) for n in (0, 50, 200))]
    assert widths == sorted(widths)
    apart = compute_sum_interval([Count(210, 1000)], [Count(200, 1000)])
    assert widths[0] < (apart[1] - apart[0]) / 4


def test_paired_interval_stays_within_one():
    assert compute_paired_interval(20, 0, 20)[1] <= 1
    assert compute_paired_interval(0, 20, 20)[0] >= -1


def test_interval_of_an_independent_difference_is_newcombe_s():
    low, high = compute_sum_interval([Count(56, 70)], [Count(48, 80)])  # Newcombe 1998, table II, method 10
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


def test_interval_of_one_error_alone_is_wilson_s():
    assert compute_sum_interval([Count(20, 200)], []) == pytest.approx(compute_interval(Count(20, 200)))


def test_interval_of_a_difference_of_gaps_holds_the_truth_about_95_times_in_100():
    generator, num = np.random.default_rng(3), 300
    shares = (0.40, 0.35, 0.10, 0.30)
    draws = generator.binomial(num, shares, (NUM_DRAWS // 4, 4))
    held = []
    for worse_val, better, worse, better_val in draws.tolist():
        counts = [Count(errors, num) for errors in (worse_val, better, worse, better_val)]
        low, high = compute_sum_interval(counts[:2], counts[2:])
        held.append(low <= shares[0] + shares[1] - shares[2] - shares[3] <= high)
    assert 0.93 < np.mean(held) < 0.97
