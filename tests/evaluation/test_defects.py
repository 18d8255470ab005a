"""Sensitivity to defects, for judges with known penalties."""

import numpy as np
import pytest

from zreward_core.evaluation.defects import points_lost


def test_penalties_are_recovered_from_correlated_defects() -> None:
    rng = np.random.default_rng(0)
    severities = rng.integers(0, 4, (200, 3)).astype(float)
    severities[:, 1] = np.maximum(severities[:, 1], severities[:, 0])
    prices = np.array([[1.0, 0.0], [0.5, -0.25], [0.0, 0.75]])
    noise = 0.01 * rng.standard_normal((200, 2))
    scores = 5 - severities @ prices + noise
    scores[::7, 1] = np.nan  # some images have no score in one dimension
    found = points_lost(scores, severities)
    assert found == pytest.approx(prices, abs=0.01)


def test_a_kind_that_never_occurs_is_nan() -> None:
    severities = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    found = points_lost(np.array([[5.0], [4.0], [3.0]]), severities)
    assert found[0, 0] == pytest.approx(1.0) and np.isnan(found[1, 0])
