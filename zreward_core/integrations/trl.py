"""TRL's GRPO trainer: an entry of ``reward_funcs``."""

from collections.abc import Callable, Sequence
from typing import Any

from zreward_core.config import UserError
from zreward_core.integrations.rewards import open_reward


def image_reward(
    source: str,
    *,
    render: Callable[[list[str]], Sequence[Any]] | None = None,
    image_column: str = "image",
    dimension: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> Callable[..., list[float]]:
    """A reward function for a model that writes prompts or descriptions.

    Args:
        source: folder, models:/ URI or hub id of a student.
        render: makes an image for each completion, which is scored for the user's prompt (prompt
            rewriting). If None, the image of the column is scored for the completion (captioning).
        image_column: of the data set.
        dimension: whose mean is the reward; overall if None.
        device, dtype: of the student.

    Returns:
        A function that raises UserError where an image has no score: TRL's sum over reward
        functions reads a missing reward as 0.
    """
    reward = open_reward(source, dimension, device, dtype)

    def zreward(
        prompts: list[Any],
        completions: list[Any],
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float]:
        texts = [_text(completion) for completion in completions]
        if render is not None:
            scores = reward.scores([_text(prompt) for prompt in prompts], render(texts))
        elif image_column in columns:
            scores = reward.scores(texts, columns[image_column])
        else:
            raise UserError(f"the data set has no column {image_column}: name it, or pass render")
        if log_metric is not None:
            for name, value in zip(scores.dimensions, scores.mean.mean(0).tolist(), strict=True):
                log_metric(f"zreward/{name}", value)
        return reward.values(scores)

    return zreward


def _text(turns: Any) -> str:
    """Text of a prompt or completion, which is a string or a conversation."""
    if isinstance(turns, str):
        return turns
    content = turns[-1]["content"]
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content if part["type"] == "text")
