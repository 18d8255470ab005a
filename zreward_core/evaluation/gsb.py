"""Blind side-by-side judgement of two generators: equation 21 of Z-Reward (arXiv:2606.09076).

Shapes: N pairs of images (base and tuned generator, same prompt and seed), D dimensions.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from zreward_core.evaluation.bootstrap import NUM_RESAMPLES, ratio_interval, resample

THRESHOLD = 0.25
"""Differences under this many rubric points are "same"."""
TOLERANCE = 1e-9
OVERALL = "overall"
CHOICES = ("left", "same", "right")
VERDICTS = ("good", "same", "bad")


def gsb_share(good: int, same: int, bad: int) -> float:
    """GSB, equation 21: (G - B) / (G + S + B), between -1 and 1; NaN without judgements."""
    total = good + same + bad
    return (good - bad) / total if total else float("nan")


def blind_pairs(prompt_ids: Sequence[str], seed: int) -> pd.DataFrame:
    """Say for each pair which generator is shown left, and in which order pairs are shown.

    Args:
        prompt_ids: prompt of each pair; a prompt with several seeds comes several times.
        seed: of the two shuffles.

    Returns:
        Columns pair (position in prompt_ids), prompt_id, left, right ("base" or "tuned"), in the
        order of showing. Each generator is left in half of the pairs.
    """
    generator = np.random.default_rng(seed)
    tuned_left = generator.permutation(np.arange(len(prompt_ids)) % 2 == 0)
    order = generator.permutation(len(prompt_ids))
    table = pd.DataFrame(
        {
            "pair": np.arange(len(prompt_ids)),
            "prompt_id": list(prompt_ids),
            "left": np.where(tuned_left, "tuned", "base"),
            "right": np.where(tuned_left, "base", "tuned"),
        }
    )
    return table.iloc[order].reset_index(drop=True)


def judge(
    left_ND: np.ndarray,
    right_ND: np.ndarray,
    dimensions: Sequence[str],
    threshold: float = THRESHOLD,
) -> pd.DataFrame:
    """Choices of a judge that scores each image; overall goes by the mean over dimensions.

    Args:
        left_ND, right_ND: [N, D] scores of the images shown left and right, in rubric points.
        dimensions: the D names.
        threshold: differences under it are "same".

    Returns:
        [N] rows, a column for each dimension and "overall"; cells are "left", "same" or "right".
    """
    columns = {name: right_ND[:, d] - left_ND[:, d] for d, name in enumerate(dimensions)}
    columns[OVERALL] = right_ND.mean(axis=1) - left_ND.mean(axis=1)
    return pd.DataFrame(
        {
            name: np.select(
                [leads <= TOLERANCE - threshold, leads >= threshold - TOLERANCE],
                ["left", "right"],
                default="same",
            )
            for name, leads in columns.items()
        }
    )


def unblind(choices: pd.DataFrame, left: Sequence[str]) -> pd.DataFrame:
    """Turn choices of a side into verdicts on the tuned generator.

    Args:
        choices: [N] rows of "left", "same" or "right", in any number of columns.
        left: [N] which generator was shown left, "base" or "tuned".

    Returns:
        The same table with cells "good" (tuned is better), "same" or "bad".

    Raises:
        ValueError: a cell is none of the three choices.
    """
    unknown = sorted(set(map(str, choices.to_numpy().ravel())) - set(CHOICES))
    if unknown:
        raise ValueError(f"choices must be one of {CHOICES}, found {unknown}")
    tuned_left = (np.asarray(left) == "tuned")[:, None]
    cells = choices.to_numpy()
    good = ((cells == "left") & tuned_left) | ((cells == "right") & ~tuned_left)
    verdicts = np.where(cells == "same", "same", np.where(good, "good", "bad"))
    return pd.DataFrame(verdicts, columns=choices.columns, index=choices.index)


def aggregate_gsb(
    verdicts: pd.DataFrame,
    prompt_ids: Sequence[str],
    seed: int,
    num_resamples: int = NUM_RESAMPLES,
) -> dict[str, dict[str, float | int | None]]:
    """Counts of good, same and bad, GSB and its 95 % bootstrap interval over prompts.

    Args:
        verdicts: [N] rows of "good", "same" or "bad"; a column for each dimension and "overall".
        prompt_ids: [N] prompt of each row.

    Returns:
        {column: {"good", "same", "bad", "gsb", "low", "high"}}; undefined numbers are None.
    """
    prompts, codes_N = np.unique(np.asarray(prompt_ids, dtype=str), return_inverse=True)
    counts = resample(len(prompts), seed, num_resamples)
    totals = np.bincount(codes_N, minlength=len(prompts)).astype(float)
    result: dict[str, dict[str, float | int | None]] = {}
    for name in verdicts.columns:
        column = verdicts[name].to_numpy()
        tally = {verdict: int((column == verdict).sum()) for verdict in VERDICTS}
        leads_N = (column == "good").astype(float) - (column == "bad")
        leads = np.bincount(codes_N, weights=leads_N, minlength=len(prompts))
        interval = ratio_interval(leads, totals, counts)
        share = gsb_share(**tally)
        numbers = {"gsb": share, "low": interval.low, "high": interval.high}
        result[str(name)] = {
            **tally,
            **{key: None if np.isnan(value) else value for key, value in numbers.items()},
        }
    return result
