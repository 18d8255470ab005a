"""Training of scorers that answer with one token per dimension, without reasoning (equation 16).

Shapes: B images of a micro-batch, D dimensions, S levels.
"""

from collections.abc import Callable

import torch

from zreward_core.losses.mass import mass_loss
from zreward_core.models.backbone import Backbone
from zreward_core.models.score_decoder import expected_score
from zreward_core.models.scorer import student_scores
from zreward_core.runtime.distributed import precision
from zreward_core.training.samplers import Labelled
from zreward_core.training.updates import LossAndMetrics

Criterion = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]
"""Loss of log-probabilities and targets [B, D, S] under a mask [B, D], divided by a count."""


def one_token_loss(
    backbone: Backbone,
    data: Labelled,
    criterion: Criterion,
    mass_weight: float,
    part: list[int],
    batch: list[int],
) -> LossAndMetrics:
    """The criterion plus the mass term on a micro-batch, and the error of the expected score.

    Args:
        data: images and their target distributions.
        mass_weight: weight of the mass on the score tokens (0 in the paper).
        part: indices of the micro-batch.
        batch: indices of the whole batch, whose labelled dimensions are the count.
    """
    num_items = float(data.mask_ND[batch].sum())
    prompts, images = [data.prompts[i] for i in part], [data.images[i] for i in part]
    with precision():
        log_probs_BDS, mass_BD = student_scores(backbone, prompts, images)
    target_BDS = data.probs_NDS[part].to(log_probs_BDS)
    mask_BD = data.mask_ND[part].to(log_probs_BDS.device)
    loss = criterion(log_probs_BDS, target_BDS, mask_BD, num_items)
    mass = mass_loss(mass_BD[mask_BD], num_items)
    gap = expected_score(log_probs_BDS.detach().exp() - target_BDS, backbone.levels)
    error = ((gap.abs() * mask_BD).sum() / num_items).item()
    return loss + mass_weight * mass, {"loss/total": loss.item(), "score/error": error}
