"""Distances between distributions against SciPy, and recovery of a known temperature."""

import numpy as np
import pytest
from scipy import stats

from zreward_core.evaluation.calibration import (
    coverage,
    fit_temperature,
    kl_divergence,
    measure_calibration,
    tempered,
    wasserstein,
)
from zreward_core.evaluation.preference import nll

LEVELS = np.array([1.0, 1.5, 2.0, 3.0, 5.0])


@pytest.fixture
def two() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    probs, histogram = rng.dirichlet(np.ones(5), 40), rng.multinomial(5, np.ones(5) / 5, 40) / 5
    return probs, histogram


def test_distances_equal_scipys(two) -> None:
    probs, histogram = two
    kl = np.mean([stats.entropy(h, p) for p, h in zip(probs, histogram, strict=True)])
    w1 = [
        stats.wasserstein_distance(LEVELS, LEVELS, p, h)
        for p, h in zip(probs, histogram, strict=True)
    ]
    assert kl_divergence(probs, histogram) == pytest.approx(kl)
    assert wasserstein(probs, histogram, LEVELS) == pytest.approx(np.mean(w1))
    assert kl_divergence(histogram, histogram) == pytest.approx(0, abs=1e-12)
    assert wasserstein(histogram, histogram, LEVELS) == 0


def test_coverage_is_the_share_inside_the_central_levels() -> None:
    probs = np.array([[0.05, 0.15, 0.6, 0.15, 0.05], [0.0, 0.0, 1.0, 0.0, 0.0]])
    histogram = np.array([[0.2, 0.2, 0.2, 0.2, 0.2], [0.5, 0.0, 0.5, 0.0, 0.0]])
    assert coverage(probs, histogram) == pytest.approx((0.6 + 0.5) / 2)
    assert coverage(probs[:1], histogram[:1], 0.95) == pytest.approx(1.0)
    assert coverage(probs[:1], histogram[:1], 0.5) == pytest.approx(0.2)


def test_a_calibrated_prediction_has_nominal_coverage() -> None:
    rng = np.random.default_rng(1)
    probs = np.repeat(rng.dirichlet(np.full(9, 3.0), 50), 400, axis=0)
    drawn = (rng.random((len(probs), 1)) > probs.cumsum(1)).sum(1)
    histogram = np.eye(9)[drawn]
    assert 0.8 <= coverage(probs, histogram) < 0.95
    assert fit_temperature(probs, histogram) == pytest.approx(1.0, abs=0.05)
    sharpened = tempered(probs, 0.5)
    assert fit_temperature(sharpened, histogram) == pytest.approx(2.0, abs=0.1)
    assert coverage(tempered(probs, 0.2), histogram) < 0.8


def test_temperature_one_is_the_identity_and_a_fitted_one_lowers_nll(two) -> None:
    probs, histogram = two
    assert tempered(probs, 1.0) == pytest.approx(probs, abs=1e-5)
    better = tempered(probs, fit_temperature(probs, histogram))
    assert nll(better, histogram) <= nll(probs, histogram)
    assert set(measure_calibration(probs, histogram, LEVELS)) == {
        "nll",
        "kl",
        "ece",
        "w1",
        "coverage",
    }
