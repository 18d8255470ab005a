"""Published rules for pairs: which pairs count, and what a tie is worth.

A rule gives each pair a credit and a weight; a figure is the sum of the credits by the sum of the
weights, so that its interval is that of a ratio of sums over prompts. docs/benchmarks.md has the
rules of each set.

Shapes: P pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from zreward_core.commands.benchmark.judges import Decisions

CONFIDENT = 0.95
"""``confidence_threshold`` of HPSv3's hpsv3/config/HPSv3_7B.yaml."""
Credit = tuple[np.ndarray, np.ndarray]
"""[P] credit of each pair, and [P] its weight."""


@dataclass(frozen=True)
class PairRule:
    """A rule."""

    name: str
    meaning: str
    source: str
    """Repository and file."""
    credit: Callable[[pd.DataFrame, Decisions], Credit]


def _right(label_P: np.ndarray, difference_P: np.ndarray) -> np.ndarray:
    return (label_P * difference_P > 0).astype(float)


def strict(pairs: pd.DataFrame, judge: Decisions) -> Credit:
    """Pairs with a preference, in the listed order; a predicted tie is wrong."""
    label_P = pairs["label"].to_numpy(float)
    return _right(label_P, judge.listed), (label_P != 0).astype(float)


def both_orders(pairs: pd.DataFrame, judge: Decisions) -> Credit:
    """The same, each pair shown in both orders; also the expectation of a random order."""
    label_P = pairs["label"].to_numpy(float)
    credit_P = (_right(label_P, judge.listed) + _right(label_P, judge.swapped)) / 2
    return credit_P, (label_P != 0).astype(float)


def ties_never_right(pairs: pd.DataFrame, judge: Decisions) -> Credit:
    """Both orders; pairs without a preference count, and no answer to them is right."""
    credit_P, _ = both_orders(pairs, judge)
    return credit_P, np.ones(len(pairs))


def four_classes(pairs: pd.DataFrame, judge: Decisions) -> Credit:
    """All pairs; a predicted tie is right where people said tie or both bad."""
    label_P = pairs["label"].to_numpy(float)
    agreed_P = (label_P == 0) & (judge.listed == 0)
    return _right(label_P, judge.listed) + agreed_P, np.ones(len(pairs))


def predicted_ties_left_out(pairs: pd.DataFrame, judge: Decisions) -> Credit:
    """Pairs with a preference for which the judge has one, too."""
    credit_P, weight_P = strict(pairs, judge)
    return credit_P, weight_P * (judge.listed != 0)


def confident(pairs: pd.DataFrame, judge: Decisions) -> Credit:
    """``strict``, without pairs whose label has a known confidence below ``CONFIDENT``."""
    credit_P, weight_P = strict(pairs, judge)
    kept_P = ~(pairs["confidence"].to_numpy(float) < CONFIDENT)
    return credit_P * kept_P, weight_P * kept_P


def mean_of_rankings(pairs: pd.DataFrame, judge: Decisions) -> Credit:
    """``strict``, as the mean over rankings of the share within each."""
    return _by_ranking(pairs, *strict(pairs, judge))


def inversions(pairs: pd.DataFrame, judge: Decisions) -> Credit:
    """Pairs that are not inverted, as the mean over rankings.

    Pairs that people ranked equal are always right. The judge's scores are ranked by ``argsort``,
    so that of two equal scores the one that is listed first is better.
    """
    label_P = pairs["label"].to_numpy(float)
    predicted_P = np.where(judge.listed == 0, 1.0, judge.listed)
    return _by_ranking(pairs, (label_P * predicted_P >= 0).astype(float), np.ones(len(pairs)))


def _by_ranking(pairs: pd.DataFrame, credit_P: np.ndarray, weight_P: np.ndarray) -> Credit:
    """Weights that add up to 1 in each ranking with a counted pair."""
    ranking_P = pairs["ranking"].to_numpy(int)
    totals = np.bincount(ranking_P, weights=weight_P)
    share_P = weight_P / np.maximum(totals[ranking_P], 1)
    return credit_P * share_P, share_P


EITHER_ORDER = PairRule(
    "either order",
    "each pair in both orders; ties of people left out, a predicted tie is wrong",
    "facebookresearch/MMRB2, evaluate/compute_scores/compute_accuracy.py",
    both_orders,
)
IN_ORDER = PairRule(
    "for comparison: either order",
    "each pair in both orders, so that a preference for a position is worth nothing",
    "not published for this set; the order of MMRB2",
    both_orders,
)
TIGER_RULES = (
    PairRule(
        "four classes",
        "all pairs; a predicted tie is right for 'tie' and for 'both bad'",
        "TIGER-AI-Lab/GenAI-Bench, inference.py, parse_response",
        four_classes,
    ),
    PairRule(
        "without ties",
        "ties and 'both bad' left out, random order, a predicted tie is wrong",
        "CodeGoat24/UnifiedReward, benchmark_evaluation/vLLM_evaluation/test_qwen_genai_image.py",
        both_orders,
    ),
    PairRule(
        "ties never right",
        "all pairs; ties and 'both bad' count as wrong",
        "CodeGoat24/UnifiedReward, benchmark_evaluation/Qwen_evaluation/"
        "test_qwen_genAI_bench_image.py, 'Acc.'",
        ties_never_right,
    ),
)
HPDV3_RULES = (
    PairRule(
        "listed order",
        "the first is always the preferred one; a predicted tie is wrong",
        "MizzenAI/HPSv3, hpsv3/model/qwen2vl_trainer.py, compute_multi_attr_accuracy",
        strict,
    ),
    PairRule(
        f"confidence from {CONFIDENT}",
        "the same, without pairs of a lower confidence",
        "MizzenAI/HPSv3, hpsv3/config/HPSv3_7B.yaml, confidence_threshold",
        confident,
    ),
    IN_ORDER,
)
MJ_RULES = (
    PairRule(
        "with ties",
        "listed order; a predicted tie is wrong",
        "MJ-Bench/MJ-Bench, personal/test.py, 're-introduce'",
        strict,
    ),
    PairRule(
        "without ties",
        "listed order; predicted ties are left out",
        "MJ-Bench/MJ-Bench, personal/test.py, 'filter tie'",
        predicted_ties_left_out,
    ),
    IN_ORDER,
)
POOLED = PairRule(
    "pooled pairs",
    "all pairs of all rankings; ties of people left out, a predicted tie is wrong",
    "THUDM/ImageReward, test.py, acc",
    strict,
)
RANKING_MEAN = PairRule(
    "mean of rankings",
    "mean over rankings of the share of right pairs; ties as in 'pooled pairs'",
    "tgxs002/HPSv2, hpsv2/src/training/train.py, calc_ImageReward",
    mean_of_rankings,
)
INVERSIONS = PairRule(
    "inversions",
    "mean over rankings; ties of people are right, of equal scores the first is better",
    "tgxs002/HPSv2, hpsv2/src/training/train.py, inversion_score",
    inversions,
)
