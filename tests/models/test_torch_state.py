"""What a program does in torch for its own models changes no score: contexts, threads, pickles."""

import copy
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from zreward_core import RewardModel, Scores, TeacherJudge
from zreward_core.models.backbone import Backbone
from zreward_core.models.score_decoder import expected_score

PROMPT = "a red circle"


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


CONTEXTS: dict[str, Callable[[], AbstractContextManager]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "bfloat16 by default": lambda: default_dtype(torch.bfloat16),
    "float64 by default": lambda: default_dtype(torch.float64),
    "another device by default": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
}


@pytest.fixture(scope="module")
def folder(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "student"
    backbone.save(path, {"stage": "train_mine"})  # of both roles
    return path


def same(found: Scores, expected: Scores) -> None:
    for name in ("probs", "mass", "mean", "overall", "std"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=0, rtol=0)


@pytest.mark.parametrize("case", CONTEXTS)
def test_a_score_is_that_outside_of_the_context(
    folder: Path, images: list[np.ndarray], case: str
) -> None:
    for kind in (RewardModel, TeacherJudge):
        model = kind.from_pretrained(folder)  # type: ignore[attr-defined]
        expected = model.score(PROMPT, images[:2])
        with CONTEXTS[case]():
            loaded = kind.from_pretrained(folder)  # type: ignore[attr-defined]
            same(model.score(PROMPT, images[:2]), expected)
            same(loaded.score(PROMPT, images[:2]), expected)
        same(loaded.score(PROMPT, images[:2]), expected)
    with CONTEXTS[case]():
        shown = model.explain(PROMPT, images[0])
    torch.testing.assert_close(shown.teacher.probs, model.score(PROMPT, images[0]).probs)


@pytest.mark.parametrize("case", CONTEXTS)
def test_a_model_that_was_loaded_in_a_context_has_gradients(folder: Path, case: str) -> None:
    with CONTEXTS[case]():
        model = RewardModel.from_pretrained(folder)
    pixels = torch.full((1, 3, 32, 32), 0.5, requires_grad=True)
    model.reward([PROMPT], pixels).sum().backward()
    assert pixels.grad is not None and pixels.grad.abs().sum() > 0


def test_a_reward_under_autocast_is_float32(folder: Path) -> None:
    model = RewardModel.from_pretrained(folder)
    pixels = torch.rand(2, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        rewards = model.reward([PROMPT] * 2, pixels)
    assert rewards.dtype == torch.float32
    torch.testing.assert_close(rewards, model.reward([PROMPT] * 2, pixels), atol=0.05, rtol=0)
    probs, levels = torch.tensor([[0.1, 0.9]]), torch.tensor([4.0, 5.0])
    with torch.autocast("cpu", torch.bfloat16):  # 4.9 has no bfloat16 within 0.01
        assert expected_score(probs, levels).item() == pytest.approx(4.9)


def test_models_are_loaded_in_threads(folder: Path, images: list[np.ndarray]) -> None:
    with ThreadPoolExecutor(8) as threads:
        models = list(threads.map(RewardModel.from_pretrained, [folder] * 8))
        found = list(threads.map(lambda model: model.score(PROMPT, images[0]), models))
    for scores in found:
        same(scores, found[0])


def test_a_pickle_of_a_model_scores_alike(backbone: Backbone, images: list[np.ndarray]) -> None:
    for model in (
        RewardModel(copy.deepcopy(backbone)),
        TeacherJudge(copy.deepcopy(backbone), num_traces=2),
    ):
        expected = model.score(PROMPT, images[:2])
        again = pickle.loads(pickle.dumps(model))
        same(again.score(PROMPT, images[:2]), expected)
        same(again.score("another prompt", images[0]), model.score("another prompt", images[0]))
