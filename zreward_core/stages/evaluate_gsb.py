"""evaluate_gsb: both generators, held-out prompts -> blind pairs, judgements, GSB (equation 21)."""

import logging
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from zreward_core.config import Count, DtypeName, Side, StageConfig, UserError, Weight
from zreward_core.diffusion.loading import generator_class, locate
from zreward_core.evaluation.gsb import aggregate_gsb, blind_pairs, judge, unblind
from zreward_core.evaluation.image_sheets import BeforeAfter, plot_before_after
from zreward_core.images import ImageStore, write_images
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import PROMPTS, prompt_id, read_table, write_json
from zreward_core.stages._samples import on_device, sample_shards, stored_files
from zreward_core.world.measures import oracle_scores
from zreward_core.world.scenes import ASPECTS

logger = logging.getLogger(__name__)
OUTPUT = Path("data/evaluate_gsb")
PROMPT_TABLE = Path("data/candidates/prompts.parquet")
GENERATORS = {
    "base": Path("data/base_generator/generator"),
    "tuned": Path("data/finetune_generator/generator"),
}
CAPTIONS = {"good": "after is better", "same": "no difference", "bad": "before is better"}
"""Verdict to its caption on the contact sheet."""
NUM_SHOWN = 24
"""Pairs on the contact sheet."""


class Config(StageConfig):
    """Settings of the comparison."""

    num_steps: Count = 12
    """Denoising steps of a sample."""
    guidance_scale: Weight = 2.0
    """Guidance scale as the pipeline defines it; Z-Image is unguided at 0, others at 1."""
    size: tuple[Side, Side] = (1024, 1024)
    """(width, height) of the images in pixels."""
    dtype: DtypeName = "float32"
    """Data type of the generators' weights."""
    batch_size: Count = 64
    """Images sampled at a time."""
    judge: Literal["oracle", "people"] = "people"
    """The judge: people (`zreward gsb export` and `import`), or the miniature's pixel oracle."""
    samples: Count = 2
    """Pairs for each prompt, each with its own seed."""


def run(config: Config) -> None:
    """Write gsb.json, judgements.parquet, images/ and contact_sheet.png.

    With ``judge: people`` nothing is judged yet: gsb.json has no counts, and judgements.parquet
    contains only the pairs.

    Raises:
        UserError: a generator is missing, or there are no prompts to compare on.
    """
    table = read_table(PROMPT_TABLE, PROMPTS)
    table = table[table["purpose"] == "generator_eval"]
    if table.empty:
        raise UserError(
            f"{PROMPT_TABLE} has no prompt of purpose generator_eval: add a file to"
            " 'candidates.prompt_files.generator_eval' in params.yaml"
        )
    for path in GENERATORS.values():
        generator_class(*locate(path))
    prompts = [prompt for prompt in table["prompt"] for _ in range(config.samples)]
    checkpoint = Checkpoint("evaluate_gsb", config, [PROMPT_TABLE, *GENERATORS.values()])
    shards = {
        name: sample_shards(
            checkpoint,
            name,
            partial(on_device, path, config.dtype),
            prompts,
            range(config.seed, config.seed + len(prompts)),  # the same for both generators
            config.batch_size,
            f"images of the {name} generator",
            num_steps=config.num_steps,
            guidance_scale=config.guidance_scale,
            size=config.size,
            batch_size=config.batch_size,
        )
        for name, path in GENERATORS.items()
    }
    if is_main():
        folders = {name: checkpoint.folder / name for name in shards}
        ids = {name: write_images(stored_files(shards[name]), folders[name]) for name in shards}
        compare(config, prompts, ids, ImageStore(*folders.values()))
    checkpoint.clear()


def compare(
    config: Config, prompts: list[str], ids: dict[str, list[str]], images: ImageStore
) -> None:
    """Write the stage's output.

    Args:
        ids: name of the generator to the id of an image for each prompt.
        images: of both generators.
    """
    pairs = blind_pairs([prompt_id(prompt) for prompt in prompts], config.seed)
    shown = [prompts[index] for index in pairs["pair"]]
    sides = {
        side: [ids[name][at] for name, at in zip(pairs[side], pairs["pair"], strict=True)]
        for side in ("left", "right")
    }
    scores, choices, verdicts = {}, pd.DataFrame(), pd.DataFrame({"overall": []})
    judged, captions = [], [""] * len(pairs)
    if config.judge == "oracle":
        scores = {side: oracle_scores(images.all_pixels(sides[side]), shown) for side in sides}
        choices = judge(scores["left"], scores["right"], ASPECTS)
        verdicts = unblind(choices, pairs["left"].tolist())
        judged, captions = pairs["prompt_id"].tolist(), verdicts["overall"].map(CAPTIONS).tolist()
    result = aggregate_gsb(verdicts, judged, config.seed)
    with whole_output(OUTPUT, config) as folder:
        write_json(result, folder / "gsb.json")
        overall = result["overall"]
        summary = {f"gsb_{key}" if key in ("low", "high") else key: overall[key] for key in overall}
        write_json(summary, folder / "summary.json")  # for `dvc metrics`
        for side, seen in sides.items():
            pairs[f"{side}_image_id"] = seen
        both = (images.content(one) for seen in sides.values() for one in seen)
        write_images(both, folder / "images")
        judgements(pairs, shown, scores, choices, verdicts).to_parquet(
            folder / "judgements.parquet", index=False
        )
        first_samples = sorted(zip(pairs["pair"], captions, strict=True))[:: config.samples]
        rows = [
            BeforeAfter(
                prompts[index],
                images.pixels(ids["base"][index]),
                images.pixels(ids["tuned"][index]),
                caption,
            )
            for index, caption in first_samples[:NUM_SHOWN]
        ]
        title = "Blind comparison: same prompt, same seed"
        plot_before_after(rows, title, folder / "contact_sheet.png")
    logger.info("GSB overall: %s", overall)


def judgements(
    pairs: pd.DataFrame,
    shown: list[str],
    scores: dict[str, np.ndarray],
    choices: pd.DataFrame,
    verdicts: pd.DataFrame,
) -> pd.DataFrame:
    """One row for each pair, in the order in which the pairs are shown."""
    table = pairs.assign(prompt=shown)
    for name in choices.columns:
        table[f"choice_{name}"] = choices[name].to_numpy()
        table[f"verdict_{name}"] = verdicts[name].to_numpy()
    for side, values in scores.items():
        for index, aspect in enumerate(ASPECTS):
            table[f"{side}_{aspect}"] = values[:, index]
    return table
