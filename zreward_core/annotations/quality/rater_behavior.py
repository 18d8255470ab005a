"""Rater behavior: drift over time, straight-lining, seconds per submission, distribution of scores.

Expects ratings as submitted, before resubmissions are merged. A submission is all ratings of one
annotator for one item at one time.

Shapes: N ratings, P annotators, D dimensions, S levels, G submissions.
"""

import numpy as np
import pandas as pd

from zreward_core.annotations.items.times import UNKNOWN
from zreward_core.annotations.quality.encoding import ANONYMOUS, EncodedRatings
from zreward_core.annotations.quality.reliability import rest_mean
from zreward_core.rubric import Rubric

MIN_FOR_DRIFT = 20
"""Ratings with a time and a reference that a drift needs."""
NUM_PARTS = 10
"""Parts of an annotator's work, in order of time, for the plot of the drift."""


def audit_behavior(
    encoded: EncodedRatings, times_N: np.ndarray, seconds: pd.Series, rubric: Rubric
) -> pd.DataFrame:
    """Behavior of each annotator.

    Args:
        encoded: N ratings.
        times_N: [N] times of submission (``times.parse_times``).
        seconds: [N] time spent on the submission of a rating.
        rubric: gives the levels.

    Returns:
        A row per annotator, sorted: annotator_id, drift (linear change of the difference from the
        others from the first to the last rating, in rubric points), drift_error (its standard
        error), drift_parts (mean difference in ``NUM_PARTS`` parts of the work), same_share (share
        of submissions, of two dimensions or more, with one score for all), longest_run
        (consecutive ratings of a dimension with the same score), seconds (median of a submission),
        scores ([S] ratings by nearest level). NaN or None where unknown.
    """
    keys = [times_N, _narrow(encoded.annotators_N)]
    if (times_N == UNKNOWN).any():  # otherwise the time identifies submissions
        keys.insert(0, encoded.items_N)
    order = np.lexsort(keys)
    order = order[encoded.annotators_N[order] != ANONYMOUS]
    ordered = encoded.select(order)
    times_N = times_N[order]
    differences_N = (encoded.scores_N - rest_mean(encoded))[order]
    drift_P, error_P, parts = _drift(ordered, times_N, differences_N)
    starts_G = _starts(ordered.annotators_N, times_N, ordered.items_N)
    return pd.DataFrame(
        {
            "annotator_id": encoded.annotators,
            "drift": drift_P,
            "drift_error": error_P,
            "drift_parts": parts,
            "same_share": _same_share(ordered, starts_G),
            "longest_run": _longest_run(ordered, times_N),
            "seconds": _median_seconds(ordered, seconds.to_numpy(dtype=float)[order], starts_G),
            "scores": _score_counts(ordered, rubric),
        }
    )


def _narrow(codes_N: np.ndarray) -> np.ndarray:
    """Codes from -1 in 16 bits if they fit: numpy sorts those by radix, several times faster."""
    fits = codes_N.max(initial=0) <= np.iinfo(np.int16).max
    return codes_N.astype(np.int16) if fits else codes_N


def _drift(
    encoded: EncodedRatings, times_N: np.ndarray, differences_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[list[float] | None]]:
    """Slope, its standard error, and means by part, of the difference over an annotator's work."""
    used_N = (times_N != UNKNOWN) & ~np.isnan(differences_N)
    people_N, values_N = encoded.annotators_N[used_N], differences_N[used_N]
    num_people = len(encoded.annotators)
    number_P = np.bincount(people_N, minlength=num_people)
    first_P = np.cumsum(number_P) - number_P
    place_N = (np.arange(len(people_N)) - first_P[people_N]) / np.maximum(number_P - 1, 1)[people_N]

    def total(weights_N: np.ndarray) -> np.ndarray:
        return np.bincount(people_N, weights=weights_N, minlength=num_people)

    number = np.maximum(number_P, 1)
    x_N = place_N - (total(place_N) / number)[people_N]
    y_N = values_N - (total(values_N) / number)[people_N]
    spread_P = total(x_N**2)
    enough_P = number_P >= MIN_FOR_DRIFT
    slope_P = np.full(num_people, np.nan)
    np.divide(total(x_N * y_N), spread_P, out=slope_P, where=enough_P)
    residual_P = total((y_N - np.nan_to_num(slope_P)[people_N] * x_N) ** 2)
    error_P = np.full(num_people, np.nan)
    np.divide(residual_P / np.maximum(number_P - 2, 1), spread_P, out=error_P, where=enough_P)
    cells = people_N * NUM_PARTS + np.minimum((place_N * NUM_PARTS).astype(int), NUM_PARTS - 1)
    sums = np.bincount(cells, weights=values_N, minlength=num_people * NUM_PARTS)
    sizes = np.maximum(np.bincount(cells, minlength=num_people * NUM_PARTS), 1)
    means = np.round(sums / sizes, 3).reshape(num_people, NUM_PARTS)
    parts = [row.tolist() if enough else None for row, enough in zip(means, enough_P, strict=True)]
    return slope_P, np.sqrt(error_P), parts


