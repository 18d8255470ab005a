"""Claims hold only if all their numbers are present and sufficient."""

import copy

import pytest

from zreward_core.evaluation.claims import judge_claims

DIMENSIONS = ("alignment", "realism", "aesthetics", "plausibility")
EVALUATE = {
    "differences": {
        "teacher-zero_shot_reasoning": {"hpa": 0.2, "low": 0.15, "high": 0.25},
        "student-zero_shot": {"hpa": 0.18, "low": 0.1, "high": 0.2},
        "teacher-student": {"hpa": 0.02, "low": -0.01, "high": 0.05},
    }
}
RISE = {"before": 3.0, "after": 3.4, "low": 0.3, "high": 0.5}
FINETUNE = {
    "reward": dict.fromkeys((*DIMENSIONS, "mean"), RISE),
    "panel": dict.fromkeys((*DIMENSIONS, "mean"), RISE),
}
GSB = {"overall": {"good": 6, "same": 3, "bad": 1, "gsb": 0.5, "low": 0.2, "high": 0.7}}


def holds(evaluate=EVALUATE, finetune=FINETUNE, gsb=GSB) -> list[bool]:
    return [claim.holds for claim in judge_claims(evaluate, finetune, gsb)]


def changed(metrics: dict, *keys: str, value: float | None) -> dict:
    metrics = copy.deepcopy(metrics)
    entry = metrics
    for key in keys[:-1]:
        entry = entry[key]
    entry[keys[-1]] = value
    return metrics


def test_all_hold():
    assert holds() == [True] * 6


def test_zero_differences_hold_only_the_bound_on_the_students_loss():
    nothing = {"hpa": 0.0, "low": 0.0, "high": 0.0}
    flat = {"before": 3.0, "after": 3.0, "low": 0.0, "high": 0.0}
    verdicts = holds(
        {"differences": dict.fromkeys(EVALUATE["differences"], nothing)},
        {key: dict.fromkeys((*DIMENSIONS, "mean"), flat) for key in ("reward", "panel")},
        {"overall": {"good": 0, "same": 9, "bad": 0, "gsb": 0.0, "low": 0.0, "high": 0.0}},
    )
    assert verdicts == [False, False, True, False, False, False]


@pytest.mark.parametrize("value", [0.0, -0.1, None])
@pytest.mark.parametrize(
    ("claim", "part", "keys"),
    [
        (0, "evaluate", ("differences", "teacher-zero_shot_reasoning", "low")),
        (1, "evaluate", ("differences", "student-zero_shot", "hpa")),
        (4, "gsb", ("overall", "low")),
        (5, "finetune", ("panel", "mean", "low")),
    ],
)
def test_one_number_fails_one_claim(value, claim, part, keys):
    metrics = {"evaluate": EVALUATE, "finetune": FINETUNE, "gsb": GSB}
    verdicts = holds(**{part: changed(metrics[part], *keys, value=value)})
    assert verdicts == [index != claim for index in range(6)]


@pytest.mark.parametrize(("high", "agrees"), [(-0.1, False), (0.1, True)])
def test_a_dimension_that_falls_in_the_panel_fails_its_claim(high, agrees):
    alignment = {"before": 3.0, "after": 2.9, "low": -0.3, "high": high}
    panel = FINETUNE["panel"] | {"alignment": alignment}
    assert holds(finetune=FINETUNE | {"panel": panel}) == [True, True, True, True, True, agrees]


def test_thresholds_of_the_student_are_inclusive():
    keys = ("differences", "student-zero_shot", "hpa")
    assert holds(changed(EVALUATE, *keys, value=0.08))[1]
    assert not holds(changed(EVALUATE, *keys, value=0.0799))[1]
    keys = ("differences", "teacher-student", "hpa")
    assert holds(changed(EVALUATE, *keys, value=0.05))[2]
    assert not holds(changed(EVALUATE, *keys, value=0.0501))[2]
    assert not holds(changed(EVALUATE, *keys, value=None))[2]


@pytest.mark.parametrize("dimension", DIMENSIONS)
@pytest.mark.parametrize("after", [3.0, 2.9, None])
def test_every_dimension_must_rise(dimension, after):
    assert not holds(finetune=changed(FINETUNE, "reward", dimension, "after", value=after))[3]


def test_no_claim_holds_without_measurements():
    claims = judge_claims({}, {}, {})
    assert [claim.holds for claim in claims] == [False] * 6
    assert {claim.detail for claim in claims} == {"not measured"}


def test_each_claim_names_the_stage_that_measures_it():
    stages = [claim.stage for claim in judge_claims(EVALUATE, FINETUNE, GSB)]
    tuning = ["finetune_generator", "evaluate_gsb", "finetune_generator"]
    assert stages == ["evaluate"] * 3 + tuning
