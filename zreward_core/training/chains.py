"""Post-hoc rationales for annotated scores, the training data of RewardDance (arXiv:2509.08826).

Shapes: B items, N items in all, C chains of an item, S levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from zreward_core.losses.mass import mass_loss
from zreward_core.losses.sft import score_cross_entropy, token_cross_entropy
from zreward_core.models.backbone import Backbone
from zreward_core.models.rollouts import sample_rollouts
from zreward_core.models.score_decoder import expected_score
from zreward_core.models.traces import trace_log_probs
from zreward_core.runtime.distributed import precision
from zreward_core.training.updates import LossAndMetrics


@dataclass
class Chains:
    """N annotated items with their rationales."""

    prompts: list[str]
    images: Sequence[torch.Tensor]
    dimensions: list[int]
    tokens: list[list[int]]
    """Rationales as tokens of the trained model, with the closing token."""
    target_NS: torch.Tensor
    """Histograms of the annotated scores."""


def best_chains(
    writer: Backbone,
    prompts: Sequence[str],
    images: Sequence[torch.Tensor],
    dimensions: Sequence[int],
    scores: Sequence[float],
    target_BS: torch.Tensor,
    num_chains: int,
    seeds: Sequence[int],
    temperature: float,
) -> tuple[list[str], list[float]]:
    """Sample rationales from a model that is given the score, and keep the best one per item.

    The prompt has two turns: in the first, the answer is set to the annotated score, without
    reasoning; the second repeats the question. This uses only the chat format of the writer. The
    chain with the highest probability of the annotated score, without the first turn, is kept.

    Args:
        images: B resized images [3, h, w].
        dimensions: B indices of dimensions.
        scores: B annotated scores; the nearest level is put into the prompt.
        target_BS: histograms of the annotated scores.
        num_chains: C.
        seeds: B seeds.

    Returns:
        B texts, and the probability of the annotated score after each.
    """
    chat, levels = writer.chat, np.asarray(writer.rubric.levels)
    asked = []
    for score, dimension in zip(scores, dimensions, strict=True):
        label = chat.label_ids[int(np.abs(levels - score).argmin())]
        question = chat.questions[dimension]
        asked.append([*question, *chat.closing, label, *chat.next_turn, *question])
    chains = sample_rollouts(
        writer,
        prompts,
        images,
        list(enumerate(dimensions)),
        num_chains,
        writer.prompt.max_trace_tokens,
        seeds,
        temperature,
        asked,
    ).tokens
    with torch.no_grad():
        scores_NS = trace_log_probs(writer, prompts, images, dimensions, chains).scores_NS
    target_BS = target_BS.to(scores_NS)
    likelihood_BC = (scores_NS.exp().unflatten(0, (len(prompts), -1)) * target_BS[:, None]).sum(-1)
    best = likelihood_BC.argmax(1).tolist()
    texts = [chat.text(chains[b * num_chains + best[b]]) for b in range(len(prompts))]
    return texts, [likelihood_BC[b, best[b]].item() for b in range(len(prompts))]


def chain_loss(
    backbone: Backbone,
    data: Chains,
    score_weight: float,
    mass_weight: float,
    part: list[int],
    batch: list[int],
) -> LossAndMetrics:
    """Cross-entropy of the rationales' tokens and of the scores after them, on a micro-batch.

    Args:
        score_weight: weight of the score's loss beside that of the tokens.
        mass_weight: weight of the mass on the score tokens.
        part: indices of the micro-batch.
        batch: indices of the whole batch, whose tokens and items are the counts.
    """
    with precision():
        found = trace_log_probs(
            backbone,
            [data.prompts[i] for i in part],
            [data.images[i] for i in part],
            [data.dimensions[i] for i in part],
            [data.tokens[i] for i in part],
        )
    num_tokens = sum(len(data.tokens[i]) for i in batch)
    chains = token_cross_entropy(found.log_probs_NT, found.mask_NT, num_tokens)
    target_BS = data.target_NS[part].to(found.scores_NS)
    everything = torch.ones(len(part), dtype=torch.bool, device=target_BS.device)
    score = score_cross_entropy(found.scores_NS, target_BS, everything, len(batch))
    loss = chains + score_weight * score
    loss = loss + mass_weight * mass_loss(found.mass_N, len(batch))
    gap = expected_score(found.scores_NS.detach().exp() - target_BS, backbone.levels)
    return loss, {
        "loss/total": loss.item(),
        "loss/chain": chains.item(),
        "loss/score": score.item(),
        "score/error": gap.abs().sum().item() / len(batch),
    }
