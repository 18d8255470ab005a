"""Early stopping of reward tuning."""

import json
import re

import numpy as np
import pytest
import torch

from zreward_core.config import UserError
from zreward_core.evaluation.early_stopping import HackingMonitor, Verdict, find_hacking

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


def _monitored(panel_V: list[float], monitor: HackingMonitor) -> list[Verdict]:
    start = len(monitor.state_dict()["steps"])
    return [
        monitor.update(RISING[start + index], np.full((8, 1), panel), 10 * (start + index))
        for index, panel in enumerate(panel_V)
    ]


def test_a_monitor_names_the_dimension_and_the_weights_to_keep() -> None:
    found = _monitored([2.0, 3.0, 2.5, 3.1, 3.0, 2.9], HackingMonitor(["a"], patience=2))
    assert [bool(one.hacked) for one in found] == [False, False, True, False, True, True]
    assert [one.stop for one in found] == [False, False, False, False, False, True]
    assert [one.keep for one in found] == [0, 10, 10, 30, 30, 30]
    assert str(found[-1]).endswith("reward rose: a, mean; stop, and keep the weights of step 30")
    assert str(found[0]) == "no dimension is hacked"


def test_a_monitor_finds_the_one_dimension_that_is_hacked() -> None:
    monitor = HackingMonitor(["a", "b"])
    for step in range(4):
        reward = np.full((8, 2), 2.0 + step)
        verdict = monitor.update(reward, np.tile([2.0 + step, 4.0 - 0.3 * step], (8, 1)))
    assert verdict.hacked == ["b"] and verdict.stop and verdict.keep == 0


def test_a_monitor_goes_on_from_its_state() -> None:
    panel = [2.0, 3.0, 2.5, 2.4]
    whole = _monitored(panel, HackingMonitor(["a"]))
    first, second = HackingMonitor(["a"]), HackingMonitor(["a"])
    _monitored(panel[:2], first)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert _monitored(panel[2:], second) == whole[2:]


def test_scores_of_other_images_are_refused() -> None:
    monitor = HackingMonitor(["a"])
    monitor.update([1.0, 2.0], torch.tensor([1.0, 2.0]))
    for reward, panel, reason in [
        ([1.0], [1.0, 2.0], "the reward has scores [1, 1]: pass [2, 1]"),
        (np.zeros((2, 1)), np.zeros((2, 3)), "the panel has scores [2, 3]: pass [2, 1]"),
        ([1.0, np.nan], [1.0, 2.0], "not finite"),
    ]:
        with pytest.raises(UserError, match=re.escape(reason)):
            monitor.update(reward, panel)
    with pytest.raises(UserError, match="patience is 0"):
        HackingMonitor(["a"], patience=0)


def test_what_is_no_table_of_numbers_is_refused() -> None:
    """Such as scores as a whole, instead of their means."""
    monitor = HackingMonitor(["a", "b"])
    for wrong in (object(), [[1.0, 2.0], [3.0]], "high", 3.0):
        with pytest.raises(UserError, match=r"the panel (is of type|has scores)"):
            monitor.update([[1.0, 2.0]], wrong)
    assert not monitor.update([[1.0, 2.0]], [[1.0, 2.0]]).hacked
