"""Figures of judges and of single annotators, with intervals over prompts.

Shapes: P pairs, N images, Q prompts, R resamples.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from zreward_core.annotations.quality.agreement import alpha_interval, ordinal_alpha
from zreward_core.commands.benchmark.judges import Decisions
from zreward_core.commands.benchmark.pair_rules import Credit, PairRule
from zreward_core.commands.benchmark.score_rules import Figure, Ratings, ScoreRule
from zreward_core.commands.benchmark.tables import PairSet, RatedSet
from zreward_core.evaluation.bootstrap import (
    NUM_RESAMPLES,
    Interval,
    percentile_bounds,
    ratio_interval,
    resample,
    sum_by_prompt,
)
from zreward_core.schemas import normalise_prompt

RATER = "one annotator"
"""A single annotator, judged by the mean of the others."""
MIN_PROMPTS = 2
"""Fewer prompts have no spread to resample: the interval is undefined."""
UNDEFINED = Interval(float("nan"), float("nan"), float("nan"))


class Result(NamedTuple):
    """A figure."""

    rule: str
    judge: str
    subset: str
    """Empty for the whole set."""
    value: float
    low: float
    high: float
    number: int
    """Counted pairs, or images."""


def pair_results(
    found: PairSet,
    rules: Sequence[PairRule],
    judges: Mapping[str, Decisions],
    seed: int,
    num_resamples: int = NUM_RESAMPLES,
) -> list[Result]:
    """Figures of all judges under all rules, for the set and each of its subsets."""
    prompts = pd.factorize(found.pairs["prompt"])[0]
    counts_RQ = resample(int(prompts.max()) + 1, seed, num_resamples)
    subsets = found.pairs["subset"].to_numpy()
    masks = {"": np.ones(len(subsets), dtype=bool)}
    names = dict.fromkeys(subsets)
    masks |= {name: subsets == name for name in names if len(names) > 1}
    results = []
    for rule in rules:
        credits = {name: rule.credit(found.pairs, judge) for name, judge in judges.items()}
        if found.votes.shape[1] > 1:
            credits[RATER] = _rater_credit(found, rule)
        for judge, (credit_P, weight_P) in credits.items():
            for subset, mask_P in masks.items():
                credit_Q, weight_Q = (
                    sum_by_prompt(values * mask_P, prompts, counts_RQ.shape[1])
                    for values in (credit_P, weight_P)
                )
                interval = ratio_interval(credit_Q, weight_Q, counts_RQ)
                if counts_RQ.shape[1] < MIN_PROMPTS:
                    interval = Interval(interval.value, *UNDEFINED[1:])
                number = int(((weight_P > 0) & mask_P).sum())
                results.append(Result(rule.name, judge, subset, *interval, number))
    return results


def _rater_credit(found: PairSet, rule: PairRule) -> Credit:
    """Each annotator's votes as decisions, and the mean of the others' votes as label."""
    credit_P, weight_P = np.zeros(len(found.pairs)), np.zeros(len(found.pairs))
    for rater, others in _left_out(found.votes):
        known = ~np.isnan(rater) & ~np.isnan(others)
        labelled = found.pairs[known].assign(label=np.sign(others[known]))
        one_credit, one_weight = rule.credit(labelled, Decisions(rater[known], rater[known]))
        credit_P[known] += one_credit
        weight_P[known] += one_weight
    return credit_P, weight_P


def score_results(
    found: RatedSet,
    rules: Sequence[ScoreRule],
    judges: Mapping[str, np.ndarray],
    seed: int,
    num_resamples: int = NUM_RESAMPLES,
) -> list[Result]:
    """Figures of all judges under all rules."""
    keys = [normalise_prompt(image.prompt or "") for image in found.images]
    prompts = pd.factorize(np.array(keys, dtype=object))[0]
    num_prompts = int(prompts.max()) + 1
    counts_RQ = resample(num_prompts, seed, num_resamples)
    human_N = np.nanmean(found.scores, axis=1)
    same = np.array_equal(human_N, found.written)
    results = []
    for rule in rules:
        if rule.as_written and same:
            continue
        label_N = found.written if rule.as_written else human_N
        for judge, predicted_N in judges.items():
            figure = rule.figure(Ratings(predicted_N, label_N, prompts, counts_RQ))
            results.append(_result(rule, judge, [figure], len(label_N), num_prompts))
        if found.scores.shape[1] > 1 and not rule.as_written:
            figures, number = _rater_figures(found.scores, rule, prompts, counts_RQ)
            results.append(_result(rule, RATER, figures, number, num_prompts))
    return results


def _result(
    rule: ScoreRule, judge: str, figures: Sequence[Figure], number: int, num_prompts: int
) -> Result:
    """The mean of figures over the same resamples."""
    value = float(np.mean([figure.value for figure in figures]))
    resamples_R = np.mean([figure.resamples_R for figure in figures], axis=0)
    undefined = np.isnan(value) or np.isnan(resamples_R).all() or num_prompts < MIN_PROMPTS
    bounds = UNDEFINED[1:] if undefined else percentile_bounds(resamples_R)
    return Result(rule.name, judge, "", value, *bounds, number)


def _rater_figures(
    scores_NR: np.ndarray, rule: ScoreRule, prompts: np.ndarray, counts_RQ: np.ndarray
) -> tuple[list[Figure], int]:
    """A figure for each annotator against the mean of the others, and the mean number of images."""
    figures, numbers = [], []
    for rater, others in _left_out(scores_NR):
        known = ~np.isnan(rater) & ~np.isnan(others)
        if known.sum() > 1:
            ratings = Ratings(rater[known], others[known], prompts[known], counts_RQ)
            figures.append(rule.figure(ratings))
            numbers.append(int(known.sum()))
    nothing = Figure(float("nan"), np.full(len(counts_RQ), np.nan))
    return figures or [nothing], round(float(np.mean(numbers))) if numbers else 0


def _left_out(values_NR: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each annotator's values and the mean of the others' values; NaN where there are none."""
    given_NR = ~np.isnan(values_NR)
    sums_N, numbers_N = np.where(given_NR, values_NR, 0.0).sum(axis=1), given_NR.sum(axis=1)
    found = []
    for rater_N, has_N in zip(values_NR.T, given_NR.T, strict=True):
        others_N = numbers_N - has_N
        sum_N = sums_N - np.where(has_N, rater_N, 0.0)
        mean_N = np.where(others_N > 0, sum_N / np.maximum(others_N, 1), np.nan)
        found.append((rater_N, mean_N))
    return found


def raters_alpha(found: PairSet | RatedSet, seed: int) -> Interval:
    """Krippendorff's ordinal alpha of the annotators, with an interval over images or pairs.

    Pairs are turned at random: in sets that list the preferred image first, most votes would agree
    by the order alone, and alpha would be too low.
    """
    if isinstance(found, RatedSet):
        values = found.scores
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], len(found.votes))
        values = found.votes * signs[:, None]
    given = ~np.isnan(values)
    if not given.any():
        return UNDEFINED
    units, scores = given.nonzero()[0], values[given]
    return Interval(ordinal_alpha(units, scores), *alpha_interval(units, scores, seed))