def _starts(*columns_N: np.ndarray) -> np.ndarray:
    """Rows that begin a new combination of the columns; the first row always."""
    new_N = np.zeros(len(columns_N[0]), dtype=bool)
    new_N[:1] = True
    for column_N in columns_N:
        new_N[1:] |= column_N[1:] != column_N[:-1]
    return np.flatnonzero(new_N)


def _same_share(encoded: EncodedRatings, starts_G: np.ndarray) -> np.ndarray:
    """[P] share of submissions of two dimensions or more in which every score is the same."""
    num_people = len(encoded.annotators)
    if len(starts_G) == 0:
        return np.full(num_people, np.nan)
    same_G = np.maximum.reduceat(encoded.scores_N, starts_G) == np.minimum.reduceat(
        encoded.scores_N, starts_G
    )
    several_G = np.maximum.reduceat(encoded.dimensions_N, starts_G) > np.minimum.reduceat(
        encoded.dimensions_N, starts_G
    )
    people_G = encoded.annotators_N[starts_G]
    number_P = np.bincount(people_G[several_G], minlength=num_people)
    same_P = np.bincount(people_G[several_G & same_G], minlength=num_people)
    return np.divide(same_P, number_P, out=np.full(num_people, np.nan), where=number_P > 0)


def _longest_run(encoded: EncodedRatings, times_N: np.ndarray) -> np.ndarray:
    """[P] most consecutive ratings of a dimension with one score; NaN without times."""
    result_P = np.full(len(encoded.annotators), np.nan)
    known_N = times_N != UNKNOWN
    keys_N = (encoded.annotators_N * len(encoded.dimensions) + encoded.dimensions_N)[known_N]
    order = np.argsort(_narrow(keys_N), kind="stable")
    keys_N, scores_N = keys_N[order], encoded.scores_N[known_N][order]
    if len(keys_N):
        starts = _starts(keys_N, scores_N)
        lengths = np.diff(np.append(starts, len(keys_N)))
        people = keys_N[starts] // len(encoded.dimensions)
        firsts = _starts(people)
        result_P[people[firsts]] = np.maximum.reduceat(lengths, firsts)
    return result_P


def _median_seconds(
    encoded: EncodedRatings, seconds_N: np.ndarray, starts_G: np.ndarray
) -> np.ndarray:
    """[P] median seconds of a submission."""
    result_P = np.full(len(encoded.annotators), np.nan)
    known_G = starts_G[~np.isnan(seconds_N[starts_G])]
    people, seconds = encoded.annotators_N[known_G], seconds_N[known_G]
    order = np.lexsort((seconds, people))
    people, seconds = people[order], seconds[order]
    firsts = _starts(people)
    lasts = np.append(firsts[1:], len(people)) - 1
    below, above = firsts + (lasts - firsts) // 2, firsts + (lasts - firsts + 1) // 2
    result_P[people[firsts]] = (seconds[below] + seconds[above]) / 2
    return result_P


def _score_counts(encoded: EncodedRatings, rubric: Rubric) -> list[list[int]]:
    """[P, S] ratings by nearest level."""
    levels = np.asarray(rubric.levels)
    places_N = np.searchsorted((levels[1:] + levels[:-1]) / 2, encoded.scores_N)
    cells = encoded.annotators_N * len(levels) + places_N
    counts = np.bincount(cells, minlength=len(encoded.annotators) * len(levels))
    rows: list[list[int]] = counts.reshape(-1, len(levels)).tolist()
    return rows
