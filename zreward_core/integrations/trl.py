"""TRL's GRPO trainer: an entry of ``reward_funcs``."""

from collections.abc import Callable, Sequence
from typing import Any

from zreward_core.arguments import finite_number
from zreward_core.config import UserError
from zreward_core.integrations.rewards import open_reward


def image_reward(
    source: str,
    *,
    render: Callable[[list[str]], Sequence[Any]] | None = None,
    image_column: str = "image",
    dimension: str | None = None,
    refused: float | None = None,
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
        refused: reward of a completion that is empty or too long to be a prompt, for captioning;
            if None, such a completion is an error.
        device, dtype: of the student.

    Returns:
        A function that raises UserError where an image has no score: TRL's sum over reward
        functions reads a missing reward as 0.
    """
    reward = open_reward(source, dimension, device, dtype)
    if refused is not None:
        refused = finite_number("refused", refused)

    def zreward(
        prompts: list[Any],
        completions: list[Any],
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float]:
        texts = [_text(completion) for completion in completions]
        if render is not None:
            texts, images = [_user_text(prompt) for prompt in prompts], render(texts)
        elif image_column in columns:
            images = [_image(cell) for cell in columns[image_column]]
        else:
            raise UserError(f"the data set has no column {image_column}: name it, or pass render")
        rewards = [refused] * len(texts)
        if render is None and refused is not None:
            good = [row for row, text in enumerate(texts) if reward.accepts(text)]
            texts, images = [texts[row] for row in good], [images[row] for row in good]
        else:
            good = list(range(len(texts)))
        scores = reward.scores(texts, images)
        for row, value in zip(good, reward.values(scores), strict=True):
            rewards[row] = value
        if log_metric is not None and good:
            for name, value in zip(scores.dimensions, scores.mean.mean(0).tolist(), strict=True):
                log_metric(f"zreward/{name}", value)
        return rewards  # type: ignore[return-value]  # all are set

    return zreward


def _text(turns: Any) -> str:
    """Text of a prompt or completion, which is a string or a conversation."""
    if isinstance(turns, str):
        return turns
    content = turns[-1]["content"] if turns else None
    if content is None:  # a call of a tool
        return ""
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content if part["type"] == "text")


def _user_text(turns: Any) -> str:
    """Text of the user's last turn in a prompt, which may end with the start of an answer."""
    if isinstance(turns, str):
        return turns
    return _text([turn for turn in turns if turn["role"] == "user"] or turns)


def _image(cell: Any) -> Any:
    """The image of a cell; a column ``images`` holds lists of them."""
    return cell[0] if isinstance(cell, list) and len(cell) == 1 else cell
