"""Judges of a generator's samples: the reward that is trained on, the panel, the pixel oracle.

Shapes: B images, D dimensions, H x W pixels.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from zreward_core.models.scorer import RewardModel
from zreward_core.models.teacher import TeacherJudge
from zreward_core.offloading import placed
from zreward_core.runtime.distributed import gather, own_part
from zreward_core.world.measures import oracle_scores

PIXELS_AT_A_TIME = 4 * 1024**2
"""Pixels of the images that the panel judges together, each in all dimensions."""
Judge = Callable[[list[str], Iterable[np.ndarray]], np.ndarray]
"""prompts, images [H, W, 3] uint8, each taken once -> mean scores [B, D]."""
Images = Callable[[range], Iterable[np.ndarray]]
"""indices -> the images there."""


def reward_judge(reward: RewardModel) -> Judge:
    """The student that tuning uses as the reward."""

    def judge(prompts: list[str], images: Iterable[np.ndarray]) -> np.ndarray:
        return reward.score(prompts, images).mean.double().numpy()

    return judge


def panel_judge(
    folder: Path,
    num_traces: int,
    seed: int,
    size: tuple[int, int],
    device: torch.device,
    dtype: str,
    others: Sequence[nn.Module] = (),
) -> Judge:
    """The teacher in a folder; its scores are averaged over reasoning traces.

    It is on the device only while it judges; the other modules are then on the CPU.

    Args:
        size: (width, height) of the images.
    """
    batch_size = min(32, max(1, PIXELS_AT_A_TIME // (size[0] * size[1])))
    teacher = TeacherJudge.from_pretrained(
        folder, num_traces, seed, "cpu", dtype, batch_size=batch_size
    )
    network = teacher.backbone.network.requires_grad_(False)

    def judge(prompts: list[str], images: Iterable[np.ndarray]) -> np.ndarray:
        pixels = (torch.from_numpy(image).permute(2, 0, 1).to(device) for image in images)
        with placed(others, torch.device("cpu")), placed([network], device):
            return teacher.score(prompts, pixels).mean.double().numpy()

    return judge


def oracle_judge(dimensions: list[str]) -> Judge:
    """The pixel oracle of the miniature world."""

    def judge(prompts: list[str], images: Iterable[np.ndarray]) -> np.ndarray:
        return oracle_scores(images, prompts, dimensions)

    return judge


def judge_samples(
    judges: Mapping[str, Judge], prompts: list[str], images: Images
) -> dict[str, np.ndarray]:
    """Mean scores [B, D] by judge; each process judges a part, all processes get all scores.

    Args:
        images: called for each judge; a batch of them is in memory at a time if they are an
            iterator.
    """
    own = own_part(len(prompts))
    part = prompts[own.start : own.stop]
    return {
        name: np.concatenate(gather([judge(part, images(own))] if own else []))
        for name, judge in judges.items()
    }


def mean_scores(scores: Mapping[str, np.ndarray], dimensions: list[str]) -> dict[str, float]:
    """Metrics JUDGE/DIMENSION and JUDGE/mean of scores [B, D] by judge."""
    row: dict[str, float] = {}
    for judge, found in scores.items():
        means = found.mean(axis=0)
        row |= {f"{judge}/{name}": float(means[i]) for i, name in enumerate(dimensions)}
        row[f"{judge}/mean"] = float(means.mean())
    return row


def as_arrays(images: Tensor) -> np.ndarray:
    """Images [B, 3, H, W] as [B, H, W, 3]."""
    return images.permute(0, 2, 3, 1).numpy()
