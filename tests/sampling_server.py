"""The addresses of a vLLM server that the engine's client uses, behind them a backbone of ours.

It serves in a thread of the test. `change` is applied to each answer of the generation address.
"""

import base64
import copy
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import torch
from PIL import Image

from zreward_core.models.backbone import Backbone
from zreward_core.models.rollouts import pick_tokens
from zreward_core.models.score_decoder import token_log_probs


class SamplingServer:
    """State of a server: its models, what it was asked, how its answers are changed."""

    def __init__(self, backbone: Backbone, url: str, name: str = "served") -> None:
        self.url, self.name = url, name
        self.base = backbone
        self.models: dict[str, Backbone] = {name: backbone}
        self.loaded: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.max_length = 1024
        self.change: Callable[[dict[str, Any]], Any] = lambda answer: answer
        self.status = 200
        self.lock = threading.Lock()

    def answer(self, path: str, body: dict[str, Any]) -> Any:
        if path == "/v1/models":
            base = {"id": self.name, "parent": None, "max_model_len": self.max_length}
            adapters = [{"id": n, "parent": self.name} for n in self.models if n != self.name]
            return {"object": "list", "data": [base, *adapters]}
        if path == "/v1/load_lora_adapter":
            assert body["lora_name"] not in self.models
            self.models[body["lora_name"]] = adapted(self.base, body["lora_path"])
            self.loaded.append(body["lora_name"])
            return "Success"
        if path == "/v1/unload_lora_adapter":
            del self.models[body["lora_name"]]
            return "Success"
        assert path == "/inference/v1/generate"
        self.requests.append(body)
        return self.change(generate(self.models[body["model"]], body))


@torch.no_grad()
def generate(model: Backbone, body: dict[str, Any]) -> dict[str, Any]:
    """Traces by forwards without a cache, at random numbers of the request's seed."""
    params = body["sampling_params"]
    (part,) = body["content_parts"]
    data = base64.b64decode(part["url"].removeprefix("data:image/png;base64,"))
    image = model.pixels.prepare(np.asarray(Image.open(io.BytesIO(data))))
    at = body["token_ids"].index(model.chat.image_token_id)
    number = model.pixels.num_tokens(*image.shape[-2:])
    expanded = body["token_ids"][:at] + [model.chat.image_token_id] * number
    expanded += body["token_ids"][at + 1 :]
    forbidden = [int(token) for token, bias in params["logit_bias"].items() if bias == -100]
    choices = []
    for index in range(params["n"]):
        generator = torch.Generator().manual_seed(params["seed"] + index)
        tokens: list[int] = []
        content = []
        while len(tokens) < params["max_tokens"]:
            logits = model.logits([expanded + tokens], [image], [0], 1)[0]
            uniform = torch.rand(1, generator=generator)
            token = pick_tokens(logits, forbidden, uniform, params["temperature"])
            log_prob = token_log_probs(logits, token, forbidden, params["temperature"])
            tokens.append(token.item())
            content.append({"token_id": tokens[-1], "logprob": log_prob.item(), "rank": None})
            if tokens[-1] in params["stop_token_ids"]:
                break
        choices.append({"index": index, "token_ids": tokens, "logprobs": {"content": content}})
    return {"prompt_token_ids": expanded, "choices": choices[::-1]}  # in the order of their ends


def adapted(base: Backbone, folder: str) -> Backbone:
    """The base with an adapter from a folder."""
    from peft import PeftModel

    model = copy.deepcopy(base)
    found = PeftModel.from_pretrained(model.network.model, folder)
    model.network.model = found.get_base_model()
    model.network.eval()
    return model


@contextmanager
def sampling_server(backbone: Backbone) -> Iterator[SamplingServer]:
    """A server of a backbone, which may be changed while it serves."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply({})

        def do_POST(self) -> None:
            self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def reply(self, body: dict[str, Any]) -> None:
            with server.lock:  # one at a time: `pick_tokens` and all are quick
                answer = server.answer(self.path, body)
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(server.status)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = SamplingServer(backbone, f"http://127.0.0.1:{http.server_address[1]}")
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
