"""Wrong numbers in calls of the Python API are errors that name the argument."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny_models import PROMPT, SIZES
from zreward_core import HackingMonitor, RewardModel, TeacherJudge
from zreward_core.arguments import finite_number, whole_number
from zreward_core.config import UserError
from zreward_core.integrations.diffusers import best_of_n
from zreward_core.models.backbone import Backbone
from zreward_core.models.tiny import build_backbone
from zreward_core.rubric import load_rubric

PIXELS = torch.zeros(1, 3, 16, 16)
IMAGE = np.zeros((16, 16, 3), np.uint8)
NOT_WHOLE = [1.5, 1.0, "2", True, math.nan, [1], torch.ones(2)]
NOT_FINITE = ["1", None, True, math.nan, math.inf, [1.0]]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return build_backbone(SIZES, ["a cat"], load_rubric(), PROMPT, seed=1)


@pytest.mark.parametrize("value", NOT_WHOLE, ids=repr)
def test_what_is_not_a_whole_number(value: Any) -> None:
    with pytest.raises(UserError, match=r"^steps is .*: pass a whole number of at least 1$"):
        whole_number("steps", value)


def test_whole_numbers_of_all_libraries() -> None:
    found = [whole_number("n", value) for value in (3, np.int64(3), torch.tensor(3))]
    assert found == [3, 3, 3] and {type(one) for one in found} == {int}
    assert whole_number("n", -2, least=None) == -2
    with pytest.raises(UserError, match="n is 0: pass a whole number of at least 1"):
        whole_number("n", 0)


@pytest.mark.parametrize("value", NOT_FINITE, ids=repr)
def test_what_is_not_a_finite_number(value: Any) -> None:
    with pytest.raises(UserError, match=re.escape(f"k is {value!r}: pass a finite number")):
        finite_number("k", value)
    assert finite_number("k", np.float32(2)) == finite_number("k", 2) == 2.0


CALLS: dict[str, Callable[[Backbone, Any], Any]] = {
    "batch_size": lambda b, v: RewardModel(b, batch_size=v),
    "batch_size before": lambda b, v: RewardModel.from_pretrained("no-folder", batch_size=v),
    "batch_size of a teacher": lambda b, v: TeacherJudge(b, batch_size=v),
    "num_traces": lambda b, v: TeacherJudge(b, num_traces=v),
    "num_traces before": lambda b, v: TeacherJudge.from_pretrained("no-folder", num_traces=v),
    "seed": lambda b, v: TeacherJudge(b, seed=v),
    "window": lambda b, v: RewardModel(b).score_stream("a", IMAGE, window=v),
    "micro_batch": lambda b, v: RewardModel(b).reward(["a"], PIXELS, micro_batch=v),
    "patience": lambda b, v: HackingMonitor(["a"], patience=v),
    "seed of a monitor": lambda b, v: HackingMonitor(["a"], seed=v),
    "step": lambda b, v: HackingMonitor(["a"]).update([0.0], [0.0], step=v),
    "a seed": lambda b, v: best_of_n(lambda **_: None, "a", [v], lambda *_: 0.0),
}


@pytest.mark.parametrize("value", [1.5, -1, "2"])
@pytest.mark.parametrize("name", CALLS)
def test_numbers_of_the_public_api(name: str, value: Any, backbone: Backbone) -> None:
    argument = re.split(" (?=of|before)", name)[0]
    expected = re.escape(f"{argument} is {value!r}: pass a whole number of at least ")
    with pytest.raises(UserError, match=expected):
        CALLS[name](backbone, value)


@pytest.mark.parametrize("value", [None, 1, (0, 1, 2), (1, 0), (0, math.nan), ("0", "1")], ids=repr)
def test_a_value_range_is_a_pair_of_numbers(value: Any, backbone: Backbone) -> None:
    with pytest.raises(UserError, match=r"value_range is .*: pass \(lowest, highest\)"):
        RewardModel(backbone).reward(["a"], PIXELS, value_range=value)


def test_other_arguments_of_a_wrong_type(backbone: Backbone) -> None:
    model = RewardModel(backbone)
    with pytest.raises(UserError, match="k is '1': pass a finite number"):
        model.score("a", IMAGE).lower_bound("1")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="dimensions is 3: pass names from"):
        model.score("a", IMAGE, dimensions=3)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"unknown dimensions \[3\]"):
        model.score("a", IMAGE, dimensions=["alignment", 3])  # type: ignore[list-item]
    with pytest.raises(UserError, match="the model is 5: pass a folder"):
        RewardModel.from_pretrained(5)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"1\.5 is not a device"):
        model.to(1.5)  # type: ignore[arg-type]
    assert HackingMonitor("alignment").dimensions == ["alignment"]
