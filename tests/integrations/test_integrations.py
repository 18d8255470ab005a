"""The reward inside trainers: by their contracts, and inside TRL's and diffusers' own classes."""

import io
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.commands.serving import png, tiny_model
from tests.integrations import stand_ins
from zreward_core import RewardModel
from zreward_core.config import UserError
from zreward_core.integrations import diffusers, flow_grpo, trl, verl_omni
from zreward_core.integrations.rewards import open_reward

PROMPTS = ["a red circle", "a blue square", "red"]
IMAGES = [png() for _ in PROMPTS]
PIL = [Image.open(io.BytesIO(image)) for image in IMAGES]
ARRAY = np.stack([np.asarray(image) for image in PIL])
DIMENSION = "realism"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("student") / "student"
    tiny_model().backbone.save(folder, {})
    return str(folder)


@pytest.fixture(scope="module")
def model(source: str) -> RewardModel:
    return RewardModel.from_pretrained(source)


@pytest.fixture(scope="module")
def overall(model: RewardModel) -> Any:
    return pytest.approx(model.score(PROMPTS, PIL).overall.tolist(), rel=1e-5)


def test_importing_the_package_imports_no_trainer() -> None:
    code = (
        "import sys, zreward_core.integrations as one\n"
        "from zreward_core.integrations import diffusers, flow_grpo, trl, verl_omni\n"
        "print(sorted({'torch', 'trl', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_model_is_loaded_once(source: str) -> None:
    assert open_reward(source).model is open_reward(source, DIMENSION).model
    with pytest.raises(UserError, match="unknown dimension 'beauty'"):
        open_reward(source, "beauty")


def test_the_first_rewards_may_be_asked_for_in_threads(source: str, tmp_path: Path) -> None:
    link = tmp_path / "student"  # another name, under which nothing is loaded yet
    link.symlink_to(source)
    image = torch.from_numpy(ARRAY[0]).permute(2, 0, 1)

    def ask(index: int) -> tuple[RewardModel, float]:
        dimension = None if index % 2 else DIMENSION
        found = verl_omni.compute_score(
            "", image, PROMPTS[0], source=str(link), dimension=dimension
        )
        return open_reward(str(link), dimension).model, found["score"]

    with ThreadPoolExecutor(8) as threads:
        models, scores = zip(*threads.map(ask, range(8)), strict=True)
    assert len(set(map(id, models))) == 1 and len(set(scores)) == 2


def test_flow_grpo(source: str, model: RewardModel, overall: Any) -> None:
    load = flow_grpo.zreward_score(source)
    assert "device" in load.__code__.co_varnames  # how flow_grpo's multi_score calls it
    reward = load(torch.device("cpu"))
    floats = torch.from_numpy(ARRAY).permute(0, 3, 1, 2) / 255
    for images in (ARRAY, floats):
        scores, details = reward(images, np.array(PROMPTS), {})
        assert scores == overall and details == {}
    means = model.score(PROMPTS, PIL, [DIMENSION]).mean[:, 0].tolist()
    one = flow_grpo.zreward_score(source, DIMENSION)(torch.device("cpu"))
    assert one(ARRAY, PROMPTS, {})[0] == pytest.approx(means)
    with pytest.raises(UserError, match="row 1"):
        reward(ARRAY, ["red", "red " * 3000, "red"], {})
    assert reward(torch.from_numpy(ARRAY).permute(0, 3, 1, 2), PROMPTS, {})[0] == overall
    assert reward(floats[:0], [], {}) == ([], {})
    for images, prompts, reason in (  # none of them may become a number
        (floats * 2 - 1, PROMPTS, "values from -1 to 1, but 0 to 1 are expected"),
        (floats, [], "0 prompts for 3 images"),
        (floats[:1], [None], "the prompt is of type NoneType"),
    ):
        with pytest.raises(UserError, match=reason):
            reward(images, prompts, {})


def test_verl_omni(source: str, model: RewardModel, overall: Any) -> None:
    found = [
        verl_omni.compute_score(
            "prompts", torch.from_numpy(array).permute(2, 0, 1), prompt, {}, source=source,
            reward_router_address="none",
        )
        for array, prompt in zip(ARRAY, PROMPTS, strict=True)
    ]  # fmt: skip
    assert [one["score"] for one in found] == overall
    assert set(found[0]) == {"score", *model.dimensions}
    assert all(isinstance(value, float) for value in found[0].values())


def test_flow_factory(
    source: str, model: RewardModel, overall: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins.install(monkeypatch)
    from zreward_core.integrations.flow_factory import ZReward

    accelerator = SimpleNamespace(device=torch.device("cpu"))
    config = SimpleNamespace(
        name="z", source=source, device=torch.device("cuda"), dtype=torch.float32
    )
    reward = ZReward(config, accelerator)
    answer = reward(prompt=PROMPTS, image=PIL)
    assert answer.rewards.tolist() == overall and answer.rewards.shape == (3,)
    assert set(answer.extra_info) == set(model.dimensions)
    with pytest.raises(UserError, match="generates images"):
        reward(prompt=PROMPTS, video=[PIL])
    with pytest.raises(UserError, match="for its prompt alone"):  # as the server does
        reward(prompt=PROMPTS, image=PIL, condition_images=[[PIL[0]]] * 3)
    with pytest.raises(UserError, match="source is missing"):
        ZReward(SimpleNamespace(**vars(config) | {"source": None}), accelerator)


def test_unirl(source: str, overall: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins.install(monkeypatch)
    from zreward_core.integrations.unirl import ZRewardScorer

    scorer = ZRewardScorer(source)
    items = [
        stand_ins.ScoreItem([(prompt, image)])
        for prompt, image in zip([*PROMPTS, "red " * 3000], [*PIL, PIL[0]], strict=True)
    ]
    *found, failed = scorer.score(items)
    assert [one["reward"] for one in found] == overall
    assert next(iter(found[0])) == "reward" and tuple(found[0]) == scorer.sub_metric_names
    assert all(math.isnan(value) for value in failed.values())
    assert scorer.score([]) == []
    with pytest.raises(UserError, match="one turn"):
        scorer.score([stand_ins.ScoreItem([("a", PIL[0]), ("b", PIL[1])])])


@pytest.mark.parametrize("dimension", [None, "realism"])
def test_unirl_tensors(source: str, dimension: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The differentiable twin of ``score``: the same rewards, and gradients only if asked for."""
    stand_ins.install(monkeypatch)
    from zreward_core.integrations.unirl import ZRewardScorer

    scorer = ZRewardScorer(source, dimension)
    assert scorer.supports_grad
    images = torch.rand(3, 3, 40, 48, device=scorer.device).mul(255).round().div(255)
    found = scorer.score_tensors(images.requires_grad_(), list(PROMPTS))
    files = [
        Image.fromarray((one * 255).round().byte().permute(1, 2, 0).numpy())
        for one in images.detach().cpu()
    ]
    items = [stand_ins.ScoreItem([pair]) for pair in zip(PROMPTS, files, strict=True)]
    expected = [one["reward"] for one in scorer.score(items)]
    assert found.shape == (3,) and found.tolist() == pytest.approx(expected, abs=1e-4)
    found.sum().backward()
    assert images.grad is not None and (images.grad.abs().sum((1, 2, 3)) > 0).all()
    with torch.no_grad():
        assert not scorer.score_tensors(images, list(PROMPTS)).requires_grad
    with pytest.raises(UserError, match="but 0 to 1 are expected"):
        scorer.score_tensors(images.detach() * 255, list(PROMPTS))
    assert scorer.score_tensors(images[:0], []).shape == (0,)


def test_diffusers_best_of_n(source: str, overall: Any) -> None:
    verify = diffusers.verifier(source)
    assert [verify(image, prompt) for image, prompt in zip(PIL, PROMPTS, strict=True)] == overall
    assert verify(PIL, PROMPTS[0]) == pytest.approx(
        sum(verify(image, PROMPTS[0]) for image in PIL) / 3
    )

    def pipeline(prompt: str, generator: torch.Generator) -> SimpleNamespace:
        pixels = torch.randint(0, 256, (32, 40, 3), generator=generator, dtype=torch.uint8)
        return SimpleNamespace(images=[Image.fromarray(pixels.numpy())])

    best, found = diffusers.best_of_n(pipeline, "red", range(4), verify)
    assert found == sorted(found, key=lambda one: -one[1]) and len(found) == 4
    assert verify(best, "red") == found[0][1]
    with pytest.raises(UserError, match="no seeds"):
        diffusers.best_of_n(pipeline, "red", [], verify)
    with pytest.raises(UserError, match="made 2 images of a seed: pass more seeds"):
        diffusers.best_of_n(lambda **_: SimpleNamespace(images=PIL[:2]), "red", [0], verify)
    assert verify(IMAGES[0], PROMPTS[0]) == verify(PIL[0], PROMPTS[0])
    with pytest.raises(UserError, match=r"cat\.png is not found"):  # not of its first letter
        verify("cat.png", "red")


def test_trl_function(source: str, overall: Any) -> None:
    logged: dict[str, float] = {}
    caption = trl.image_reward(source, image_column="picture")
    found = caption(["?"] * 3, PROMPTS, picture=PIL, log_metric=logged.__setitem__)
    assert found == overall and f"zreward/{DIMENSION}" in logged
    rewrite = trl.image_reward(source, render=lambda texts: [PIL[len(text)] for text in texts])
    turns = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    completions = [[{"role": "assistant", "content": "a" * index}] for index in range(3)]
    assert rewrite(turns, completions) == overall
    turns = [[*one, {"role": "assistant", "content": "Sure:"}] for one in turns]
    assert rewrite(turns, completions) == overall
    with pytest.raises(UserError, match="no column image"):
        trl.image_reward(source)(["?"], ["red"])


def test_completions_without_a_score_have_the_reward_that_is_named(
    source: str, overall: Any
) -> None:
    """A model that is trained writes an empty one sooner or later."""
    call = [{"role": "assistant", "content": None, "tool_calls": []}]
    completions = [*PROMPTS, "", "red " * 3000, call]
    cells = [[image] for image in (*PIL, *PIL)]
    logged: dict[str, float] = {}
    caption = trl.image_reward(source, image_column="images", refused=1.0)
    *found, empty, long, tool = caption(
        ["?"] * 6, completions, images=cells, log_metric=logged.__setitem__
    )
    assert found == overall and [empty, long, tool] == [1.0] * 3
    assert 1 <= logged[f"zreward/{DIMENSION}"] <= 5
    assert caption(["?"], [""], images=cells[:1]) == [1.0]
    with pytest.raises(UserError, match="row 3: the prompt is empty"):
        trl.image_reward(source, image_column="images")(["?"] * 6, completions, images=cells)
    with pytest.raises(UserError, match="row 0: image is of type NoneType"):
        caption(["?"], ["red"], images=[None])
    with pytest.raises(UserError, match="refused is nan"):
        trl.image_reward(source, refused=math.nan)


@pytest.mark.filterwarnings("ignore")
def test_trl_trains_with_it(source: str, tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import Qwen2Config, Qwen2ForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    from zreward_core.models.tiny import build_tokenizer

    tokenizer = build_tokenizer(PROMPTS)
    network = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2,
        )
    )  # fmt: skip
    path = tmp_path / "image.png"
    path.write_bytes(IMAGES[0])
    rows = Dataset.from_dict({"prompt": PROMPTS[:2], "picture": [str(path)] * 2})
    trainer = GRPOTrainer(
        model=network,
        reward_funcs=trl.image_reward(source, image_column="picture"),
        args=GRPOConfig(
            output_dir=str(tmp_path / "run"), max_steps=1, per_device_train_batch_size=2,
            num_generations=2, max_completion_length=4, use_cpu=True, report_to="none", bf16=False,
        ),
        train_dataset=rows,
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    logged = trainer.state.log_history[0]
    assert 1 <= logged["reward"] <= 5 and f"zreward/{DIMENSION}" in logged
