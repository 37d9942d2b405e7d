"""Verdicts, each by a rule that the report prints."""

import math
from collections.abc import Sequence
from typing import Literal

from pipeline import paper
from pipeline.claims import Claim
from pipeline.report.answer import Measurement, Verdict
from pipeline.report.intervals import Interval

WORST: tuple[Verdict, ...] = ("not reproduced", "within noise", "reproduced")
SPREADS = {"top1": paper.SOURCE_SPREAD_TOP1, "top5": paper.SOURCE_SPREAD_TOP5}
COLOR_LEVEL, MAX_P = 0.5, 0.05

RULES = f"""\
- **What takes a row**: runs of the registered experiment, of any seed and otherwise unchanged, from committed code \
at every start, on the whole of the official data set, through all epochs, evaluated after the last one. Rows that \
no such run answers say `not run`.
- **Intervals** are at 95% and over pictures: another draw of as many pictures would move the number so far. They \
do not say how far another seed would. Of an error: Wilson's. Of a difference on the same pictures: Bonett and \
Price's of 2012, from which pictures each run got wrong. Of differences between errors in training: Zou and Donner's \
of 2008, from Wilson's.
- **The paper's number** stands for all that round to it; "about" is to the nearest percent, "over" is no upper \
bound.
- **Errors** are `reproduced` where the interval reaches the paper's number; `within noise` where that of a single \
run misses it by no more than the source's sibling runs lie from the one in Table 2, {SPREADS["top1"] * 100:.2f} \
percentage points of top-1 and {SPREADS["top5"] * 100:.2f} of top-5; otherwise `not reproduced`, and whether lower or \
higher is said. The worse one of top-1 and top-5 counts.
- **What something is worse by** is `reproduced` where the interval reaches the paper's number and not zero; `within \
noise` where it reaches both, so that no effect would look alike; `not reproduced` where it misses the paper's \
number.
- **Weight decay**: the training error of the last epoch, as measured under augmentation and dropout while the \
network learns, without weight decay less that with it, is to be above zero; the rule for differences holds. The \
errors count as those of independent pictures.
- **Dropout**: validation less training error, both of the finished network on centre patches, without dropout less \
with it, is to be above zero; the rule for differences holds.
- **Fig. 1**: each curve's mean training error by epoch, its points joined by lines, is followed to 25%. \
`reproduced` where the ratio of epochs rounds to the paper's; a curve that ends before gives a bound, `within noise` \
while the paper's number lies within it. One run each: there is no interval.
- **Counts** are computed from the registered network's layers, biases included, and `reproduced` where their two \
leading digits, cut off and not rounded, are the paper's.
- **Fig. 3**: of each kernel of the first layer, the share of the sum of its squared weights that is left when at \
each pixel the mean of red, green and blue is taken away. `reproduced` where the towers' medians lie on both sides \
of {COLOR_LEVEL:.0%} and a two-sided Mann-Whitney test gives p < {MAX_P}; `within noise` where only the test does \
not; `not reproduced` where the medians lie on one side. Kernels without a pattern have 67%.
- **Time and Fig. 4** get `no verdict`: the hardware is another, and pictures are for the reader to judge.\
"""
"""In Markdown."""


def judge_errors(
    claim: Claim, top1: Measurement, top5: Measurement, kind: Literal["one run", "ensemble", "difference"]
) -> tuple[Verdict, tuple[str, ...]]:
    """The worse verdict of the two errors, and what misses the paper's number in which direction."""
    assert not isinstance(claim.paper, str)
    verdicts, remarks = list[Verdict](), list[str]()
    for name, measured in (("top1", top1), ("top5", top5)):
        number = getattr(claim.paper, name)
        if number is None:
            continue
        claimed = find_claimed(number, precision=claim.precision, at_least=claim.at_least)
        if kind == "difference":
            verdicts.append(judge_difference(measured.interval, claimed))
        else:
            verdicts.append(judge_error(measured.interval, claimed, SPREADS[name] if kind == "one run" else 0.0))
        if compute_distance(measured.interval, claimed) > 0:
            direction = "lower" if measured.interval[1] < claimed[0] else "higher"
            remarks.append(f"{name.replace('top', 'top-')} {direction} than the paper's")
    return find_worst(verdicts), tuple(remarks)


def find_claimed(number: float, *, precision: float, at_least: bool = False) -> Interval:
    """All that the paper's number stands for."""
    return (number, math.inf) if at_least else (number - precision / 2, number + precision / 2)


def compute_distance(interval: Interval, claimed: Interval) -> float:
    """How far two intervals lie apart; 0 where they touch."""
    return max(0.0, claimed[0] - interval[1], interval[0] - claimed[1])


def judge_error(interval: Interval, claimed: Interval, spread: float) -> Verdict:
    """Whether an error is the paper's, or no further from it than the source's own runs are."""
    distance = compute_distance(interval, claimed)
    if distance == 0:
        return "reproduced"
    return "within noise" if distance <= spread else "not reproduced"


def judge_difference(interval: Interval, claimed: Interval) -> Verdict:
    """Whether a difference is the paper's, and can be told from none."""
    if compute_distance(interval, claimed) > 0:
        return "not reproduced"
    return "within noise" if interval[0] <= 0 <= interval[1] else "reproduced"


def judge_bounds(bounds: Interval, claimed: Interval) -> Verdict:
    """Whether all that a number can be is the paper's, or only some of it, or none."""
    if compute_distance(bounds, claimed) > 0:
        return "not reproduced"
    return "reproduced" if claimed[0] <= bounds[0] and bounds[1] <= claimed[1] else "within noise"


def judge_count(count: int, number: int) -> Verdict:
    """Whether a count's two leading digits are the paper's."""
    unit = 10 ** (len(str(count)) - 2)
    return "reproduced" if count // unit * unit == number else "not reproduced"


def judge_colors(medians: Sequence[float], p: float) -> Verdict:
    """Whether the kernels of one tower are mostly grey and those of another mostly not."""
    if not min(medians) < COLOR_LEVEL < max(medians):
        return "not reproduced"
    return "reproduced" if p < MAX_P else "within noise"


def find_worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on all together."""
    return next(verdict for verdict in WORST if verdict in verdicts)
