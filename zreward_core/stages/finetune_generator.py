"""finetune_generator: champion, base generator, prompts, panel -> the tuned generator.

Equation 20 of Z-Reward (arXiv:2606.09076): the reward is back-propagated through the VAE and
several denoising steps into the transformer. The panel (the teacher) is evaluated during tuning and
never trained on; tuning stops early when the panel falls while the reward rises.
"""

from functools import partial
from pathlib import Path

import torch

from zreward_core.adapters import ADAPTER
from zreward_core.config import UserError
from zreward_core.diffusion.generator import ImageGenerator
from zreward_core.diffusion.loading import CARD, load_generator
from zreward_core.diffusion.tuning import close_weights, save_adapters
from zreward_core.evaluation.paired import compare_means
from zreward_core.evaluation.tuning_figures import (
    plot_samples_by_step,
    plot_tuned_samples,
    plot_tuning,
)
from zreward_core.models.loading import load_chat
from zreward_core.models.prompt_limit import short_enough
from zreward_core.models.scorer import RewardModel
from zreward_core.offloading import park, placed
from zreward_core.runtime.checkpoint import Checkpoint, tree_hash
from zreward_core.runtime.device import pick_device
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import write_history
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import PROMPTS, read_table, write_json
from zreward_core.stages._samples import sample_shards, stored_images
from zreward_core.stages._tuning import STAGE, Config, tune
from zreward_core.training.judges import judge_samples, oracle_judge, panel_judge, reward_judge

OUTPUT = Path("data/finetune_generator")
PROMPT_TABLE = Path("data/candidates/prompts.parquet")
BASE = Path("data/base_generator/generator")
STUDENT = Path("data/champion/student")
TEACHER = Path("data/train_gdso/teacher")


def run(config: Config) -> None:
    """Write generator/, metrics.json, history.jsonl, plots and contact_sheet.png.

    Raises:
        UserError: an input is missing, or there are too few prompts.
    """
    train, watched, held_out = divide_prompts(config)
    inputs = [PROMPT_TABLE, BASE, STUDENT, *([TEACHER] if config.panel else [])]
    checkpoint = Checkpoint(STAGE, config, [p for p in inputs if p.exists()])
    device = pick_device()
    reward = RewardModel.from_pretrained(STUDENT, device, config.dtype)
    for model in (STUDENT, *([TEACHER] if config.panel else [])):
        train, watched, held_out = (
            short_enough(load_chat(model), part, f"{PROMPT_TABLE}, for {model}")
            for part in (train, watched, held_out)
        )
    generator = load_generator(BASE, getattr(torch, config.dtype))
    generator.pipe.to(device)
    park(generator.text_encoders, device)  # on the device only while prompts are encoded
    judges = {"reward": reward_judge(reward)}
    if config.panel:
        resident = [generator.transformer, generator.pipe.vae, reward.backbone.network]
        judges["panel"] = panel_judge(
            TEACHER, config.panel_traces, config.seed, config.size, device, config.dtype, resident
        )
    if config.oracle:
        judges["oracle"] = oracle_judge(reward.dimensions)

    before = held_out_samples(config, checkpoint, "before", generator, held_out)
    history, samples = tune(config, checkpoint, generator, reward, judges, train, watched)
    after = held_out_samples(config, checkpoint, "after", generator, held_out)

    images = [partial(stored_images, shards) for shards in (before, after)]
    old, new = (judge_samples(judges, held_out, some) for some in images)
    if is_main():
        with whole_output(OUTPUT, config) as folder:
            if config.steps and config.lora:
                save_adapters(generator, folder / "generator" / ADAPTER)
                close_weights(generator.transformer, config.lora.rank)
            generator.pipe.save_pretrained(folder / "generator")
            write_json(
                {"student_sha256": tree_hash(STUDENT), "base_sha256": tree_hash(BASE)},
                folder / "generator" / CARD,
            )
            metrics = {
                name: compare_means(old[name], new[name], reward.dimensions, config.seed)
                for name in judges
            }
            write_json(metrics, folder / "metrics.json")
            summary = {
                name: {f"change_{key}" if key in ("low", "high") else key: value
                       for key, value in row["mean"].items()}
                for name, row in metrics.items()
            }  # fmt: skip
            write_json(summary, folder / "summary.json")  # a few numbers, for `dvc metrics`
            write_history(history, folder / "history.jsonl")
            plot_tuned_samples(
                held_out,
                [some(range(len(held_out))) for some in images],
                (old["reward"].mean(axis=1), new["reward"].mean(axis=1)),
                folder / "contact_sheet.png",
            )
            arrays = {step: kept.numpy() for step, kept in samples.items()}
            plot_samples_by_step(arrays, watched, folder / "samples_by_step.png")
            plot_tuning(history, reward.dimensions, folder)
    checkpoint.clear()


def divide_prompts(config: Config) -> tuple[list[str], list[str], list[str]]:
    """Prompts for training, for validation during tuning, and for the final comparison.

    Raises:
        UserError: one of the three is empty.
    """
    table = read_table(PROMPT_TABLE, PROMPTS)
    prompts = table.loc[table["purpose"] == "generator_train", "prompt"].tolist()
    held_out = table.loc[table["purpose"] == "generator_eval", "prompt"].tolist()
    watched, train = prompts[: config.watch.num_prompts], prompts[config.watch.num_prompts :]
    if not train or not held_out:
        raise UserError(
            f"{PROMPT_TABLE} has {len(prompts)} prompts of purpose generator_train and"
            f" {len(held_out)} of generator_eval: more than"
            f" {config.watch.num_prompts} and at least 1 are needed"
        )
    return train, watched, held_out


def held_out_samples(
    config: Config, checkpoint: Checkpoint, name: str, generator: ImageGenerator, prompts: list[str]
) -> list[Path]:
    """Shards of the images of ``sample_all``; a killed run continues with the next shard."""
    seeds = range(config.seed, config.seed + len(prompts))
    size = config.sample_batch_size
    with placed(generator.text_encoders, generator.pipe.device):
        label = f"held-out images {name} tuning"
        return sample_shards(
            checkpoint, name, lambda: generator, prompts, seeds, size, label, **config.sampling
        )
