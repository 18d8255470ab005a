"""The annotator audit as a page: remarks, plots, a row per annotator, the most disputed items."""

from collections.abc import Mapping
from statistics import median
from typing import Any

import pandas as pd

from zreward_core.annotations.quality.audit_plots import (
    LOW_ALPHA,
    plot_alphas,
    plot_biases,
    plot_seconds,
)
from zreward_core.pages.render import render

MAX_ROWS = 500
"""Annotators in the table, lowest agreement first."""
MAX_DISPUTED = 24
FAST = 1 / 3
"""Share of the team's median seconds; faster annotators are flagged."""
BIASED, NOISY = 0.5, 1.5
"""Rubric points, and multiple of the team's median noise."""
DRIFTING = 0.3
"""Rubric points between the first and the last rating, and at least three standard errors."""
STRAIGHT = 0.5
"""Share of submissions with one score for all dimensions, and at least twice the team's median."""

Row = Mapping[str, Any]


def audit_page(
    audit: Mapping[str, Any], disputed: pd.DataFrame, images: Mapping[str, bytes] | None = None
) -> str:
    """HTML of the audit.

    Args:
        audit: content of data/validate/audit.json.
        disputed: rows of ``schemas.DISAGREEMENT``.
        images: image id to bytes, of the disputed items; without them no images are shown.
    """
    people: dict[str, Row] = audit["annotators"]
    team = {
        key: median([row[key] for row in people.values() if row[key] is not None] or [0.0])
        for key in ("seconds", "noise", "same_share")
    }
    remarks = {name: remarks_on(row, team, audit["thresholds"]) for name, row in people.items()}
    flagged = [name for name, row in people.items() if remarks[name] and _judged(row)]
    listed = sorted(people, key=lambda name: (people[name]["included"], _order(people[name]), name))
    shown = disputed.head(MAX_DISPUTED).astype(object)
    return render(
        "audit",
        title="Annotator audit",
        audit=audit,
        remarks=remarks,
        flagged=flagged[:MAX_ROWS],
        listed=listed[:MAX_ROWS],
        levels=[f"{level:g}" for level in audit["levels"]],
        low_alpha=LOW_ALPHA,
        plots={
            "alpha": plot_alphas(audit["alpha"], audit["alpha_interval"]),
            "seconds": plot_seconds(people, audit["thresholds"]["min_agreement"]),
            "bias": plot_biases(people, {name for name in people if remarks[name]}),
        },
        disputed=shown.where(shown.notna(), None).to_dict("records"),
        num_disputed=len(disputed),
        images=images or {},
    )


def remarks_on(row: Row, team: Mapping[str, float], thresholds: Mapping[str, Any]) -> list[str]:
    """Findings about an annotator that need attention.

    Args:
        row: the annotator's figures.
        team: median seconds, noise and same_share of all annotators.
        thresholds: of the audit.
    """
    least, remarks = thresholds["min_agreement"], []
    for key, others in (("agreement", "the others"), ("gold_agreement", "the gold ratings")):
        if row[key] is not None and row[key] < least:
            remarks.append(f"low agreement with {others} ({row[key]:.2f})")
    if not _judged(row) and row["gold_agreement"] is None:
        remarks.append(f"{row['num_shared']} shared ratings are too few to judge")
    if row["seconds"] is not None and row["seconds"] < FAST * team["seconds"]:
        remarks.append(f"too fast: {row['seconds']:.1f} s (team median {team['seconds']:.1f} s)")
    same = row["same_share"]
    if same is not None and same > max(STRAIGHT, 2 * team["same_share"]):
        remarks.append(f"one score for all dimensions in {same:.0%} of the submissions")
    if row["bias"] is not None and abs(row["bias"]) > BIASED:
        remarks.append(f"{'lenient' if row['bias'] > 0 else 'strict'} by {abs(row['bias']):.2f}")
    if row["noise"] is not None and row["noise"] > NOISY * team["noise"]:
        remarks.append(f"noise {row['noise'] / max(team['noise'], 1e-9):.1f} times the team median")
    drift, error = row["drift"], row["drift_error"]
    if drift is not None and abs(drift) > max(DRIFTING, 3 * error):
        remarks.append(f"drifted by {drift:+.2f} over time")
    return remarks


def _judged(row: Row) -> bool:
    return row["agreement"] is not None


def _order(row: Row) -> float:
    return float(row["agreement"]) if _judged(row) else 2.0
