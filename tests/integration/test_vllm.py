"""Rollouts of a real vLLM server on the CPU, in an environment of its own.

    ZREWARD_VLLM_PYTHON=/opt/vllm/bin/python pytest tests/integration/test_vllm.py

Tolerances are on log-probabilities of sampled tokens, in nats, between the server and our own
forward: kernels differ, and in bfloat16 so does the rounding.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.stages.training_root import write_root
from tests.vllm_models import ARGUMENTS, WORDS, environment, tiny
from zreward_core.adapters import adapter_weights
from zreward_core.config import UserError
from zreward_core.images import encode_png
from zreward_core.models import engine
from zreward_core.models.backbone import Backbone, LoraSettings
from zreward_core.models.engine import Engine
from zreward_core.models.engine_client import EngineClient
from zreward_core.models.loading import load_backbone
from zreward_core.models.rollouts import Rollouts, closed_sequence, sample_rollouts
from zreward_core.runtime.engine_server import serving
from zreward_core.runtime.engine_settings import Vllm
from zreward_core.runtime.progress import read_history
from zreward_core.stages import train_gdso
from zreward_core.stages._engine import server_arguments

PYTHON = os.environ.get("ZREWARD_VLLM_PYTHON")
pytestmark = pytest.mark.skipif(
    PYTHON is None, reason="ZREWARD_VLLM_PYTHON names no Python of an environment with vLLM"
)
QUERIES = [(0, 0), (0, 1), (1, 1), (2, 0)]
GROUP, LIMIT = 16, 6
TOLERANCE = {"float32": (1e-4, 2e-3), "bfloat16": (0.03, 1.0)}
"""Mean and largest difference."""
ROUNDED = 0.15
"""Mean difference where the pixels of a resized image are rounded to 8 bits."""


@pytest.fixture(
    scope="module",
    params=[("qwen3_vl", "float32"), ("qwen3_5", "bfloat16")],
    ids=["qwen3_vl", "qwen3_5"],
)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backbone]:
    """A model in training, with a server that has its base."""
    model_type, dtype = request.param
    folder = tmp_path_factory.mktemp(model_type)
    tiny(model_type).save(folder / "base", {})
    backbone = load_backbone(folder / "base", dtype)
    backbone.train_mode(LoraSettings(rank=4, alpha=8), seed=5)
    backbone.network.eval()
    settings = Vllm(
        kind="vllm", python=PYTHON, arguments=ARGUMENTS, environment=environment(folder / "site")
    )
    arguments = server_arguments(backbone, folder, trains=True)
    with serving(settings, "test", arguments, folder / "server.log") as url:
        backbone.engine = Engine(EngineClient(url, None, 600.0), folder / "engine", 4)
        yield backbone


def prepared(model: Backbone, *sizes: tuple[int, int]) -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    return [model.pixels.prepare(array) for array in arrays]


def roll(
    model: Backbone,
    seed: int,
    temperature: float = 1.0,
    exact: bool = False,
    asked: list[list[int]] | None = None,
    limit: int = LIMIT,
) -> Rollouts:
    others = [(32, 32)] * 2 if exact else [(48, 60), (90, 40)]
    images, seeds = prepared(model, (32, 32), *others), [seed + 100 * q for q in range(4)]
    return sample_rollouts(model, WORDS, images, QUERIES, GROUP, limit, seeds, temperature, asked)


def tolerance(model: Backbone) -> tuple[float, float]:
    return TOLERANCE[str(model.network.model.dtype).removeprefix("torch.")]


def require_close(model: Backbone, found: Rollouts) -> None:
    mean, largest = tolerance(model)
    gaps = np.abs([ratio for row in found.log_ratios for ratio in row])
    print(f"{model.source}: {len(gaps)} tokens, mean {gaps.mean():.2g}, largest {gaps.max():.2g}")
    assert gaps.mean() < mean and gaps.max() < largest


def test_traces_of_images_and_bans(model: Backbone) -> None:
    found, chat = roll(model, 7, exact=True), model.chat
    require_close(model, found)
    assert len(found.tokens) == len(QUERIES) * GROUP
    assert len({tuple(tokens) for tokens in found.tokens}) > len(found.tokens) // 2
    # about 400 tokens, of which 1 in 40 would be a forbidden one
    assert not {token for tokens in found.tokens for token in tokens} & set(chat.forbidden)
    for tokens, closed in zip(found.tokens, found.closed.tolist(), strict=True):
        assert closed == (tokens[-1] == chat.close_id) and (closed or len(tokens) == LIMIT)
    assert found.tokens == roll(model, 7, exact=True).tokens != roll(model, 8, exact=True).tokens
    # the engine's distribution at the score position against ours
    asked = [
        chat.questions[dimension] + closed_sequence(model, found.tokens[q * GROUP])
        for q, (_, dimension) in enumerate(QUERIES)
    ]
    require_close(model, roll(model, 7, exact=True, asked=asked, limit=1))


def test_resized_images_and_greedy_traces(model: Backbone) -> None:
    found = roll(model, 7)
    gaps = np.abs([ratio for row in found.log_ratios for ratio in row])
    assert gaps.mean() < ROUNDED
    if model.network.model.dtype == torch.float32:
        greedy, kept = roll(model, 7, 0.0, exact=True), model.engine
        model.engine = None
        local = roll(model, 7, 0.0, exact=True)
        model.engine = kept
        assert greedy.tokens == local.tokens and torch.equal(greedy.answers, local.answers)


def test_an_adapter_is_renewed_twice(model: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MAX_GAP", 1e9)
    mean, _ = tolerance(model)
    found = []
    for step in range(3):
        with torch.no_grad():
            for n, parameter in enumerate(model.trainable()):
                generator = torch.Generator().manual_seed(100 * step + n)
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        stale = np.abs([ratio for row in roll(model, 7, exact=True).log_ratios for ratio in row])
        print(f"{model.source}: before renewal {step} mean {stale.mean():.2g}")
        assert stale.mean() > 2 * mean
        model.engine.renew(model.adapted, adapter_weights(model.adapted))
        found.append(roll(model, 7, exact=True))
        require_close(model, found[-1])
    assert len({str(rollouts.tokens) for rollouts in found}) == 3
    model.engine.close()


def test_a_model_that_it_does_not_serve(model: Backbone) -> None:
    with pytest.raises(UserError, match="not 'another'"):
        EngineClient(model.engine.client.url, "another", 60.0)
    with pytest.raises(UserError, match=r"answers /v1/load_lora_adapter with 4\d\d"):
        model.engine.client.load_adapter("none", Path("/none"))


def test_gdso_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step samples with the adapter that the step before has updated."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(8)]
    write_root(tmp_path, map(encode_png, pixels))
    base = tmp_path / "data/base_vlm/teacher"
    shutil.rmtree(base)
    tiny("qwen3_vl").save(base, {})
    server = {"kind": "vllm", "python": PYTHON, "arguments": ARGUMENTS}
    server["environment"] = environment(tmp_path / "site")
    content = {"engines": {"own": server}, "rollouts": {"train_gdso": "own"}}
    Path("launch.yaml").write_text(yaml.safe_dump(content))
    lora = LoraSettings(rank=4, alpha=32)
    config = train_gdso.Config(
        seed=1,
        steps=3,
        pairs_per_step=2,
        micro_batch_pairs=1,
        group_size=4,
        lora=lora,
        learning_rate=0.1,
        warmup_steps=0,
    )
    train_gdso.run(config)
    history = read_history(train_gdso.OUTPUT / "history.jsonl")
    for row in history:
        print({name: row[name] for name in ("engine/gap", "engine/largest_gap", "grad_norm")})
    mean, largest = TOLERANCE["float32"]
    assert len(history) == 3
    assert all(row["engine/gap"] < mean and row["engine/largest_gap"] < largest for row in history)
    assert all(row["grad_norm"] > 0 for row in history)
    assert history[-1]["policy/drift"] > 0.1  # from the served base
