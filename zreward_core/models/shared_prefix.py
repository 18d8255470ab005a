"""One forward pass over the common prefix of a group: system text, image, prompt, question.

The rows of a batch are packed into one sequence without padding, each prefix once, then the tails.
Only the mixers of a layer (attention and linear attention) relate tokens to each other. They run on
the prefixes first, then on the tails, each of which continues the keys and values or the recurrent
state of its prefix. Gradients pass and layers can be checkpointed, neither of which the library's
cache allows.

Shapes: B prefixes of P tokens at most, N = B x G tails of Q tokens at most, those of a prefix
adjacent, T tokens in all, K last tokens of a row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any

import torch
from torch import nn

MIN_TOKENS = 256
"""Tokens of the shortest prefix from which sharing it is worth the effort."""
MIXERS = ("self_attn", "linear_attn")
"""Names of the mixers in a layer of the supported families."""


@dataclass
class Packing:
    """The places of prefixes and tails in the packed sequence."""

    ids_T: torch.Tensor
    """The tokens."""
    prefix_BP: torch.Tensor
    """Indices of the prefixes' tokens, padded on the left."""
    prefix_mask_BP: torch.Tensor
    """Whether an index is that of a token."""
    tail_NQ: torch.Tensor
    """Indices of the tails' tokens, padded on the right."""
    order_T: torch.Tensor
    """Indices of the tokens in the padded prefixes and then tails, [B x P + N x Q]."""
    last_NK: torch.Tensor
    """Indices of the last tokens of each prefix with its tail."""

    @property
    def owner_N(self) -> torch.Tensor:
        """Prefix of each tail."""
        group = len(self.tail_NQ) // len(self.prefix_BP)
        return torch.arange(len(self.tail_NQ), device=self.tail_NQ.device) // group

    def positions(self, prefix_ABP: torch.Tensor) -> torch.Tensor:
        """Position ids [axes, 1, T] from those of the prefixes; a tail continues on all axes."""
        next_B = prefix_ABP.amax((0, 2)) + 1
        steps = torch.arange(self.tail_NQ.shape[1], device=next_B.device)
        tail_NQ = next_B[self.owner_N][:, None] + steps
        tails = tail_NQ.flatten().expand(len(prefix_ABP), -1)
        return torch.cat([prefix_ABP.flatten(1), tails], 1)[:, None, self.order_T]


def pays(prefixes: Sequence[list[int]], num_rows: int) -> bool:
    """Whether prefixes are shared by several rows, and long enough."""
    return num_rows > len(prefixes) and min(map(len, prefixes)) >= MIN_TOKENS


