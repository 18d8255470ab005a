"""Rollouts whose traces a vLLM server samples; every number about them is computed here.

The server gives tokens and the log-probabilities under its own distribution (its kernels and its
precision differ from ours). Score distributions, answers and the policy's log-probabilities come
from one forward of the local model over the traces, so scores are exact for their traces, and
``Rollouts.log_ratios`` corrects the policy gradient.

Shapes: Q queries (an image and a dimension), G traces per query, N = Q x G rows, T tokens.
"""

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from zreward_core.adapters import save_adapter
from zreward_core.config import UserError
from zreward_core.models.backbone import Backbone
from zreward_core.models.engine_client import EngineClient, Query, Sampling, Trace
from zreward_core.models.rollouts import Rollouts, join_rollouts
from zreward_core.models.traces import read_sampled

MAX_GAP = 0.5
"""Largest mean difference, in nats a token, between the server's log-probabilities and ours.
Measured between vLLM and transformers in bfloat16: .03 (Qwen3-VL) and .07 (Qwen3.5)."""
FORWARD_TOKENS = 2**16
"""Tokens in a forward over traces; at least one query's traces are in it."""


class Engine:
    """A server that samples the traces of one model."""

    def __init__(self, client: EngineClient, folder: Path, concurrency: int) -> None:
        """Use a server.

        Args:
            client: connection to it.
            folder: for the adapters that are sent to it; the server must be able to read it.
            concurrency: requests in flight.
        """
        self.client, self.folder, self.concurrency = client, folder, concurrency
        self.adapter: str | None = None
        """Name of the adapter that is in use."""

    def renew(self, adapted: Any, state: dict[str, torch.Tensor]) -> None:
        """Send an adapter's current weights, which later traces are sampled from.

        Each version has a name and a folder of its own: under one name, vLLM would go on to use
        cached prefixes of the earlier weights.

        Args:
            adapted: the model of peft.
            state: weights of its adapter.
        """
        number = int(self.adapter.rpartition("-")[2]) + 1 if self.adapter else 0
        folder = self.folder / f"adapter-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        save_adapter(adapted, folder, state)
        self.use(folder, number)
        shutil.rmtree(folder)

    def use(self, folder: Path, number: int = 0) -> None:
        """Load an adapter in place of the one before."""
        before, name = self.adapter, f"{self.folder.resolve()}-{number}"
        self.client.load_adapter(name, folder)
        self.adapter = name
        if before is not None:
            self.client.unload_adapter(before)

    def close(self) -> None:
        """Remove the adapter in use from the server, if it still answers."""
        if self.adapter is not None:
            with suppress(UserError):
                self.client.unload_adapter(self.adapter)
            self.adapter = None

    def sample_rollouts(
        self,
        backbone: Backbone,
        prompts: Sequence[str],
        images: Sequence[torch.Tensor],
        queries: Sequence[tuple[int, int]],
        num_traces: int,
        max_tokens: int,
        seeds: Sequence[int],
        temperature: float,
        asked: Sequence[list[int]] | None,
    ) -> Rollouts:
        """``rollouts.sample_rollouts``, with traces of the server.

        Raises:
            UserError: the server does not answer, or its answer does not fit the request; or its
                log-probabilities are those of another model.
        """
        chat = backbone.chat
        if asked is None:
            asked = [chat.questions[dimension] for _, dimension in queries]
        sampling = Sampling(
            num_traces,
            max_tokens,
            temperature,
            chat.close_id,
            chat.forbidden,
            backbone.network.model.config.get_text_config().vocab_size,
        )
        sent = [
            Query(
                chat.prefix(prompts[i], 1) + question,
                backbone.prefix(prompts[i], images[i]) + question,
                images[i],
                seed,
            )
            for (i, _), question, seed in zip(queries, asked, seeds, strict=True)
        ]
        model = self.adapter or self.client.base

        def sample(query: Query) -> list[Trace]:
            return self.client.sample(query, sampling, model)

        with ThreadPoolExecutor(max(1, min(self.concurrency, len(sent)))) as pool:
            found = list(pool.map(sample, sent))
        parts = [
            _read(
                backbone,
                [prompts[queries[q][0]] for q in part],
                [images[queries[q][0]] for q in part],
                [asked[q] for q in part],
                [trace for q in part for trace in found[q]],
                torch.cat([_uniforms(seeds[q], num_traces) for q in part]),
                temperature,
            )
            for part in _parts(sent, found)
        ]
        rollouts = join_rollouts(parts)
        self._require_same_model(rollouts, temperature)
        return rollouts

    def _require_same_model(self, rollouts: Rollouts, temperature: float) -> None:
        assert rollouts.log_ratios is not None
        ratios = torch.tensor([ratio for row in rollouts.log_ratios for ratio in row])
        gap = ratios.abs().mean().item()
        if temperature and not gap <= MAX_GAP:
            raise UserError(
                f"the rollout engine at {self.client.url} gives its tokens log-probabilities that"
                f" differ from this model's by {gap:.2f} nats on average, more than {MAX_GAP}: it"
                " serves another model or adapter, or was not started with --logprobs-mode"
                " processed_logprobs"
            )


def _uniforms(seed: int, num_traces: int) -> torch.Tensor:
    """[G] uniform numbers that select the answers after a query's traces."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num_traces, generator=generator, dtype=torch.float32)


def _parts(sent: Sequence[Query], found: Sequence[Sequence[Trace]]) -> Iterator[list[int]]:
    """Indices of queries whose traces pass through the model together."""
    part: list[int] = []
    size = 0
    for q, (query, traces) in enumerate(zip(sent, found, strict=True)):
        tokens = sum(len(query.expanded) + len(trace.tokens) for trace in traces)
        if part and size + tokens > FORWARD_TOKENS:
            yield part
            part, size = [], 0
        part.append(q)
        size += tokens
    yield part


def _read(
    backbone: Backbone,
    prompts: Sequence[str],
    images: Sequence[torch.Tensor],
    asked: Sequence[list[int]],
    traces: Sequence[Trace],
    uniform_N: torch.Tensor,
    temperature: float,
) -> Rollouts:
    """The rollouts of some queries, from one forward over their traces."""
    tokens = [trace.tokens for trace in traces]
    found, answers_N = read_sampled(
        backbone, prompts, images, asked, tokens, temperature, uniform_N
    )
    ours = found.log_probs_NT.tolist()
    return Rollouts(
        tokens=tokens,
        closed=torch.tensor([row[-1] == backbone.chat.close_id for row in tokens]),
        log_probs=found.scores_NS.cpu(),
        mass=found.mass_N.cpu(),
        answers=answers_N.cpu(),
        log_ratios=[
            [own - theirs for own, theirs in zip(row, trace.log_probs, strict=False)]
            for row, trace in zip(ours, traces, strict=True)
        ],
    )
