"""Correlations against scipy, the tie threshold against all thresholds, resamples of prompts."""

import numpy as np
import pytest
from scipy import stats

from zreward_core.commands.benchmark import score_rules
from zreward_core.commands.benchmark.score_rules import Ratings


def ratings(predicted, human, prompts=None, counts=None) -> Ratings:
    prompts = np.arange(len(human)) if prompts is None else np.asarray(prompts)
    counts = np.ones((1, prompts.max() + 1)) if counts is None else np.asarray(counts, float)
    return Ratings(np.asarray(predicted, float), np.asarray(human, float), prompts, counts)


@pytest.fixture
def many() -> Ratings:
    generator = np.random.default_rng(0)
    human = generator.integers(3, 16, 400) / 3
    predicted = np.round(human + generator.normal(0, 1, 400), 1)
    return ratings(predicted, human, generator.integers(0, 50, 400))


@pytest.mark.parametrize(
    ("rule", "reference"),
    [
        (score_rules.pearson, stats.pearsonr),
        (score_rules.spearman, stats.spearmanr),
        (score_rules.kendall_b, stats.kendalltau),
    ],
)
def test_correlations_are_those_of_scipy(rule, reference, many: Ratings) -> None:
    expected = reference(many.predicted_N, many.human_N).statistic
    figure = rule(many)
    assert figure.value == pytest.approx(expected)
    assert figure.resamples_R == pytest.approx([expected])  # each prompt drawn once


@pytest.mark.parametrize("rule", [score_rules.pearson, score_rules.kendall_b])
def test_a_resample_without_a_prompt_is_the_figure_without_it(rule, many: Ratings) -> None:
    counts = np.ones((1, 50))
    counts[0, 7] = 0
    kept = many.prompt_N != 7
    without = ratings(many.predicted_N[kept], many.human_N[kept])
    found = rule(Ratings(many.predicted_N, many.human_N, many.prompt_N, counts))
    assert found.resamples_R[0] == pytest.approx(rule(without).value)


def test_pairwise_accuracy_by_hand() -> None:
    # people: 1 = 1 < 2. Without ties 2 of 3 pairs are right; with a threshold of .1 all three
    figure = score_rules.pairwise_with_ties(ratings([3.0, 3.1, 4.0], [1, 1, 2]))
    assert figure.value == 1.0
    # a judge with one score ties all pairs: right for the one pair that people tie
    assert score_rules.pairwise_with_ties(ratings([5, 5, 5], [1, 1, 2])).value == pytest.approx(
        1 / 3
    )
    # no threshold helps: ties of the judge would cost more than they give
    assert score_rules.pairwise_with_ties(ratings([1, 9, 2], [1, 2, 3])).value == pytest.approx(
        2 / 3
    )


def test_the_threshold_is_the_best_of_all(many: Ratings) -> None:
    many = ratings(many.predicted_N, np.round(many.human_N))  # many ties: a threshold helps
    first, second = np.triu_indices(len(many.human_N), 1)
    predicted = many.predicted_N[first] - many.predicted_N[second]
    human = many.human_N[first] - many.human_N[second]
    best, without = 0.0, float((np.where(predicted == 0, human == 0, predicted * human > 0)).mean())
    for threshold in np.unique(np.append(0.0, np.abs(predicted))):
        tied = np.abs(predicted) <= threshold
        best = max(best, float((np.where(tied, human == 0, predicted * human > 0)).mean()))
    assert score_rules.pairwise_with_ties(many).value == pytest.approx(best)
    assert best > without


def test_a_curve_is_fitted_before_plcc() -> None:
    x = np.linspace(-4, 4, 60)
    y = 1 + 4 / (1 + np.exp(-3 * x))
    bent = ratings(x, y)
    assert score_rules.pearson(bent).value < 0.95
    assert score_rules.pearson_of_logistic(bent).value == pytest.approx(1.0, abs=1e-6)
    assert score_rules.pearson_of_reversed_logistic(ratings(y, x)).value == pytest.approx(
        1.0, abs=1e-6
    )


@pytest.mark.parametrize(
    "rule",
    [
        score_rules.pearson,
        score_rules.spearman,
        score_rules.kendall_b,
        score_rules.pearson_of_logistic,
        score_rules.pearson_of_reversed_logistic,
    ],
)
def test_one_score_for_all_has_no_correlation(rule) -> None:
    assert np.isnan(rule(ratings([2, 2, 2, 2], [1, 2, 3, 4])).value)
