"""The rollout engine that launch.yaml gives a stage. Not a stage."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from zreward_core.adapters import ADAPTER, NAME, save_without
from zreward_core.config import UserError
from zreward_core.launch_file import launch_file_name
from zreward_core.models.backbone import Backbone
from zreward_core.models.card import read_card
from zreward_core.models.engine import Engine
from zreward_core.models.engine_client import EngineClient
from zreward_core.models.loading import checkpoint_of
from zreward_core.runtime.distributed import from_main, wait
from zreward_core.runtime.engine_server import serving
from zreward_core.runtime.launch_settings import read_engine
from zreward_core.runtime.worker import is_main

FOLDER = Path(".zreward/engine")
"""Logs of servers, and adapters on their way to them."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM reserves memory for; an adapter of a rank between two takes the larger."""


def has_engine(stage: str) -> bool:
    """Whether launch.yaml gives the stage an engine."""
    return read_engine(stage) is not None


@contextmanager
def rollout_engine(stage: str, backbone: Backbone, trains: bool = False) -> Iterator[None]:
    """Within the block the stage's engine, if it has one, samples the backbone's traces.

    Every process must enter and leave it. The main one starts the server, and stops it.

    Args:
        trains: the stage trains the backbone, and sends its adapter for each batch of traces.

    Raises:
        UserError: the server does not start or answer, or cannot serve the model.
    """
    settings = read_engine(stage)
    if settings is None:
        yield
        return
    if trains and backbone.adapted is None:
        raise UserError(
            f"{launch_file_name()}: 'rollouts.{stage}' is an engine, which takes adapters, not all"
            f" weights: set '{stage}.lora' in params.yaml, or leave the stage's rollouts local"
        )
    folder = FOLDER / f"{stage}-{os.getpid()}"
    with ExitStack() as stack:
        if is_main():
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        url = settings.url
        if url is None:
            _require_one_machine(stage)
            if is_main():
                arguments = server_arguments(backbone, folder, trains)
                log = FOLDER / f"{stage}.log"
                url = stack.enter_context(serving(settings, stage, arguments, log))
            url = from_main(url)
        assert url is not None
        client = EngineClient(url, settings.model, settings.timeout)
        backbone.engine = Engine(client, folder, settings.concurrency)
        stack.callback(setattr, backbone, "engine", None)
        if is_main():
            stack.callback(backbone.engine.close)
            adapter = Path(backbone.source) / ADAPTER
            apart = settings.url is not None or backbone.adapted is not None
            if not trains and adapter.is_dir() and apart:
                backbone.engine.use(adapter)
        backbone.engine.adapter = from_main(backbone.engine.adapter)
        yield
        wait()  # the others may still sample


def server_arguments(backbone: Backbone, folder: Path, trains: bool) -> list[str]:
    """Arguments of a server for the checkpoint of a backbone, and for an adapter if it has one.

    A trained model whose adapter is apart from its weights is served as it is used here: the
    weights are written without the adapter, for the server to read.

    Args:
        folder: for such weights.
    """
    source, revision = checkpoint_of(Path(backbone.source), read_card(Path(backbone.source)))
    model = backbone.network.model
    if backbone.adapted is not None and not trains:
        source = str(folder / "base")
        save_without(model, Path(source))
        backbone.tokenizer.save_pretrained(source)
        backbone.pixels.processor.save_pretrained(source)
    pixels = backbone.pixels
    limits = {  # images are resized here: the server must take them as they are
        "shortest_edge": (pixels.patch * pixels.merge) ** 2,
        "longest_edge": pixels.processor.size["longest_edge"],
    }
    arguments = ["--model", source, "--dtype", str(model.dtype).removeprefix("torch.")]
    if not Path(source).exists():
        arguments += ["--revision", revision]
    arguments += ["--max-model-len=-1", "--generation-config", "vllm", "--enable-scale-out"]
    arguments += ["--logprobs-mode", "processed_logprobs", "--no-enable-prefix-caching"]
    arguments += ["--limit-mm-per-prompt", json.dumps({"image": 1, "video": 0})]
    arguments += ["--mm-processor-kwargs", json.dumps({"size": limits})]
    if backbone.adapted is not None:
        rank = backbone.adapted.peft_config[NAME].r
        reserved = next((other for other in RANKS if other >= rank), rank)
        # a version is loaded before the one before is removed
        arguments += ["--enable-lora", "--max-loras", "2", "--max-lora-rank", str(reserved)]
    return arguments


def _require_one_machine(stage: str) -> None:
    if int(os.environ.get("WORLD_SIZE", 1)) > int(os.environ.get("LOCAL_WORLD_SIZE", 1)):
        raise UserError(
            f"{launch_file_name()}: {stage} runs on several machines, but starts its engine on one:"
            " start a server that all of them reach, and give the engine its url"
        )
