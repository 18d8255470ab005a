"""Metrics by hand and against SciPy."""

import math

import numpy as np
import pytest
from scipy import stats

from zreward_core.evaluation.preference import (
    MARGIN,
    agreements,
    binary_ece,
    ece,
    hpa,
    nll,
    plcc,
    srcc,
)
from zreward_core.schemas import NotFinite


def test_hpa_by_hand():
    predicted_a = np.array([3.0, 2.0, 3.0, 4.0, 1.0])
    predicted_b = np.array([2.0, 3.0, 3.0, 1.0, 2.0])
    scores_a = np.array([4.0, 4.0, 4.0, 2.0, 1.0])
    scores_b = np.array([3.0, 3.5, 2.0, 2.0, 3.0])
    # correct, incorrect, predicted tie (incorrect), annotated tie (excluded), correct
    assert hpa(predicted_a, predicted_b, scores_a, scores_b) == 0.5
    # more than half a point apart: correct, tie, correct
    assert hpa(predicted_a, predicted_b, scores_a, scores_b, MARGIN) == pytest.approx(2 / 3)


def test_hpa_is_invariant_to_swapping_the_sides():
    rng = np.random.default_rng(0)
    columns = rng.uniform(1, 5, (4, 50))
    swapped = hpa(columns[1], columns[0], columns[3], columns[2])
    assert hpa(*columns) == swapped


def test_hpa_of_the_scores_themselves_is_one_and_of_a_constant_zero():
    a, b = np.array([1.0, 2.0, 5.0]), np.array([2.0, 1.5, 3.0])
    assert hpa(a, b, a, b) == 1.0
    assert hpa(np.ones(3), np.ones(3), a, b) == 0.0


def test_margin_tolerates_rounding():
    a, b = np.array([12.5 / 3]), np.array([11.0 / 3])  # half a point apart up to rounding
    assert math.isnan(hpa(a, b, a, b, MARGIN))
    assert hpa(a, b, a, b) == 1.0


def test_correlations_equal_numpys_on_values_and_ranks():
    rng = np.random.default_rng(0)
    predicted, scores = rng.normal(size=(2, 40))
    assert plcc(predicted, scores) == pytest.approx(np.corrcoef(predicted, scores)[0, 1])
    ranks = stats.rankdata(predicted), stats.rankdata(scores)
    assert srcc(predicted, scores) == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert srcc(np.exp(scores), scores) == pytest.approx(1.0)


@pytest.mark.parametrize("metric", [plcc, srcc])
def test_correlations_of_constants_are_undefined(metric):
    assert math.isnan(metric(np.ones(5), np.arange(5.0)))
    assert math.isnan(metric(np.arange(1.0), np.arange(1.0)))


def test_nll_by_hand():
    probs = np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]])
    histogram = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    expected = (math.log(2) + 0.5 * math.log(4) + 0.5 * math.log(2)) / 2
    assert nll(probs, histogram) == pytest.approx(expected)


def test_nll_of_a_zero_probability_is_finite():
    assert nll(np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])) == pytest.approx(-math.log(1e-6))


def test_binary_ece_by_hand():
    predicted = np.array([0.05, 0.05, 0.95, 0.95])
    observed = np.array([0.0, 1.0, 1.0, 1.0])
    # half of the items in each bin: |.05 - .5| and |.95 - 1|
    assert binary_ece(predicted, observed) == pytest.approx(0.5 * 0.45 + 0.5 * 0.05)


def test_ece_by_hand():
    probs = np.array([[0.2, 0.3, 0.5]])
    histogram = np.array([[0.0, 1.0, 0.0]])
    # above level 1: .8 against 1; above level 2: .5 against 0
    assert ece(probs, histogram) == pytest.approx((0.2 + 0.5) / 2)


def test_ece_is_zero_for_calibrated_predictions_and_detects_a_wrong_spread():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(5), 20_000)
    drawn = np.array([rng.multinomial(1, row) for row in probs], dtype=float)
    assert ece(probs, probs) == pytest.approx(0.0, abs=1e-12)
    assert ece(probs, drawn) < 0.01
    sharp = probs**4 / (probs**4).sum(axis=1, keepdims=True)
    assert ece(sharp, drawn) > 0.05


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("column", range(4))
def test_a_score_that_is_not_finite_is_no_hpa(column: int, value: float) -> None:
    columns = [np.array([1.0, 2.0, 3.0]), np.zeros(3), np.array([3.0, 2.0, 1.0]), np.zeros(3)]
    assert agreements(*columns).all()
    columns[column][1] = value
    with pytest.raises(NotFinite, match=r"1 of 3 pairs .* number 1: predicted"):
        agreements(*columns)
