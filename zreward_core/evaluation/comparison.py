"""Comparison of methods by a cluster bootstrap over prompts and seeds, shared by all methods.

Shapes: K seeds, Q prompts, R draws, N items, P pairs, M moments. The first draw contains every
prompt and seed once; the others draw both with replacement. All methods are evaluated on the same
draws, so differences are paired.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from zreward_core.evaluation.bootstrap import (
    NUM_RESAMPLES,
    Interval,
    percentile_bounds,
    resample,
    sum_by_prompt,
)
from zreward_core.evaluation.preference import MARGIN, agreements, counted_pairs
from zreward_core.evaluation.reference import Reference, align_prediction, build_reference
from zreward_core.evaluation.report import measure

logger = logging.getLogger(__name__)
SEED = 0
"""Seed of the draws of prompts; those of seeds have the next one."""
INTERVALS = ("hpa", "margin_hpa", "plcc", "gap_error")
"""Metrics reported with an interval."""


@dataclass(frozen=True)
class Comparison:
    """The test split and the draws on which all methods are evaluated."""

    reference: Reference
    prompts_N: np.ndarray
    """Position of each item's prompt among the reference's Q; -1 if the prompt has no pair."""
    counts_RQ: np.ndarray
    """How often each prompt occurs in each draw."""
    counts_RK: np.ndarray
    """How often each seed occurs in each draw."""


@dataclass(frozen=True)
class Runs:
    """The K runs of one method."""

    metrics: list[dict[str, Any]]
    """Of each seed, the overall metrics of ``report.measure`` and "gap_error"."""
    right_KQ: np.ndarray
    """Correctly ordered pairs, by prompt."""
    wide_KQ: np.ndarray
    """Correctly ordered pairs among those that differ by more than ``MARGIN``, by prompt."""
    gap_errors_KQ: np.ndarray
    """Sum over the pairs of a prompt of |predicted - annotated gap|, in rubric points."""
    moments_KQM: np.ndarray
    """Sums over the items of a prompt of 1, x, y, xx, yy, xy; x predicted, y annotated scores."""


def predicted_by_all(
    items: pd.DataFrame, predictions: Mapping[str, Sequence[pd.DataFrame]]
) -> pd.DataFrame:
    """Items that every run of every method predicted; the others are counted in the log.

    A model leaves out the items whose prompt is too long for it.

    Args:
        items: rows of ``schemas.ITEMS`` of the splits that were predicted.
        predictions: method to a table per seed.
    """
    for name, frames in predictions.items():
        for frame in frames:
            found = items["item_id"].isin(frame["item_id"])
            if not found.all():
                logger.warning(
                    "%s did not predict %d of %d items, which are left out for all methods",
                    *(name, (~found).sum(), len(found)),
                )
                items = items[found]
    return items


def build_comparison(
    items: pd.DataFrame,
    pairs: pd.DataFrame,
    num_seeds: int,
    num_resamples: int = NUM_RESAMPLES,
) -> Comparison:
    """Draw the resamples on which all methods are evaluated.

    Args:
        items: rows of ``schemas.ITEMS`` of the test split.
        pairs: rows of ``schemas.PAIRS`` of the test split.
        num_seeds: K.
        num_resamples: R - 1.
    """
    reference = build_reference(items, pairs, SEED, num_resamples)
    prompts = pd.Index(np.unique(pairs["prompt_id"].to_numpy(dtype=str)))
    return Comparison(
        reference=reference,
        prompts_N=prompts.get_indexer(items["prompt_id"].to_numpy(dtype=str)),
        counts_RQ=_with_all(reference.counts_RQ),
        counts_RK=_with_all(resample(num_seeds, SEED + 1, num_resamples)),
    )


def measure_runs(predictions: Sequence[pd.DataFrame], comparison: Comparison, name: str) -> Runs:
    """Evaluate the runs of a method, given one table of predictions per seed.

    Raises:
        ValueError: an item without a prediction, or with two.
    """
    columns = [_measure_run(frame, comparison, name) for frame in predictions]
    metrics, *arrays = zip(*columns, strict=True)
    return Runs(list(metrics), *map(np.stack, arrays))


def _measure_run(
    frame: pd.DataFrame, comparison: Comparison, name: str
) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The fields of ``Runs`` for one seed."""
    reference = comparison.reference
    prediction = align_prediction(frame, reference, name)
    winners_P = prediction.means_N[reference.winners_P]
    losers_P = prediction.means_N[reference.losers_P]
    scores = scores_w_P, scores_l_P = reference.pair_scores_P2[:, 0], reference.pair_scores_P2[:, 1]
    agree_P = agreements(winners_P, losers_P, *scores)
    counted_P = counted_pairs(*scores)
    errors_P = np.abs(winners_P - losers_P - (scores_w_P - scores_l_P))
    gap_error = float(errors_P[counted_P].mean()) if counted_P.any() else None
    x, y = prediction.means_N, reference.scores_N
    known_N = comparison.prompts_N >= 0
    moments = [
        sum_by_prompt(
            product[known_N], comparison.prompts_N[known_N], comparison.counts_RQ.shape[1]
        )
        for product in (np.ones_like(x), x, y, x * x, y * y, x * y)
    ]
    return (
        measure(prediction, reference)["overall"] | {"gap_error": gap_error},
        reference.by_prompt(agree_P & counted_P),
        reference.by_prompt(agree_P & counted_pairs(*scores, MARGIN)),
        reference.by_prompt(errors_P * counted_P),
        np.stack(moments, axis=-1),
    )


