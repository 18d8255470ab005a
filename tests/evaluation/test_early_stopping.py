"""Early stopping of reward tuning."""

import numpy as np

from zreward_core.evaluation.early_stopping import find_hacking

RISING = np.linspace(2, 4, 6)[:, None, None] + np.zeros((6, 8, 1))


def _ends(panel_V: list[float], patience: int) -> list[tuple[list[str], bool]]:
    panel_VND = np.array(panel_V)[:, None, None] + np.zeros((len(panel_V), 8, 1))
    return [
        find_hacking(panel_VND[:end], RISING[:end], ["a"], patience, seed=0)
        for end in range(1, len(panel_V) + 1)
    ]


def test_tuning_stops_when_the_patience_is_exhausted() -> None:
    hacked = ["a", "mean"]
    found = _ends([2.0, 3.0, 2.5, 3.1, 3.0, 2.9], patience=2)
    assert [names for names, _ in found] == [[], [], hacked, [], hacked, hacked]
    assert [stop for _, stop in found] == [False, False, False, False, False, True]


def test_a_patience_of_one_stops_at_the_first_hacked_validation() -> None:
    assert [stop for _, stop in _ends([2.0, 3.0, 2.5], patience=1)] == [False, False, True]
