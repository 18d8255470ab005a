"""Trace faithfulness on constructed scores."""

import numpy as np
import pytest

from zreward_core.evaluation.coupling import (
    flip_verdict,
    measure_coupling,
    trace_effect,
    trace_share,
)

IMAGES_P2 = np.array([[4.0, 1.0], [2.0, 3.5], [5.0, 4.5]])
TRACES_P2 = np.array([[1.0, -1.0], [0.5, 0.0], [-1.0, 1.0]])


def scores(by_image: float, by_trace: float) -> tuple[np.ndarray, np.ndarray]:
    own = by_image * IMAGES_P2 + by_trace * TRACES_P2
    exchanged = by_image * IMAGES_P2 + by_trace * TRACES_P2[:, ::-1]
    return own, exchanged


def test_trace_effect_is_the_traces_contribution_to_the_gap() -> None:
    own, exchanged = scores(1.0, 0.5)
    assert trace_effect(own, exchanged) == pytest.approx([1.0, 0.25, -1.0])
    of_images = (own[:, 0] - own[:, 1]) - trace_effect(own, exchanged)
    assert of_images == pytest.approx(IMAGES_P2[:, 0] - IMAGES_P2[:, 1])


def test_share_is_one_for_traces_alone_and_zero_for_images_alone() -> None:
    assert trace_share(*scores(0.0, 2.0)) == pytest.approx(1.0)
    assert trace_share(*scores(2.0, 0.0)) == pytest.approx(0.0)
    assert np.isnan(trace_share(np.ones((2, 2)), np.ones((2, 2))))


def test_an_interaction_of_trace_and_image_is_shared_equally() -> None:
    own, exchanged = np.array([[5.0, 1.0]]), np.array([[1.0, 1.0]])
    assert trace_share(own, exchanged) == pytest.approx(0.5)


def test_one_verdict_is_flipped_and_the_longest_phrase_matches() -> None:
    rng = np.random.default_rng(0)
    worse, better = {"whole": "broken strong"}, {"broken slight": "whole", "slight": "none"}
    assert flip_verdict("topleft whole", worse, better, rng) == ("topleft broken strong", -1)
    assert flip_verdict("topleft broken slight", worse, better, rng) == ("topleft whole", 1)
    assert flip_verdict("noise slight", worse, better, rng) == ("noise none", 1)
    assert flip_verdict("a quick look", worse, better, rng) == ("a quick look", 0)
    assert flip_verdict("wholesome", worse, better, rng) == ("wholesome", 0)
    assert flip_verdict("topleft whole", {}, {}, rng) == ("topleft whole", 0)
    both = {flip_verdict("whole slight", worse, better, rng)[0] for _ in range(20)}
    assert both == {"broken strong slight", "whole none"}


def test_changes_under_perturbed_traces_by_hand() -> None:
    own, exchanged = scores(0.0, 1.0)
    directions = np.array([[-1, 1], [0, 1], [-1, 0]])
    flipped = own + 0.5 * directions
    flipped[0, 1] -= 2.0  # one moves in the opposite direction
    flipped[1, 0] += 9.0  # not flipped, not counted
    found = measure_coupling(own, exchanged, own - 0.25, flipped, directions)
    assert found["flips_followed"] == pytest.approx(3 / 4)
    assert found["moved_flipped"] == pytest.approx((0.5 + 1.5 + 0.5 + 0.5) / 4)
    assert found["moved_truncated"] == pytest.approx(0.25)
    assert found["moved_exchanged"] == pytest.approx(np.abs(TRACES_P2 - TRACES_P2[:, ::-1]).mean())
    assert (found["num_pairs"], found["num_flips"]) == (3, 4)
    without = measure_coupling(own, exchanged, own, own, np.zeros_like(directions))
    assert without["flips_followed"] is without["moved_flipped"] is None
    assert measure_coupling(*[np.ones((2, 2))] * 5)["trace_share"] is None
