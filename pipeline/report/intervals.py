"""95% intervals of errors and of their differences, all of them over pictures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binomtest, norm

CONFIDENCE = 0.95
Z = float(norm.ppf((1 + CONFIDENCE) / 2))

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Count:
    """So many errors among so many pictures."""

    num_errors: int
    num_images: int

    @property
    def error(self) -> float:
        """As a fraction."""
        return self.num_errors / self.num_images


def compute_interval(count: Count) -> Interval:
    """That of an error, as fractions (Wilson's)."""
    interval = binomtest(count.num_errors, count.num_images).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def compute_paired_interval(num_only_first: int, num_only_second: int, num_images: int) -> Interval:
    """That of the first error less the second on the same pictures (adjusted Wald: Bonett and Price 2012).

    Args:
        num_only_first: pictures that only the first one gets wrong.
        num_only_second: pictures that only the second one gets wrong.
        num_images: all pictures.
    """
    first, second = (num_only_first + 1) / (num_images + 2), (num_only_second + 1) / (num_images + 2)
    reach = Z * math.sqrt((first + second - (first - second) ** 2) / (num_images + 2))
    return max(-1.0, first - second - reach), min(1.0, first - second + reach)


def compute_sum_interval(added: Sequence[Count], subtracted: Sequence[Count]) -> Interval:
    """That of a sum and difference of errors on independent pictures, from Wilson's of each (Zou and Donner 2008).

    Of one error less another it is Newcombe's (1998, method 10).
    """
    value = sum(count.error for count in added) - sum(count.error for count in subtracted)
    plus = [(count.error, *compute_interval(count)) for count in added]
    minus = [(count.error, *compute_interval(count)) for count in subtracted]
    below = math.hypot(*(error - low for error, low, _ in plus), *(high - error for error, _, high in minus))
    above = math.hypot(*(high - error for error, _, high in plus), *(error - low for error, low, _ in minus))
    return value - below, value + above
