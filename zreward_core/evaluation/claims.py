"""Acceptance claims: results that a run must reach before its reward model is used."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MIN_STUDENT_GAIN = 0.08
"""Minimum gain in HPA of the student over its own base."""
MAX_STUDENT_LOSS = 0.05
"""Maximum loss in HPA of the student against its teacher."""
EVALUATION, TUNING, JUDGING = "evaluate", "finetune_generator", "evaluate_gsb"
"""The stages that measure the claims."""


@dataclass(frozen=True)
class Claim:
    """One claim, the stage that measures it, whether it holds, and the numbers."""

    stage: str
    name: str
    holds: bool
    detail: str


def judge_claims(
    evaluate_metrics: Mapping[str, Any],
    finetune_metrics: Mapping[str, Any],
    gsb: Mapping[str, Any],
) -> list[Claim]:
    """Evaluate the claims; a claim does not hold if one of its numbers is missing or null.

    Args:
        evaluate_metrics: data/evaluate/metrics.json.
        finetune_metrics: data/finetune_generator/metrics.json.
        gsb: data/evaluate_gsb/gsb.json.
    """
    differences = evaluate_metrics.get("differences", {})
    return [
        _above_zero(
            EVALUATION,
            "teacher has higher HPA than its base with reasoning",
            differences.get("teacher-zero_shot_reasoning"),
            "hpa",
            points=True,
        ),
        _student_gain(differences.get("student-zero_shot")),
        _student_loss(differences.get("teacher-student")),
        _rewards_rise(finetune_metrics.get("reward", {})),
        _above_zero(JUDGING, "blind judge prefers the tuned generator", gsb.get("overall"), "gsb"),
        _panel_rises(finetune_metrics.get("panel", {})),
    ]


def _student_gain(difference: Mapping[str, Any] | None) -> Claim:
    name = f"student is at least {100 * MIN_STUDENT_GAIN:.0f} HPA points above its own base"
    value = _number(difference, "hpa")
    if value is None:
        return Claim(EVALUATION, name, False, "not measured")
    return Claim(EVALUATION, name, value >= MIN_STUDENT_GAIN, f"{_points(value)} points")


def _student_loss(difference: Mapping[str, Any] | None) -> Claim:
    name = f"student is within {100 * MAX_STUDENT_LOSS:.0f} HPA points of its teacher"
    value = _number(difference, "hpa")
    if value is None:
        return Claim(EVALUATION, name, False, "not measured")
    return Claim(EVALUATION, name, value <= MAX_STUDENT_LOSS, f"{_points(-value)} points")


def _rewards_rise(rewards: Mapping[str, Mapping[str, Any]]) -> Claim:
    name = "reward of the tuned generator rises on every dimension (held-out prompts)"
    gains = {}
    for dimension, entry in rewards.items():
        before, after = _number(entry, "before"), _number(entry, "after")
        if before is None or after is None:
            return Claim(TUNING, name, False, f"{dimension} not measured")
        if dimension != "mean":
            gains[dimension] = after - before
    detail = ", ".join(f"{key} {gain:+.2f}" for key, gain in gains.items()) or "not measured"
    holds = bool(gains) and all(gain > 0 for gain in gains.values())
    return Claim(TUNING, name, holds, detail)


def _panel_rises(panel: Mapping[str, Mapping[str, Any]]) -> Claim:
    name = "panel (not trained on) agrees: mean rises, no dimension falls"
    low, high, before, after = (
        _number(panel.get("mean"), part) for part in ("low", "high", "before", "after")
    )
    if low is None or high is None or before is None or after is None:
        return Claim(TUNING, name, False, "not measured")
    fallen = [key for key, entry in panel.items() if (_number(entry, "high") or 0.0) < 0]
    detail = f"{after - before:+.2f} [{low:+.2f}, {high:+.2f}]"
    detail += f", falling: {', '.join(fallen)}" if fallen else ""
    return Claim(TUNING, name, low > 0 and not fallen, detail)


def _above_zero(
    stage: str, name: str, entry: Mapping[str, Any] | None, key: str, points: bool = False
) -> Claim:
    value, low, high = (_number(entry, part) for part in (key, "low", "high"))
    if value is None or low is None or high is None:
        return Claim(stage, name, False, "not measured")
    if points:
        detail = f"{_points(value)} points [{_points(low)}, {_points(high)}]"
    else:
        detail = f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"
    return Claim(stage, name, low > 0, detail)


def _number(entry: Mapping[str, Any] | None, key: str) -> float | None:
    value = (entry or {}).get(key)
    return None if value is None else float(value)


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"
