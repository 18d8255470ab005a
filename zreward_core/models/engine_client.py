"""HTTP client of a vLLM server: its model, its adapters, and traces of one query at a time.

The server's answers are validated here; whatever is wrong with them is a UserError.
"""

import base64
import io
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from zreward_core.config import UserError
from zreward_core.launch_file import launch_file_name

NEVER = -100.0
"""Bias on the logit of a forbidden token, the lowest that the interface defines."""


@dataclass
class Query:
    """A request for the traces of one prompt, image and question."""

    tokens: list[int]
    """The prompt, with one placeholder token for the image."""
    expanded: list[int]
    """The prompt as our own forward has it, with a placeholder for each image token."""
    image: torch.Tensor
    """Resized pixels [3, h, w] in [0, 1]."""
    seed: int


@dataclass
class Sampling:
    """How traces are sampled."""

    num_traces: int
    max_tokens: int
    temperature: float
    close_id: int
    """Token that ends a trace."""
    forbidden: list[int]
    """Tokens that are never sampled."""
    vocabulary: int
    """Number of tokens."""


@dataclass
class Trace:
    """A sampled trace, with its closing token if it was sampled."""

    tokens: list[int]
    log_probs: list[float]
    """Of each token under the distribution from which the server has sampled it."""


class EngineClient:
    """A connection to a server."""

    def __init__(self, url: str, model: str | None, timeout: float) -> None:
        """Ask the server for its model.

        Args:
            url: address of the server.
            model: name of the base model there; None for the only one.
            timeout: of each request, in seconds.

        Raises:
            UserError: the server does not answer, or has no such model, or several.
        """
        self.url, self.timeout = url.rstrip("/"), timeout
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        served = self._field(self._ask("/v1/models"), "data", list)
        models = {self._field(one, "id", str): one for one in served}
        bases = {name: one for name, one in models.items() if not one.get("parent")}
        if model is None and len(bases) == 1:
            model = next(iter(bases))
        if model is None or model not in bases:
            raise UserError(
                f"the rollout engine at {self.url} serves {sorted(bases)}, not {model!r}:"
                f" correct the engine's 'model' in {launch_file_name()}"
            )
        self.base = model
        self.max_length = bases[model].get("max_model_len")

    def load_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter from a folder that the server can read."""
        self._ask("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder.resolve())})

    def unload_adapter(self, name: str) -> None:
        """Remove an adapter."""
        self._ask("/v1/unload_lora_adapter", {"lora_name": name})

    def sample(self, query: Query, sampling: Sampling, model: str) -> list[Trace]:
        """Traces of a query.

        Args:
            model: the base model, or an adapter.

        Raises:
            UserError: the server does not answer, or its answer does not fit the request.
        """
        longest = len(query.expanded) + sampling.max_tokens
        if self.max_length is not None and longest > self.max_length:
            raise UserError(
                f"the rollout engine at {self.url} has a max_model_len of {self.max_length}, but a"
                f" prompt with its trace has up to {longest} tokens: start it with a larger one, or"
                " lower base_vlm's prompt.max_trace_tokens"
            )
        number = sampling.num_traces if sampling.temperature else 1  # greedy traces are equal
        answer = self._ask(
            "/inference/v1/generate",
            {
                "model": model,
                "token_ids": query.tokens,
                "content_parts": [{"type": "image_url", "url": data_url(query.image)}],
                "return_token_ids": True,
                "sampling_params": {
                    "n": number,
                    "seed": query.seed,  # of the first trace; those of the others follow it
                    "temperature": sampling.temperature,
                    "max_tokens": sampling.max_tokens,
                    "stop_token_ids": [sampling.close_id],
                    "ignore_eos": True,  # a chat token, which is forbidden
                    "logit_bias": {str(token): NEVER for token in sampling.forbidden},
                    "logprobs": 0,  # of the sampled token alone
                    "detokenize": False,
                },
            },
        )
        if answer.get("prompt_token_ids") != query.expanded:
            raise self._wrong(
                f"it has read {_count(answer.get('prompt_token_ids'))} tokens instead of"
                f" {len(query.expanded)}, or others: it serves a model of another kind, or resizes"
                " images; start it with the image sizes of the checkpoint (docs/launchers.md)"
            )
        choices = self._field(answer, "choices", list)
        if len(choices) != number:
            raise self._wrong(f"it has {len(choices)} traces instead of {number}")
        traces = [self._trace(choice, sampling) for choice in sorted(choices, key=_index)]
        return traces * (sampling.num_traces // number)

    def _trace(self, choice: Any, sampling: Sampling) -> Trace:
        tokens = self._field(choice, "token_ids", list)
        content = self._field(self._field(choice, "logprobs", dict), "content", list)
        log_probs = [self._field(one, "logprob", float) for one in content]
        if not 0 < len(tokens) <= sampling.max_tokens or len(tokens) != len(log_probs):
            raise self._wrong(
                f"a trace has {len(tokens)} tokens and {len(log_probs)} log-probabilities, where at"
                f" most {sampling.max_tokens} were asked for"
            )
        known = range(sampling.vocabulary)
        if wrong := [one for one in tokens if one not in known or one in sampling.forbidden]:
            raise self._wrong(f"a trace has the tokens {wrong}, which are unknown or forbidden")
        closed = tokens[-1] == sampling.close_id
        if sampling.close_id in tokens[:-1] or not (closed or len(tokens) == sampling.max_tokens):
            raise self._wrong(
                f"a trace of {len(tokens)} tokens ends neither with its closing token nor at the"
                f" limit of {sampling.max_tokens}, or goes on after it"
            )
        return Trace(tokens, log_probs)

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The object that answers a GET request, or a POST request with a body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json"}
        )
        try:
            with self._opener.open(request, timeout=self.timeout) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            raise UserError(
                f"the rollout engine at {self.url} answers {path} with {error.code}: {text[:600]}."
                + (MISSING if error.code == 404 else " See its log")
            ) from None
        except (OSError, ValueError) as error:  # ValueError: not an HTTP answer
            raise UserError(
                f"the rollout engine at {self.url} does not answer ({error}): start it again, or"
                f" remove the stage from 'rollouts' in {launch_file_name()}"
            ) from None
        if path.endswith("_lora_adapter"):
            return None  # a sentence
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self._wrong(f"{content[:80]!r} is not a JSON object")
        return found

    def _field(self, answer: Any, name: str, kind: type) -> Any:
        """A field of an answer, of a type."""
        value = answer.get(name) if isinstance(answer, dict) else None
        if not isinstance(value, (int, float) if kind is float else kind):
            raise self._wrong(f"'{name}' is {str(value)[:60]!r} instead of a {kind.__name__}")
        return value

    def _wrong(self, reason: str) -> UserError:
        return UserError(f"the rollout engine at {self.url} gave an unexpected answer: {reason}")


MISSING = (
    " A server must be vLLM 0.32 or later, started with --enable-scale-out; to train, also with"
    " --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
)
"""Said if an address of the server does not exist."""


def data_url(image: torch.Tensor) -> str:
    """Resized pixels [3, h, w] in [0, 1] as a PNG, rounded to 8 bits."""
    array = image.detach().mul(255.0).round().byte().permute(1, 2, 0).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _index(choice: Any) -> int:
    return choice.get("index", 0) if isinstance(choice, dict) else 0


def _count(tokens: Sequence[int] | None) -> int:
    return len(tokens or [])
