"""Methods compared over prompts and seeds: a cluster bootstrap over both, shared by all methods.

Shapes: K seeds, Q prompts, R draws, N items, P pairs. The first draw is everything once; the others
draw prompts and seeds with replacement. Every method is measured on the same draws, so differences
are paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from zreward_core.evaluation.bootstrap import CONFIDENCE, NUM_RESAMPLES, Interval, resample
from zreward_core.evaluation.preference import MARGIN, agreements, counted_pairs
from zreward_core.evaluation.report import Reference, align_prediction, build_reference, measure

INTERVALS = ("hpa", "margin_hpa", "plcc", "gap_error")
"""Figures that have an interval."""


@dataclass(frozen=True)
class Comparison:
    """The test split and the draws that all methods are measured on."""

    reference: Reference
    prompts_N: np.ndarray
    """Position of each item's prompt among the reference's Q; -1 where it has no pair."""
    counts_RQ: np.ndarray
    """How often each draw has each prompt."""
    counts_RK: np.ndarray
    """The same of the seeds."""


@dataclass(frozen=True)
class Runs:
    """One method's K runs."""

    metrics: list[dict[str, Any]]
    """Of each seed, as ``report.measure`` gives them overall."""
    right_KQ: np.ndarray
    """Pairs ordered as annotated, by prompt."""
    wide_KQ: np.ndarray
    """The same of the pairs that differ by more than ``MARGIN``."""
    gap_errors_KQ: np.ndarray
    """By prompt the sum over pairs of |predicted - annotated gap|, in rubric points."""
    moments_KQM: np.ndarray
    """By prompt the sums of 1, x, y, xx, yy, xy over items, x predicted and y annotated."""


