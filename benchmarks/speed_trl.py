"""Steps of TRL's GRPOTrainer, alternating with steps of another trainer; for `speed.py`."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.speed_models import WORDS
from zreward_core.models.backbone import Backbone
from zreward_core.stages.train_gdso import Config


def grpo_steps(
    backbone: Backbone,
    lengths: Sequence[int],
    config: Config,
    repeats: int,
    other: Callable[[], object],
) -> tuple[list[float], list[float]]:
    """CPU seconds of the other steps and of TRL's; the first of both is not counted.

    Args:
        backbone: whose model TRL trains a copy of.
        lengths: tokens of each prompt.
        config: of the other steps: group, KL weight, temperature.
        other: makes one of them.
    """
    length = backbone.prompt.max_trace_tokens
    prompts = [" ".join(WORDS[i % len(WORDS)] for i in range(count)) for count in lengths]
    found = [len(ids) for ids in backbone.tokenizer(prompts)["input_ids"]]
    assert found == list(lengths), "every word is a token"
    clock = _Alternating(other)
    with TemporaryDirectory() as name:
        folder = Path(name)
        backbone.network.model.save_pretrained(folder / "model")
        trainer = GRPOTrainer(
            model=str(folder / "model"),
            processing_class=backbone.tokenizer,
            reward_funcs=lambda completions, **_: [float(len(set(text))) for text in completions],
            args=GRPOConfig(
                output_dir=str(folder / "run"),
                max_steps=repeats + 1,
                per_device_train_batch_size=len(lengths) * config.group_size,
                num_generations=config.group_size,
                max_completion_length=length,
                temperature=config.temperature,
                beta=config.beta,
                generation_kwargs={
                    "min_new_tokens": length,
                    "suppress_tokens": backbone.chat.forbidden,
                },
                gradient_checkpointing=False,
                bf16=False,
                use_cpu=True,
                shuffle_dataset=False,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_dict({"prompt": prompts * (repeats + 1)}),
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        assert trainer.model.dtype == torch.float32
        trainer.train()
    return clock.other[1:], clock.own[1:]


class _Alternating(TrainerCallback):
    """Times a trainer's steps, and makes and times another one after each."""

    def __init__(self, other: Callable[[], object]) -> None:
        self._other = other
        self.own: list[float] = []
        self.other: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._begun = time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.own.append(time.process_time() - self._begun)
        begun = time.process_time()
        self._other()
        self.other.append(time.process_time() - begun)
