"""Published rules for absolute ratings: correlations, and pairwise accuracy with tied scores.

Each figure comes with resamples over prompts. What is fitted (ranks, the logistic curve, the
threshold of a tie) is fitted on all images and kept in the resamples.

Shapes: N images, Q prompts, R resamples.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

NUM_STEPS = 10_000
"""Function evaluations after which the logistic fit is given up."""
ROWS = 256
"""Images whose pairs are held in memory at a time."""


class Figure(NamedTuple):
    """A value with its resamples."""

    value: float
    resamples_R: np.ndarray


@dataclass(frozen=True)
class Ratings:
    """What a rule compares."""

    predicted_N: np.ndarray
    human_N: np.ndarray
    prompt_N: np.ndarray
    """Prompt of each image, 0 to Q - 1."""
    counts_RQ: np.ndarray
    """How often each prompt is drawn (``evaluation.bootstrap.resample``)."""


@dataclass(frozen=True)
class ScoreRule:
    """A rule."""

    name: str
    meaning: str
    source: str
    """Repository and file."""
    figure: Callable[[Ratings], Figure]
    as_written: bool = False
    """Use the means of the scores as written, out of range or not."""


def pearson(ratings: Ratings) -> Figure:
    """Pearson correlation."""
    return _pearson(ratings, ratings.predicted_N, ratings.human_N)


def spearman(ratings: Ratings) -> Figure:
    """Spearman correlation: Pearson's of the ranks."""
    ranks = stats.rankdata(ratings.predicted_N), stats.rankdata(ratings.human_N)
    return _pearson(ratings, *ranks)


def pearson_of_logistic(ratings: Ratings) -> Figure:
    """Pearson correlation after a logistic curve from predictions to human scores."""
    mapped_N = _logistic(ratings.predicted_N, ratings.human_N)
    return _pearson(ratings, mapped_N, ratings.human_N)


def pearson_of_reversed_logistic(ratings: Ratings) -> Figure:
    """The same with the curve fitted from human scores to predictions."""
    mapped_N = _logistic(ratings.human_N, ratings.predicted_N)
    return _pearson(ratings, mapped_N, ratings.predicted_N)


def kendall_b(ratings: Ratings) -> Figure:
    """Kendall's tau-b over all pairs of images, of one prompt or not."""
    sums = {"order": 0.0, "predicted": 0.0, "human": 0.0}
    matrices = {name: _PromptPairs(ratings) for name in sums}
    for block in _blocks(ratings):
        order = np.sign(block.predicted_BN) * np.sign(block.human_BN)
        matrices["order"].add(block, order)
        matrices["predicted"].add(block, (block.predicted_BN != 0).astype(float))
        matrices["human"].add(block, (block.human_BN != 0).astype(float))
    order, predicted, human = (one.totals() for one in matrices.values())
    with np.errstate(divide="ignore", invalid="ignore"):
        tau = order / np.sqrt(predicted * human)
    return Figure(float(tau[0]), tau[1:])


def pairwise_with_ties(ratings: Ratings) -> Figure:
    """Pairwise accuracy with tie optimisation over all pairs of images.

    Predictions that differ by at most a threshold are tied. A pair is right if it is ordered as by
    people, or tied in both. The threshold is the one with the best result. Source: Deutsch et al.
    2023, "Ties Matter: Meta-Evaluating Modern Metrics with Pairwise Accuracy and Tie Calibration",
    arXiv:2305.14324.
    """
    threshold = _tie_threshold(ratings)
    right = _PromptPairs(ratings)
    everything = _PromptPairs(ratings)
    for block in _blocks(ratings):
        tied = np.abs(block.predicted_BN) <= threshold
        same = tied & (block.human_BN == 0)
        ordered = ~tied & (block.predicted_BN * block.human_BN > 0)
        right.add(block, (same | ordered).astype(float))
        everything.add(block, np.ones_like(block.human_BN))
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = right.totals() / everything.totals()
    return Figure(float(shares[0]), shares[1:])


def _tie_threshold(ratings: Ratings) -> float:
    """The smallest of the best thresholds."""
    ordered, tied = [], []
    for block in _blocks(ratings):
        upper = np.arange(len(ratings.human_N)) > block.rows_B[:, None]
        distance = np.abs(block.predicted_BN)
        ordered.append(distance[upper & (block.predicted_BN * block.human_BN > 0)])
        tied.append(distance[upper & (block.human_BN == 0) & (distance > 0)])
    lost, won = np.concatenate(ordered), np.concatenate(tied)
    distances = np.concatenate([[0.0], lost, won])
    gains = np.concatenate([[0.0], -np.ones(len(lost)), np.ones(len(won))])
    # of equal distances the losses come first: no partial sum is above those at both ends
    order = np.argsort(distances, kind="stable")
    return float(distances[order][int(np.cumsum(gains[order]).argmax())])