def build_comparison(
    items: pd.DataFrame,
    pairs: pd.DataFrame,
    num_seeds: int,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> Comparison:
    """Draw what all methods are measured on.

    Args:
        items: rows of ``schemas.ITEMS`` of the test split.
        pairs: rows of ``schemas.PAIRS`` of the test split.
        num_seeds: K.
        seed: of the draws.
        num_resamples: R - 1.
    """
    reference = build_reference(items, pairs, seed, num_resamples)
    prompts = pd.Index(np.unique(pairs["prompt_id"].to_numpy(dtype=str)))
    return Comparison(
        reference=reference,
        prompts_N=prompts.get_indexer(items["prompt_id"].to_numpy(dtype=str)),
        counts_RQ=_with_all(reference.counts_RQ),
        counts_RK=_with_all(resample(num_seeds, seed + 1, num_resamples)),
    )


def measure_runs(predictions: Sequence[pd.DataFrame], comparison: Comparison, name: str) -> Runs:
    """Measure a method's runs, a table of predictions for each seed.

    Raises:
        ValueError: an item without a prediction, or with two.
    """
    reference = comparison.reference
    num_prompts = comparison.counts_RQ.shape[1]
    known_N = comparison.prompts_N >= 0
    scores_P2 = reference.pair_scores_P2
    metrics: list[dict[str, Any]] = []
    right: list[np.ndarray] = []
    wide: list[np.ndarray] = []
    gap_errors: list[np.ndarray] = []
    moments: list[np.ndarray] = []
    for frame in predictions:
        prediction = align_prediction(frame, reference, name)
        winners_P = prediction.means_N[reference.winners_P]
        losers_P = prediction.means_N[reference.losers_P]
        agree_P = agreements(winners_P, losers_P, scores_P2[:, 0], scores_P2[:, 1])
        for kept, margin in ((right, 0.0), (wide, MARGIN)):
            counted_P = counted_pairs(scores_P2[:, 0], scores_P2[:, 1], margin)
            kept.append(_by_prompt(agree_P & counted_P, reference.prompts_P, num_prompts))
        counted_P = counted_pairs(scores_P2[:, 0], scores_P2[:, 1], 0.0)
        errors_P = np.abs(winners_P - losers_P - (scores_P2[:, 0] - scores_P2[:, 1]))
        gap_errors.append(_by_prompt(errors_P * counted_P, reference.prompts_P, num_prompts))
        gap_error = float(errors_P[counted_P].mean()) if counted_P.any() else None
        metrics.append(measure(prediction, reference)["overall"] | {"gap_error": gap_error})
        x, y = prediction.means_N, reference.scores_N
        products = (np.ones_like(x), x, y, x * x, y * y, x * y)
        prompts = comparison.prompts_N[known_N]
        sums = [_by_prompt(product[known_N], prompts, num_prompts) for product in products]
        moments.append(np.stack(sums, axis=-1))
    return Runs(metrics, *map(np.stack, (right, wide, gap_errors, moments)))


def first_seeds(runs: Runs, count: int) -> Runs:
    """The runs of the first seeds alone, for a difference from a method that has no more."""
    return Runs(
        runs.metrics[:count],
        runs.right_KQ[:count],
        runs.wide_KQ[:count],
        runs.gap_errors_KQ[:count],
        runs.moments_KQM[:count],
    )


def summarise(runs: Runs, comparison: Comparison) -> dict[str, Any]:
    """A row of a table: means over seeds, with intervals over prompts and seeds where there are.

    Returns:
        hpa, margin_hpa, plcc, gap_error with their _low and _high; srcc, nll, ece, output_tokens;
        num_seeds.
    """
    row: dict[str, Any] = {"num_seeds": len(runs.metrics)}
    for name in (*INTERVALS, "srcc", "nll", "ece", "output_tokens"):
        values = [entry[name] for entry in runs.metrics]
        row[name] = None if None in values else float(np.mean(values))
    for name, values_R in _resampled(runs, comparison).items():
        interval = _interval(values_R)
        row[f"{name}_low"], row[f"{name}_high"] = interval.low, interval.high
    return row


def differences(first: Runs, second: Runs, comparison: Comparison) -> dict[str, Interval]:
    """HPA, margin HPA, PLCC and gap error of the first method minus those of the second.

    Both are measured on the same draws.
    """
    ours, theirs = (_resampled(runs, comparison) for runs in (first, second))
    return {name: _interval(ours[name] - theirs[name]) for name in INTERVALS}


def gsb_gain(
    first: Sequence[pd.DataFrame],
    second: Sequence[pd.DataFrame],
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> Interval:
    """GSB (equation 21) of the first tuned generator minus that of the second, overall.

    Args:
        first, second: for each of K seeds the judgements of both against one base, rows with
            prompt_id and verdict_overall ("good", "same" or "bad"); the same pairs in all.
        seed: of the draws.
        num_resamples: R - 1.

    Raises:
        ValueError: judgements of other pairs.
    """
    tables = [pd.concat([_leads(table) for table in tables], axis=1) for tables in (first, second)]
    sizes = pd.concat([table.groupby("prompt_id").size() for table in (*first, *second)], axis=1)
    if sizes.isna().to_numpy().any() or (sizes.nunique(axis=1) > 1).any():
        raise ValueError("generators were judged on other pairs")
    gains_QK = tables[0].to_numpy() - tables[1].to_numpy()
    counts_RQ = _with_all(resample(len(sizes), seed, num_resamples))
    counts_RK = _with_all(resample(len(first), seed + 1, num_resamples))
    sums_R = ((counts_RQ @ gains_QK) * counts_RK).sum(axis=1)
    return _interval(sums_R / ((counts_RQ @ sizes[0].to_numpy()) * counts_RK.sum(axis=1)))


def _leads(judgements: pd.DataFrame) -> pd.Series:
    """Pairs judged good less those judged bad, by prompt."""
    verdicts = judgements["verdict_overall"]
    leads = verdicts.eq("good").astype(int) - verdicts.eq("bad")
    return leads.groupby(judgements["prompt_id"]).sum()


def _resampled(runs: Runs, comparison: Comparison) -> dict[str, np.ndarray]:
    """Each figure of ``INTERVALS`` on every draw [R]."""
    return {
        "hpa": _per_pair(runs.right_KQ, comparison, 0.0),
        "margin_hpa": _per_pair(runs.wide_KQ, comparison, MARGIN),
        "plcc": _plcc(runs.moments_KQM, comparison),
        "gap_error": _per_pair(runs.gap_errors_KQ, comparison, 0.0),
    }


def _per_pair(sums_KQ: np.ndarray, comparison: Comparison, margin: float) -> np.ndarray:
    """Sums by prompt over the number of pairs that differ by more than ``margin``, [R]."""
    reference = comparison.reference
    scores_P2 = reference.pair_scores_P2
    counted_P = counted_pairs(scores_P2[:, 0], scores_P2[:, 1], margin)
    total_Q = _by_prompt(counted_P, reference.prompts_P, sums_KQ.shape[1])
    counts_RK = comparison.counts_RK
    assert counts_RK.shape[1] == len(sums_KQ), "a method lacks a seed"
    sums_R = np.einsum("rk,kq,rq->r", counts_RK, sums_KQ, comparison.counts_RQ, optimize=True)
    return sums_R / (counts_RK.sum(axis=1) * (comparison.counts_RQ @ total_Q))


def _plcc(moments_KQM: np.ndarray, comparison: Comparison) -> np.ndarray:
    """The mean of the seeds' correlations, on items whose prompt has a pair, [R]."""
    sums_RKM = np.einsum("kqm,rq->rkm", moments_KQM, comparison.counts_RQ, optimize=True)
    weights_RK = comparison.counts_RK / comparison.counts_RK.sum(axis=1, keepdims=True)
    return (_correlation(sums_RKM) * weights_RK).sum(axis=1)


def _correlation(sums: np.ndarray) -> np.ndarray:
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    covariance = xy - x * y / n
    with np.errstate(invalid="ignore", divide="ignore"):
        return covariance / np.sqrt((xx - x * x / n) * (yy - y * y / n))


def _interval(values_R: np.ndarray) -> Interval:
    tail = 100.0 * (1.0 - CONFIDENCE) / 2
    low, high = np.nanpercentile(values_R[1:], [tail, 100.0 - tail])
    return Interval(float(values_R[0]), float(low), float(high))


def _with_all(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones((1, counts.shape[1])), counts])


def _by_prompt(values: np.ndarray, prompts: np.ndarray, num_prompts: int) -> np.ndarray:
    return np.bincount(prompts, weights=values.astype(float), minlength=num_prompts)
