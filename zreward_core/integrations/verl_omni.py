"""verl-omni: a reward function by its module path."""

from typing import Any

from zreward_core.integrations.rewards import open_reward


def compute_score(
    data_source: str,
    solution_image: Any,
    ground_truth: str,
    extra_info: dict | None = None,
    *,
    source: str,
    dimension: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    **kwargs: Any,
) -> dict[str, float]:
    """Score of one image, which verl-omni calls in threads.

    Args:
        data_source: not used.
        solution_image: uint8 tensor [3, H, W], or [1, 3, H, W].
        ground_truth: the prompt.
        extra_info: not used.
        source: folder, models:/ URI or hub id of a student.
        dimension: whose mean is the reward; overall if None.
        device, dtype: of the student.

    Returns:
        ``score``, which trains, and the mean of each dimension, which is logged.

    Raises:
        UserError: the image has no score.
    """
    reward = open_reward(source, dimension, device, dtype)
    if solution_image.ndim == 4 and len(solution_image) == 1:
        solution_image = solution_image[0]
    scores = reward.scores([ground_truth], [solution_image])
    return {"score": reward.values(scores)[0], **reward.means(scores)[0]}
