"""Adapters on weights in bfloat16: trained in float32, merged without loss, used apart."""

from pathlib import Path

import pytest
import torch

from zreward_core.adapters import ADAPTER
from zreward_core.models.backbone import Backbone, LoraSettings
from zreward_core.models.loading import load_backbone
from zreward_core.models.scorer import student_scores


@pytest.fixture
def pixels(backbone: Backbone, images: list) -> list[torch.Tensor]:
    return [backbone.pixels.prepare(image) for image in images[:2]]


def scores(model: Backbone, pixels: list[torch.Tensor]) -> torch.Tensor:
    return student_scores(model, ["a red circle", "stars"], pixels)[0]


@pytest.fixture
def trained(backbone: Backbone, pixels: list[torch.Tensor], tmp_path: Path) -> Backbone:
    """Weights in bfloat16 with an adapter that changes them by about 0.1 %."""
    backbone.save(tmp_path / "base", {})
    model = load_backbone(tmp_path / "base", "bfloat16")
    model.train_mode(LoraSettings(rank=2, alpha=2), seed=5)
    optimizer = torch.optim.AdamW(model.trainable(), lr=1e-4)
    for _ in range(3):
        scores(model, pixels).sum().neg().backward()
        optimizer.step()
        optimizer.zero_grad()
    states = [v for s in optimizer.state.values() for v in s.values() if v.ndim]
    assert {v.dtype for v in [*states, *model.trainable()]} == {torch.float32}
    model.network.eval()
    return model


def own_weights(model: Backbone) -> dict[str, torch.Tensor]:
    state = model.network.model.state_dict()
    return {
        name.replace(".base_layer", ""): value
        for name, value in state.items()
        if "lora_" not in name
    }


@torch.no_grad()
def test_what_is_saved_is_what_was_trained(
    backbone: Backbone, trained: Backbone, pixels: list[torch.Tensor], tmp_path: Path
) -> None:
    expected = scores(trained, pixels)
    updates = {
        name.removesuffix(".lora_A.default.weight"): 1.0
        * trained.network.model.get_submodule(name.split(".lora_A")[0]).get_delta_weight("default")
        for name, _ in trained.network.model.named_parameters()
        if "lora_A" in name
    }
    trained.save(tmp_path / "one", {})
    before = {name: value.bfloat16() for name, value in own_weights(backbone).items()}

    whole = own_weights(load_backbone(tmp_path / "one"))
    assert set(whole) == set(before)
    lost = []
    for name, update in updates.items():
        base = before[f"{name}.weight"].float()
        assert torch.allclose(whole[f"{name}.weight"] - base, update, atol=1e-6)
        lost.append(((base + update).bfloat16() - base - update).norm() / update.norm())
    assert max(lost) > 0.5  # by merging in bfloat16

    apart = load_backbone(tmp_path / "one", "bfloat16")
    assert all(torch.equal(value, before[name]) for name, value in own_weights(apart).items())
    assert torch.equal(scores(apart, pixels), expected)
    assert not apart.trainable()
    apart.save(tmp_path / "two", {})
    files = [tmp_path / name / "model.safetensors" for name in ("one", "two")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_trained_model_can_be_trained_again(
    trained: Backbone, pixels: list[torch.Tensor], tmp_path: Path
) -> None:
    trained.save(tmp_path / "model", {})
    assert (tmp_path / "model" / ADAPTER / "adapter_model.safetensors").is_file()
    again = load_backbone(tmp_path / "model", "bfloat16")
    again.train_mode(LoraSettings(rank=3, alpha=3))
    assert {p.shape[0] for n, p in again.network.named_parameters() if "lora_A" in n} == {3}
    scores(again, pixels).sum().backward()
    assert all(parameter.grad is not None for parameter in again.trainable())
