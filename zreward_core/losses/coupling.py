"""Contrastive coupling of score and reasoning; an open problem in Z-Reward (not in the paper).

Shapes: P same-prompt pairs, 2 sides (winner, loser), G outputs of a side, S score levels.
"""

from torch import Tensor

from zreward_core.losses.gdso import pointwise_loss


def coupling_loss(
    exchanged_log_probs_P2GS: Tensor, target_P2S: Tensor, num_pairs: float | Tensor
) -> Tensor:
    """Pointwise loss (equation 8) under exchanged traces, against the other image's score.

    Conditioned on the other image's trace, the target is the other image's score. The direct losses
    of GDSO can be minimized while ignoring the trace; this loss cannot.

    Args:
        exchanged_log_probs_P2GS: [P, 2, G, S] log q(s | p, I_j, d, rho_jbar,i).
        target_P2S: [P, 2, S] histogram of the annotated scores of each side's own image. All zero
            for a pair without scores, which adds nothing.
        num_pairs: pairs with scores in the whole batch.
    """
    return pointwise_loss(exchanged_log_probs_P2GS, target_P2S.flip(1), num_pairs)
