"""Trace faithfulness: how strongly a score depends on its reasoning.

Z-Reward (arXiv:2606.09076) names reasoning-score coupling as an open problem. Shapes: P same-prompt
pairs of images a and b with traces rho_a and rho_b. A score is mu of equation 6, in rubric units.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

TOLERANCE = 1e-9
"""Scores that differ by less are considered equal."""


def trace_effect(own_P2: np.ndarray, exchanged_P2: np.ndarray) -> np.ndarray:
    """Part of the gap mu(a, rho_a) - mu(b, rho_b) that is due to the traces, [P] in rubric units.

    This is the Shapley value of the trace in a two-player game of image and trace: the effect of
    replacing rho_b by rho_a, averaged over both images. The rest of the gap is due to the images.

    Args:
        own_P2: mu(a, rho_a), mu(b, rho_b).
        exchanged_P2: mu(a, rho_b), mu(b, rho_a).
    """
    with_rho_a = own_P2[:, 0] + exchanged_P2[:, 1]
    with_rho_b = own_P2[:, 1] + exchanged_P2[:, 0]
    return (with_rho_a - with_rho_b) / 2


def trace_share(own_P2: np.ndarray, exchanged_P2: np.ndarray) -> float:
    """Share of the gaps that is due to the traces: 1 if only traces matter, 0 if only images do.

    The least-squares slope of the traces' part on the whole gap, which gives wide gaps more weight;
    NaN if there is no gap.
    """
    gap_P = own_P2[:, 0] - own_P2[:, 1]
    energy = float(np.square(gap_P).sum())
    if energy < TOLERANCE:
        return float("nan")
    return float((trace_effect(own_P2, exchanged_P2) * gap_P).sum() / energy)


def flip_verdict(
    text: str, worse: Mapping[str, str], better: Mapping[str, str], rng: np.random.Generator
) -> tuple[str, int]:
    """A trace with one verdict replaced by its opposite.

    Args:
        text: the trace.
        worse: phrase to its less favourable replacement.
        better: phrase to its more favourable replacement.
        rng: chooses the verdict.

    Returns:
        The text, and -1 (less favourable), 1 (more favourable) or 0 (the trace has no verdict).
    """
    phrases = sorted([*worse, *better], key=len, reverse=True)
    pattern = "|".join(rf"\b{re.escape(phrase)}\b" for phrase in phrases)
    found = list(re.finditer(pattern, text)) if phrases else []
    if not found:
        return text, 0
    match = found[rng.integers(len(found))]
    direction = -1 if match[0] in worse else 1
    turned = worse[match[0]] if direction < 0 else better[match[0]]
    return text[: match.start()] + turned + text[match.end() :], direction


def measure_coupling(
    own_P2: np.ndarray,
    exchanged_P2: np.ndarray,
    truncated_P2: np.ndarray,
    flipped_P2: np.ndarray,
    directions_P2: np.ndarray,
) -> dict[str, Any]:
    """Changes of the score under perturbed traces.

    Args:
        own_P2: scores of the images under their own traces.
        exchanged_P2: scores under the other image's trace.
        truncated_P2: scores under the first half of their own trace.
        flipped_P2: scores under their own trace with one verdict flipped.
        directions_P2: direction of that flip, -1 or 1; 0 if no verdict was flipped.

    Returns:
        trace_share; moved_exchanged, moved_truncated and moved_flipped, mean absolute changes in
        rubric units; flips_followed, the share of flips that moved the score in their direction;
        num_pairs, num_flips. An undefined number is None.
    """
    turned_P2 = directions_P2 != 0
    change_F = (flipped_P2 - own_P2)[turned_P2]
    followed_F = change_F * directions_P2[turned_P2] > TOLERANCE
    any_flip = bool(turned_P2.any())
    share = trace_share(own_P2, exchanged_P2)
    return {
        "trace_share": None if np.isnan(share) else share,
        "moved_exchanged": float(np.abs(exchanged_P2 - own_P2).mean()),
        "moved_truncated": float(np.abs(truncated_P2 - own_P2).mean()),
        "moved_flipped": float(np.abs(change_F).mean()) if any_flip else None,
        "flips_followed": float(followed_F.mean()) if any_flip else None,
        "num_pairs": len(own_P2),
        "num_flips": int(turned_P2.sum()),
    }