def first_seeds(runs: Runs, count: int) -> Runs:
    """The runs of the first ``count`` seeds, for comparison with a method that has only those."""
    return Runs(*(values[:count] for values in vars(runs).values()))


def summarise(runs: Runs, comparison: Comparison) -> dict[str, Any]:
    """A row of a table: means over seeds, with intervals over prompts and seeds.

    Returns:
        hpa, margin_hpa, plcc, gap_error, each with _low and _high; srcc, nll, ece, output_tokens;
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
    """HPA, margin HPA, PLCC and gap error of the first method minus those of the second, paired."""
    ours, theirs = (_resampled(runs, comparison) for runs in (first, second))
    return {name: _interval(ours[name] - theirs[name]) for name in INTERVALS}


def gsb_gain(first: Sequence[pd.DataFrame], second: Sequence[pd.DataFrame]) -> Interval:
    """GSB (equation 21) of the first tuned generator minus that of the second, overall.

    Args:
        first, second: judgements against the same base for each of K seeds, rows with prompt_id and
            verdict_overall ("good", "same" or "bad"); all tables contain the same pairs.

    Raises:
        ValueError: the tables contain different pairs.
    """
    tables = [pd.concat([_leads(table) for table in tables], axis=1) for tables in (first, second)]
    sizes = pd.concat([table.groupby("prompt_id").size() for table in (*first, *second)], axis=1)
    if sizes.isna().to_numpy().any() or (sizes.nunique(axis=1) > 1).any():
        raise ValueError(
            "the generators were judged on different pairs; rerun both with the same prompts"
        )
    gains_QK = tables[0].to_numpy() - tables[1].to_numpy()
    counts_RQ = _with_all(resample(len(sizes), SEED))
    counts_RK = _with_all(resample(len(first), SEED + 1))
    sums_R = ((counts_RQ @ gains_QK) * counts_RK).sum(axis=1)
    return _interval(sums_R / ((counts_RQ @ sizes[0].to_numpy()) * counts_RK.sum(axis=1)))


def _leads(judgements: pd.DataFrame) -> pd.Series:
    """Number of pairs judged good minus number judged bad, by prompt."""
    verdicts = judgements["verdict_overall"]
    leads = verdicts.eq("good").astype(int) - verdicts.eq("bad")
    return leads.groupby(judgements["prompt_id"]).sum()


def _resampled(runs: Runs, comparison: Comparison) -> dict[str, np.ndarray]:
    """Each metric of ``INTERVALS`` on every draw [R]."""
    return {
        "hpa": _per_pair(runs.right_KQ, comparison, 0.0),
        "margin_hpa": _per_pair(runs.wide_KQ, comparison, MARGIN),
        "plcc": _plcc(runs.moments_KQM, comparison),
        "gap_error": _per_pair(runs.gap_errors_KQ, comparison, 0.0),
    }


def _per_pair(sums_KQ: np.ndarray, comparison: Comparison, margin: float) -> np.ndarray:
    """Sums by prompt divided by the number of pairs that differ by more than ``margin``, [R]."""
    reference = comparison.reference
    scores_P2 = reference.pair_scores_P2
    counted_P = counted_pairs(scores_P2[:, 0], scores_P2[:, 1], margin)
    total_Q = reference.by_prompt(counted_P)
    counts_RK = comparison.counts_RK
    assert counts_RK.shape[1] == len(sums_KQ), "number of seeds differs"
    sums_R = np.einsum("rk,kq,rq->r", counts_RK, sums_KQ, comparison.counts_RQ, optimize=True)
    return sums_R / (counts_RK.sum(axis=1) * (comparison.counts_RQ @ total_Q))


def _plcc(moments_KQM: np.ndarray, comparison: Comparison) -> np.ndarray:
    """Mean over seeds of the correlation on items whose prompt has a pair, [R]."""
    sums_RKM = np.einsum("kqm,rq->rkm", moments_KQM, comparison.counts_RQ, optimize=True)
    weights_RK = comparison.counts_RK / comparison.counts_RK.sum(axis=1, keepdims=True)
    return (_correlation(sums_RKM) * weights_RK).sum(axis=1)


def _correlation(sums: np.ndarray) -> np.ndarray:
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    covariance = xy - x * y / n
    with np.errstate(invalid="ignore", divide="ignore"):
        return covariance / np.sqrt((xx - x * x / n) * (yy - y * y / n))


def _interval(values_R: np.ndarray) -> Interval:
    return Interval(float(values_R[0]), *percentile_bounds(values_R[1:]))


def _with_all(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones((1, counts.shape[1])), counts])