def _logistic(x_N: np.ndarray, y_N: np.ndarray) -> np.ndarray:
    """x on the four-parameter logistic curve that is nearest to y; NaN if there is no fit."""
    undefined_N = np.full(len(x_N), np.nan)
    if np.ptp(x_N) == 0 or np.ptp(y_N) == 0:
        return undefined_N

    def curve(x: np.ndarray, top: float, bottom: float, middle: float, width: float) -> np.ndarray:
        return bottom + (top - bottom) * special.expit((x - middle) / abs(width))

    start = (y_N.max(), y_N.min(), x_N.mean(), x_N.std())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optimize.OptimizeWarning)
        try:
            best, _ = optimize.curve_fit(curve, x_N, y_N, p0=start, maxfev=NUM_STEPS)
        except RuntimeError:
            return undefined_N
    return curve(x_N, *best)


def _pearson(ratings: Ratings, x_N: np.ndarray, y_N: np.ndarray) -> Figure:
    number_Q = ratings.counts_RQ.shape[1]
    x_N, y_N = x_N - x_N.mean(), y_N - y_N.mean()
    terms = (np.ones(len(x_N)), x_N, y_N, x_N * x_N, y_N * y_N, x_N * y_N)
    sums = np.stack([np.bincount(ratings.prompt_N, term, number_Q) for term in terms])
    counts = np.vstack([np.ones(number_Q), ratings.counts_RQ])
    n, x, y, xx, yy, xy = sums @ counts.T
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = (n * xx - x * x) * (n * yy - y * y)
        found = (n * xy - x * y) / np.sqrt(np.where(spread > 0, spread, np.nan))
    return Figure(float(found[0]), found[1:])


class _Block(NamedTuple):
    """Differences of some images from all images."""

    rows_B: np.ndarray
    predicted_BN: np.ndarray
    human_BN: np.ndarray


def _blocks(ratings: Ratings) -> Iterator[_Block]:
    for start in range(0, len(ratings.human_N), ROWS):
        rows_B = np.arange(start, min(start + ROWS, len(ratings.human_N)))
        predicted_BN = ratings.predicted_N[rows_B, None] - ratings.predicted_N[None]
        yield _Block(rows_B, predicted_BN, ratings.human_N[rows_B, None] - ratings.human_N[None])


class _PromptPairs:
    """Sums over pairs of images, by the pair of their prompts.

    A resample draws whole prompts, so its total is a quadratic form of the counts.
    """

    def __init__(self, ratings: Ratings) -> None:
        self._ratings = ratings
        number = ratings.counts_RQ.shape[1]
        self._sums_QQ = np.zeros((number, number))
        self._order_N = np.argsort(ratings.prompt_N, kind="stable")
        self._present, self._starts = np.unique(ratings.prompt_N[self._order_N], return_index=True)

    def add(self, block: _Block, values_BN: np.ndarray) -> None:
        """Add the pairs of some images; an image is not paired with itself."""
        values_BN[np.arange(len(block.rows_B)), block.rows_B] = 0.0
        by_prompt_BQ = np.add.reduceat(values_BN[:, self._order_N], self._starts, axis=1)
        rows = self._ratings.prompt_N[block.rows_B]
        whole = np.zeros((len(rows), len(self._sums_QQ)))
        whole[:, self._present] = by_prompt_BQ
        np.add.at(self._sums_QQ, rows, whole)

    def totals(self) -> np.ndarray:
        """Total of all images, then of each resample."""
        counts = np.vstack([np.ones(len(self._sums_QQ)), self._ratings.counts_RQ])
        return ((counts @ self._sums_QQ) * counts).sum(axis=1)


_T2V = "linzhiqiu/t2v_metrics, dataset.py, GenAIBench_Image.correlation"
_NTIRE = "DYEvaLab/EvalMuse, NTIRE2025/Track1_Alignment/evaluate.py"
SRCC = ScoreRule("srcc", "Spearman correlation", "DYEvaLab/EvalMuse, README.md", spearman)
CMU_RULES = (
    ScoreRule("pearson", "Pearson correlation", _T2V, pearson),
    ScoreRule("kendall", "Kendall's tau-b over all pairs of images", _T2V, kendall_b),
    ScoreRule(
        "pairwise accuracy",
        "all pairs of images; predictions within the best threshold are tied",
        f"{_T2V}; tau_optimization.py",
        pairwise_with_ties,
    ),
    SRCC,
    ScoreRule("pearson, as written", "out-of-range scores included", _T2V, pearson, True),
    ScoreRule("kendall, as written", "out-of-range scores included", _T2V, kendall_b, True),
    ScoreRule(
        "pairwise accuracy, as written",
        "out-of-range scores included",
        f"{_T2V}; tau_optimization.py",
        pairwise_with_ties,
        True,
    ),
)
EVALMUSE_RULES = (
    SRCC,
    ScoreRule(
        "plcc",
        "Pearson correlation after a logistic curve from predictions to human scores",
        "DYEvaLab/EvalMuse, utils.py, compute_metrics",
        pearson_of_logistic,
    ),
    ScoreRule(
        "plcc, ntire",
        "the same with the curve fitted from human scores to predictions",
        f"{_NTIRE}, calculate_score",
        pearson_of_reversed_logistic,
    ),
    ScoreRule("pearson", "Pearson correlation, no curve", "for comparison", pearson),
)