def pack(
    prefixes: Sequence[list[int]],
    tails: Sequence[list[int]],
    num_last: int,
    device: torch.device,
) -> Packing:
    """Pack B prefixes and N tails of at least two tokens, see ``Packing``."""
    rows = [*prefixes, *tails]
    ends = list(accumulate(len(row) for row in rows))
    places = [list(range(end - len(row), end)) for row, end in zip(rows, ends, strict=True)]
    before, after = places[: len(prefixes)], places[len(prefixes) :]
    width, length = max(map(len, before)), max(map(len, after))
    group = len(tails) // len(prefixes)
    last = []
    for n, tail in enumerate(after):
        row = [*before[n // group][-num_last:], *tail][-num_last:]
        last.append([row[0]] * (num_last - len(row)) + row)
    tables = [
        [token for row in rows for token in row],
        [[0] * (width - len(row)) + row for row in before],
        [[False] * (width - len(row)) + [True] * len(row) for row in before],
        [row + [0] * (length - len(row)) for row in after],
        [b * width + width - len(row) + i for b, row in enumerate(before) for i in range(len(row))]
        + [
            (len(before) * width + n * length) + i
            for n, row in enumerate(after)
            for i in range(len(row))
        ],
        last,
    ]
    return Packing(*(torch.tensor(table).to(device) for table in tables))


class _Carried:
    """The cache of one mixer: the states of the prefixes, which the tails continue.

    The first use keeps the prefixes' states, the second one continues them, without changing them.
    """

    def __init__(self, owner_N: torch.Tensor) -> None:
        self.owner_N = owner_N
        self.kept: dict[str, torch.Tensor] = {}

    def _continued(self, name: str) -> torch.Tensor | None:
        return self.kept[name][self.owner_N] if name in self.kept else None

    def _join(self, name: str, new: torch.Tensor, axis: int, kept: int | None) -> torch.Tensor:
        old = self._continued(name)
        if old is not None:
            return torch.cat([old, new], axis)
        self.kept[name] = new if kept is None else new[..., -kept:]
        return new

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, *_: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self._join("keys", keys, 2, None), self._join("values", values, 2, None)

    def update_conv_state(
        self, states: torch.Tensor, *_: Any, conv_kernel_size: int
    ) -> torch.Tensor:
        return self._join("conv", states, 2, conv_kernel_size)

    def get_conv_state(self, *_: Any, **__: Any) -> torch.Tensor | None:
        return self._continued("conv")

    def get_recurrent_state(self, *_: Any, **__: Any) -> torch.Tensor | None:
        return self._continued("recurrent")

    def update_recurrent_state(self, state: torch.Tensor, *_: Any) -> None:
        self.kept.setdefault("recurrent", state)

    def is_recording_past(self, *_: Any) -> bool:
        return True  # so that no state is changed in place


def share_prefixes(layers: Sequence[nn.Module]) -> None:
    """Let the mixers of layers accept a ``packing``; without one nothing changes."""
    for layer in layers:
        for name in MIXERS:
            mixer: Any = getattr(layer, name, None)
            if mixer is not None and not isinstance(mixer, _Sharing):
                mixer.__class__ = _sharing(mixer.__class__, name)


class _Sharing(nn.Module):
    """Base of the classes that mixers get.

    An attribute ``forward`` of the mixer would refer to the mixer itself: the weights of a deleted
    model would stay in memory until a garbage collection.
    """

    mixer_name: str
    """One of ``MIXERS``."""

    def forward(self, **arguments: Any) -> Any:
        """Run the mixer with an optional ``packing``."""
        return _mix(self.mixer_name, super().forward, **arguments)


@cache
def _sharing(kind: type[nn.Module], name: str) -> type[nn.Module]:
    """The class of a mixer that shares prefixes."""
    return type(f"Sharing{kind.__name__}", (_Sharing, kind), {"mixer_name": name})


def _mix(
    name: str,
    forward: Callable[..., Any],
    *,
    hidden_states: torch.Tensor,
    packing: Packing | None = None,
    **arguments: Any,
) -> Any:
    """Run a mixer on prefixes and then on tails; or, without a packing, as it is."""
    if packing is None:
        return forward(hidden_states=hidden_states, **arguments)
    attends = name == "self_attn"
    cache = _Carried(packing.owner_N)
    arguments["past_key_values" if attends else "cache_params"] = cache
    rotary = arguments.pop("position_embeddings", ())
    parts: list[torch.Tensor] = []
    for places in (packing.prefix_BP, packing.tail_NQ):
        if attends:
            arguments["position_embeddings"] = tuple(
                value[..., 0, :, :][..., places, :] for value in rotary
            )
            arguments["attention_mask"] = _attention_mask(packing, tails=bool(parts))
        else:
            arguments["attention_mask"] = None if parts else packing.prefix_mask_BP.long()
        found = forward(hidden_states=hidden_states[0][places], **arguments)
        parts.append((found[0] if attends else found).flatten(0, 1))
    packed = torch.cat(parts)[packing.order_T][None]
    return (packed, None) if attends else packed


def _attention_mask(packing: Packing, tails: bool) -> torch.Tensor:
    """Which tokens attention relates: [B, 1, P, P] of prefixes, [N, 1, Q, P + Q] of tails."""
    places, known_BP = packing.tail_NQ if tails else packing.prefix_BP, packing.prefix_mask_BP
    size = places.shape[1]
    causal = torch.ones(size, size, dtype=torch.bool, device=places.device).tril()
    if not tails:
        itself = torch.eye(size, dtype=torch.bool, device=places.device)  # padding too
        return (known_BP[:, None] & causal | itself)[:, None]
    before = known_BP[packing.owner_N][:, None].expand(-1, size, -1)
    return torch.cat([before, causal.expand(len(places), -1, -1)], -1)[:, None]
