"""One loop decodes all rows: questions of unequal length, rows that finish, and their calls."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from tests.models.conftest import PROMPT
from tests.tiny_models import build_family
from zreward_core.models.backbone import Backbone
from zreward_core.models.families import FAMILIES
from zreward_core.models.rollouts import Rollouts, closed_sequence, sample_rollouts
from zreward_core.models.score_decoder import score_log_probs
from zreward_core.rubric import Rubric

IMAGES = [0, 1, 3, 1, 2]
WORDS = [1, 6, 3, 1, 9]
"""Words of each query's question."""
SEEDS = [11, 12, 13, 14, 15]
GROUP, LIMIT = 3, 8


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest, rubric: Rubric) -> Backbone:
    """A tiny model that ends about a fifth of its traces at each token."""
    texts = ["a red circle at the top left", "two blue stars"]
    backbone = build_family(request.param, texts, rubric, PROMPT)
    model = backbone.network.model
    head = nn.Linear(model.lm_head.in_features, model.lm_head.out_features)
    with torch.no_grad():
        head.weight.copy_(4.0 * model.lm_head.weight)
        head.bias.zero_()
        head.bias[backbone.chat.close_id] = 3.0
    model.lm_head = head
    return backbone


@pytest.fixture(scope="module")
def pixels(family: Backbone, images: list[np.ndarray]) -> list[torch.Tensor]:
    return [family.pixels.prepare(image) for image in images[:4]]


def questions(backbone: Backbone) -> list[list[int]]:
    return [backbone.chat.ask(" ".join(["circle"] * number)) for number in WORDS]


def roll(
    backbone: Backbone,
    prompts: list[str],
    pixels: list[torch.Tensor],
    chosen: Sequence[int],
    group: int = GROUP,
) -> Rollouts:
    """Rollouts of some of the queries in one batch."""
    queries, seeds = [(IMAGES[q], 0) for q in chosen], [SEEDS[q] for q in chosen]
    asked = [questions(backbone)[q] for q in chosen]
    return sample_rollouts(backbone, prompts[:4], pixels, queries, group, LIMIT, seeds, asked=asked)


@pytest.fixture(scope="module")
def together(family: Backbone, prompts: list[str], pixels: list[torch.Tensor]) -> Rollouts:
    found = roll(family, prompts, pixels, range(5))
    assert len(set(map(len, questions(family)))) == 4
    assert len(set(map(len, found.tokens))) > 3  # traces of unequal length, some of them closed
    assert 0 < found.closed.sum() < len(found.closed)
    return found


@pytest.mark.parametrize("groups", [[[0], [1], [2], [3], [4]], [[4, 0], [2, 1, 3]]], ids=str)
def test_rollouts_are_the_same_in_every_grouping(
    family: Backbone,
    prompts: list[str],
    pixels: list[torch.Tensor],
    together: Rollouts,
    groups: list[list[int]],
) -> None:
    for group in groups:
        part = roll(family, prompts, pixels, group)
        rows = [q * GROUP + g for q in group for g in range(GROUP)]
        assert part.tokens == [together.tokens[row] for row in rows]
        assert torch.equal(part.closed, together.closed[rows])
        assert torch.equal(part.answers, together.answers[rows])
        torch.testing.assert_close(part.log_probs, together.log_probs[rows], atol=1e-4, rtol=0)
        torch.testing.assert_close(part.mass, together.mass[rows], atol=1e-5, rtol=0)


@torch.no_grad()
def test_rollouts_are_those_of_forwards_without_a_cache(
    family: Backbone, prompts: list[str], pixels: list[torch.Tensor], together: Rollouts
) -> None:
    """Tokens and answers invert the distributions of one forward over the whole sequence."""
    for n, trace in enumerate(together.tokens):
        query, g = divmod(n, GROUP)
        image = IMAGES[query]
        sequence = closed_sequence(family, trace)
        row = family.prefix(prompts[image], pixels[image]) + questions(family)[query] + sequence
        logits = family.logits([row], [pixels[image]], [0], len(sequence) + 1)[0]
        log_probs, mass = score_log_probs(logits[-1], family.label_ids)
        torch.testing.assert_close(together.log_probs[n], log_probs, atol=1e-4, rtol=0)
        torch.testing.assert_close(together.mass[n], mass, atol=1e-5, rtol=0)
        generator = torch.Generator().manual_seed(SEEDS[query])
        uniform = torch.rand(GROUP, LIMIT, generator=generator)[g]
        last = torch.rand(GROUP, 1, generator=generator)[g]
        logits[:, family.chat.forbidden] = -torch.inf
        cumulative = torch.softmax(logits, -1).cumsum(-1)
        at = [*range(len(trace)), len(sequence)]
        drawn = [*trace, int(together.answers[n])]
        for t, token, number in zip(at, drawn, [*uniform[: len(trace)], *last], strict=True):
            below = cumulative[t, token - 1] if token else 0.0
            assert below - 1e-4 <= number <= cumulative[t, token] + 1e-4


def calls(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Rows and tokens of each call of decode from now on."""
    found: list[tuple[int, int]] = []
    decode = backbone.network.decode

    def counted(input_ids: torch.Tensor, *inputs: object) -> torch.Tensor:
        found.append((input_ids.shape[0], input_ids.shape[1]))
        return decode(input_ids, *inputs)

    monkeypatch.setattr(backbone.network, "decode", counted)
    return found


def test_all_rows_are_decoded_in_one_loop_that_finished_rows_leave(
    family: Backbone,
    prompts: list[str],
    pixels: list[torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = calls(family, monkeypatch)
    rollouts = roll(family, prompts, pixels, range(5))
    lengths = [len(question) for question in questions(family)]
    totals = [
        lengths[n // GROUP] + len(closed_sequence(family, trace))
        for n, trace in enumerate(rollouts.tokens)
    ]
    assert found[0] == (5 * GROUP, min(lengths))
    assert sum(tokens for _, tokens in found) == max(totals)
    assert len(found) <= max(totals) - min(lengths) + 1
    fed = 0
    for rows, tokens in found:
        live = sum(total > fed for total in totals)
        assert live <= rows < 2 * live  # fewer than half of the rows are finished ones
        fed += tokens
    assert found[-1][0] < found[0][0] / 2


def test_known_tokens_are_fed_in_one_call(
    family: Backbone,
    prompts: list[str],
    pixels: list[torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = calls(family, monkeypatch)
    for query in range(5):
        found.clear()
        trace = roll(family, prompts, pixels, [query], group=1).tokens[0]
        assert len(found) == 1 + len(trace)  # the question; each token, the last with the closing
