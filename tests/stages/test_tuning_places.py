"""Which models of finetune_generator are on the accelerator while others compute.

A second name of the CPU stands for the accelerator. Tensors report the same device for both, so the
places of the models are followed by the calls that move them, which are the real ones.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import nn

from tests.stages.generator_root import TUNING, finished_root, root
from zreward_core.diffusion import sampling
from zreward_core.models import opening
from zreward_core.offloading import placed
from zreward_core.stages import _tuning, finetune_generator
from zreward_core.training import judges

__all__ = ["finished_root", "root"]
ACCELERATOR = torch.device("cpu", 0)
SMALL = {**TUNING, "steps": 2, "lora": {"rank": 2, "alpha": 2}}


class Places:
    """Models by name, those on the accelerator, and the latter whenever a model computes."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.names: dict[nn.Module, str] = {}
        self.on: set[str] = set()
        self.seen: list[tuple[bool, str, frozenset[str]]] = []
        """Whether in a training step, the model that computes, those on the accelerator."""
        self.training = False
        to = nn.Module.to

        def moved(module: nn.Module, *given: Any, **named: Any) -> nn.Module:
            self._move([module], named.get("device", given[0] if given else None))
            return to(module, *given, **named)

        patch.setattr(nn.Module, "to", moved)
        patch.setattr(opening, "_try_out", lambda backbone: None)  # before the panel has a place
        patch.setattr(DiffusionPipeline, "device", property(lambda pipe: ACCELERATOR))
        patch.setattr(finetune_generator, "pick_device", lambda: ACCELERATOR)
        for module in (finetune_generator, _tuning, sampling, judges):
            patch.setattr(module, "placed", self._placed)
        for module, name in (
            (opening, "load_backbone"),
            (finetune_generator, "load_generator"),
            (_tuning, "train_step"),
        ):
            patch.setattr(module, name, getattr(self, f"_{name}")(getattr(module, name)))

    def _move(self, modules: Sequence[nn.Module], device: object) -> None:
        names = {self.names[module] for module in modules if module in self.names}
        self.on = self.on | names if device == ACCELERATOR else self.on - names

    @contextmanager
    def _placed(self, modules: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
        before = self.on
        self._move(modules, device)
        with placed(modules, device):
            yield
        self.on = before

    def _follow(self, name: str, module: nn.Module, computes: nn.Module) -> None:
        def note(*_: object) -> None:
            self.seen.append((self.training, name, frozenset(self.on)))

        self.names[module] = name
        computes.register_forward_pre_hook(note)

    def _load_backbone(self, load: Any) -> Any:
        def loaded(folder: Any, *given: Any) -> Any:
            backbone = load(folder, *given)
            name = "student" if folder == finetune_generator.STUDENT else "panel"
            self._follow(name, backbone.network, backbone.network.model.model)
            return backbone

        return loaded

    def _load_generator(self, load: Any) -> Any:
        def loaded(*given: Any) -> Any:
            generator = load(*given)
            (text_encoder,) = generator.text_encoders
            self._follow("text encoder", text_encoder, text_encoder)
            self._follow("transformer", generator.transformer, generator.transformer)
            self._follow("vae", generator.pipe.vae, generator.pipe.vae.decoder)
            return generator

        return loaded

    def _train_step(self, step: Any) -> Any:
        def noted(*given: Any) -> Any:
            self.training = True
            try:
                return step(*given)
            finally:
                self.training = False

        return noted


def test_text_encoder_and_panel_are_on_the_accelerator_only_while_used(
    root: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places(monkeypatch)
    finetune_generator.run(finetune_generator.Config(seed=5, **SMALL))
    resident = {"transformer", "vae", "student"}
    for training, model, on in places.seen:
        assert model in on, model
        if model == "panel":
            assert on == {"panel"} and not training
        elif training and model in resident:
            assert on == resident, model
    assert {model for training, model, _ in places.seen if training} == resident | {"text encoder"}
    assert "panel" in {model for _, model, _ in places.seen}
    assert places.on == resident
