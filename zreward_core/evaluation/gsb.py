"""Blind side-by-side comparison of two generators (equation 21 of Z-Reward, arXiv:2606.09076).

GSB: good / same / bad, judged for the tuned generator. Shapes: N pairs of images (base and tuned
generator, same prompt and seed), D dimensions.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from zreward_core.evaluation.bootstrap import ratio_interval, resample, sum_by_prompt
from zreward_core.schemas import NotFinite

THRESHOLD = 0.25
"""Score differences below this many rubric points are judged "same"."""
TOLERANCE = 1e-9
OVERALL = "overall"
CHOICES = ("left", "same", "right")
VERDICTS = ("good", "same", "bad")


def gsb_share(good: int, same: int, bad: int) -> float:
    """GSB, equation 21: (G - B) / (G + S + B), from -1 to 1; NaN without judgements."""
    total = good + same + bad
    return (good - bad) / total if total else float("nan")


def blind_pairs(prompt_ids: Sequence[str], seed: int) -> pd.DataFrame:
    """Draw the side on which each generator is shown, and the order of the pairs.

    Args:
        prompt_ids: prompt of each pair; a prompt with several seeds is listed several times.
        seed: of the two shuffles.

    Returns:
        Columns pair (position in prompt_ids), prompt_id, left, right ("base" or "tuned"), in the
        order of presentation. Each generator is on the left in half of the pairs.
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
    """Choices of a judge that scores each image; overall compares the means over dimensions.

    Args:
        left_ND, right_ND: [N, D] scores of the left and right images, in rubric points.
        dimensions: the D names.
        threshold: smaller differences are "same".

    Returns:
        [N] rows, a column for each dimension and "overall"; cells are "left", "same" or "right".

    Raises:
        NotFinite: a score is NaN or infinite; it would be judged "same".
    """
    if not (np.isfinite(left_ND).all() and np.isfinite(right_ND).all()):
        raise NotFinite("the judge's scores are not finite: sample the images of both models again")
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
    """Convert choices of a side into verdicts on the tuned generator.

    Args:
        choices: N rows of "left", "same" or "right", in any number of columns.
        left: [N] generator shown on the left, "base" or "tuned".

    Returns:
        The same table with cells "good" (tuned is better), "same" or "bad".

    Raises:
        ValueError: a cell is not one of the three choices.
    """
    unknown = sorted(set(map(str, choices.to_numpy().ravel())) - set(CHOICES))
    if unknown:
        raise ValueError(f"choices: {unknown} found; each must be one of {CHOICES}")
    tuned_left = (np.asarray(left) == "tuned")[:, None]
    cells = choices.to_numpy()
    good = ((cells == "left") & tuned_left) | ((cells == "right") & ~tuned_left)
    verdicts = np.where(cells == "same", "same", np.where(good, "good", "bad"))
    return pd.DataFrame(verdicts, columns=choices.columns, index=choices.index)


def aggregate_gsb(
    verdicts: pd.DataFrame, prompt_ids: Sequence[str], seed: int
) -> dict[str, dict[str, float | int | None]]:
    """Counts of good, same and bad, GSB and its 95 % bootstrap interval over prompts.

    Args:
        verdicts: N rows of "good", "same" or "bad"; a column for each dimension and "overall".
        prompt_ids: [N] prompt of each row.
        seed: of the resamples.

    Returns:
        {column: {"good", "same", "bad", "gsb", "low", "high"}}; an undefined number is None.
    """
    prompts, codes_N = np.unique(np.asarray(prompt_ids, dtype=str), return_inverse=True)
    counts = resample(len(prompts), seed)
    totals = sum_by_prompt(np.ones(len(codes_N)), codes_N, len(prompts))
    result: dict[str, dict[str, float | int | None]] = {}
    for name in verdicts.columns:
        column = verdicts[name].to_numpy()
        tally = {verdict: int((column == verdict).sum()) for verdict in VERDICTS}
        leads_N = (column == "good").astype(float) - (column == "bad")
        interval = ratio_interval(sum_by_prompt(leads_N, codes_N, len(prompts)), totals, counts)
        numbers = {"gsb": gsb_share(**tally), "low": interval.low, "high": interval.high}
        result[str(name)] = tally | {
            key: None if np.isnan(value) else value for key, value in numbers.items()
        }
    return result
