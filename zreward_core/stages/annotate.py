"""annotate: images to annotate -> annotation tasks; in the miniature, simulated ratings.

Simulated annotators see pixels and prompts, as people do, and nothing else of the candidates: no
generators and no ids; an image is identified by the hash of its bytes. With ``simulate: false``
only the project's files are written: people annotate in Label Studio, and their export goes to
data/drops/.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field, model_validator

from zreward_core.annotations.items.splits import split_of
from zreward_core.annotations.label_studio.assignment import assign
from zreward_core.annotations.label_studio.exemplars import Exemplar, collect, write_exemplars
from zreward_core.annotations.label_studio.labeling import choice_of, labeling_config, task_data
from zreward_core.config import Count, CountOrZero, Settings, Splits, StageConfig, UserError
from zreward_core.images import ImageStore, decode, encode_png, image_id
from zreward_core.rubric import Rubric, load_rubric
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import track
from zreward_core.schemas import CANDIDATES, digest, normalise_prompt, read_table, write_json
from zreward_core.world.annotators import MAXIMUM, MINIMUM, make_annotators
from zreward_core.world.exemplars import Sample, sample_exemplars
from zreward_core.world.label_studio_export import annotation, export_task, result_item
from zreward_core.world.malformed import corrupt
from zreward_core.world.oracle import judge

CANDIDATES_FOLDER = Path("data/candidates")
OUTPUT = Path("data/annotate")

MAX_CANDIDATES = 100
"""Images examined per exemplar that a level needs; rare levels may get fewer."""


class Overlap(Settings):
    """Annotators per item, by split."""

    train: Count = 1
    """In the paper usually one score per item."""
    validation: Count = 3
    """Enough to reduce the noise in model selection."""
    test: Count = 5
    """The highest and the lowest score are dropped."""


class Config(StageConfig):
    """Params of the stage."""

    splits: Splits = Splits()
    """Shared: shares of the prompts."""
    simulate: bool = False
    """Simulate annotators and their export; false: write tasks for people."""
    num_annotators: Count = 12
    """Size of the simulated team."""
    overlap: Overlap = Overlap()
    """Simulated annotators per item."""
    exemplars: CountOrZero = 16
    """Rendered calibration images per level of a dimension."""
    malformed: CountOrZero = 5
    """Records of the simulated export that are made malformed, as in real exports."""
    aspects: dict[str, str] = Field(default_factory=dict)
    """Dimension to the oracle's aspect, if their names differ."""
    image_prefix: str = "images/"
    """Prefix of the image's file name in a task: a folder or an address."""

    @model_validator(mode="after")
    def _enough_annotators(self) -> Self:
        most = max(self.overlap.model_dump().values())
        if most > self.num_annotators:
            raise ValueError(f"overlap of {most} needs as many annotators")
        return self


def run(config: Config) -> None:
    """Write tasks, labelling config and, if simulated, the raw export and exemplars."""
    rubric = load_rubric()
    items = load_items()
    with whole_output(OUTPUT, config) as folder:
        (folder / "labeling_config.xml").write_text(labeling_config(rubric), encoding="utf-8")
        data = [
            task_data(prompt, identifier, config.image_prefix)
            for prompt, identifier in zip(items["prompt"], items["image_id"], strict=True)
        ]
        write_json([{"data": one} for one in data], folder / "tasks.json")
        if config.simulate:
            write_json(simulate(items, data, rubric, config), folder / "export.json")
            exemplars = make_exemplars(items["prompt"], rubric, config)
            write_exemplars(exemplars, folder / "exemplars")


def load_items() -> pd.DataFrame:
    """Prompt, image_id (sha256 of the bytes) and content of each distinct item, in hash order.

    The result does not depend on the order or the names of the candidates.

    Raises:
        UserError: an input or an image named in the table is missing.
    """
    path = CANDIDATES_FOLDER / "items.parquet"
    schema = pa.schema([CANDIDATES.field("prompt"), CANDIDATES.field("image_id")])
    table = read_table(path, schema)
    images = ImageStore(CANDIDATES_FOLDER / "images")
    rows = {}
    for number, (prompt, reference) in enumerate(
        zip(table["prompt"], table["image_id"], strict=True)
    ):
        if reference not in images:
            raise UserError(
                f"{path} row {number + 1}: image {reference} is in no shard; "
                "run `zreward candidates` again"
            )
        content = images.content(reference)
        identifier = image_id(content)
        key = (digest("order", normalise_prompt(prompt)), digest("order", prompt, identifier))
        rows[key] = {"prompt": prompt, "image_id": identifier, "content": content}
    if not rows:
        raise UserError(f"{path} has no images to annotate: run `zreward candidates` again")
    return pd.DataFrame([rows[key] for key in sorted(rows)])


def oracle_scores(pixels: np.ndarray, prompt: str) -> Mapping[str, float]:
    """The pixel oracle's score of each aspect.

    Raises:
        UserError: the prompt is not of the miniature world.
    """
    try:
        return judge(pixels, prompt).scores
    except ValueError as error:
        raise UserError(f"{error} (params.yaml: 'annotate.simulate: false')") from None


def simulate(
    items: pd.DataFrame,
    data: list[dict[str, Any]],
    rubric: Rubric,
    config: Config,
) -> list[dict[str, Any]]:
    """Simulate the annotators.

    Args:
        items: prompt, image_id, content.
        data: each item's task data.
        rubric: gives dimensions and levels.
        config: team and overlap.

    Returns:
        The tasks of a raw Label Studio export.
    """
    team = make_annotators(config.num_annotators, config.seed)
    splits = [split_of(prompt, config.splits) for prompt in items["prompt"]]
    assigned = assign(
        list(items["prompt"]), config.overlap.model_dump(), splits, len(team), config.seed
    )
    clocks = [0.0] * len(team)
    tasks, num_annotations = [], 0
    for number, row in enumerate(track(items.itertuples(), "annotating", len(items)), start=1):
        aspects = oracle_scores(decode(row.content, row.image_id), row.prompt)
        scores = {name: _aspect(aspects, name, config) for name in rubric.names}
        annotations = []
        for index in assigned[normalise_prompt(row.prompt)]:
            num_annotations += 1
            ratings = team[index].rate(scores, row.image_id, row.prompt)
            seconds = team[index].seconds(row.image_id, row.prompt)
            annotations.append(
                annotation(
                    num_annotations,
                    number,
                    index + 1,
                    _result(ratings, rubric, str(num_annotations)) if ratings else [],
                    ratings is None,
                    seconds,
                    clocks[index],
                    verbose_annotator=index % 3 == 2,
                )
            )
            clocks[index] += seconds
        tasks.append(export_task(number, data[number - 1], annotations))
    corrupt(tasks, config.malformed, config.seed)
    return tasks


def _aspect(aspects: Mapping[str, float], dimension: str, config: Config) -> float:
    aspect = config.aspects.get(dimension, dimension)
    if aspect not in aspects:
        raise UserError(
            f"params.yaml: 'annotate.aspects' must map the rubric's dimension '{dimension}' to one "
            f"of {sorted(aspects)}"
        )
    return aspects[aspect]


def _result(ratings: Mapping[str, float], rubric: Rubric, identity: str) -> list[dict[str, Any]]:
    """Result items of one annotation: the world's scale mapped to the rubric's levels."""
    levels = np.asarray(rubric.levels)
    items = []
    for dimension, rating in ratings.items():
        level = float(levels[np.abs(levels - _on_scale(rating, rubric)).argmin()])
        items.append(result_item(dimension, choice_of(level), identity))
    return items


def _on_scale(rating: float, rubric: Rubric) -> float:
    """A score of the world, mapped to the rubric's scale."""
    share = (rating - MINIMUM) / (MAXIMUM - MINIMUM)
    return rubric.minimum + share * (rubric.maximum - rubric.minimum)


def make_exemplars(
    prompts: Iterable[str], rubric: Rubric, config: Config
) -> list[tuple[Exemplar, bytes]]:
    """Exemplars of every level with their images; rated prompts are excluded."""

    def scores_of(sample: Sample) -> dict[str, float]:
        return {name: _on_scale(_aspect(sample.scores, name, config), rubric) for name in names}

    names = rubric.names if config.exemplars else []
    samples = sample_exemplars(config.seed, {normalise_prompt(prompt) for prompt in prompts})
    limit = MAX_CANDIDATES * config.exemplars
    found = collect(samples, scores_of, rubric, config.exemplars, limit)
    made = []
    for number, (sample, levels) in enumerate(found, start=1):
        why = {name: sample.remarks[config.aspects.get(name, name)] for name in levels}
        file = f"{number:04d}.png"
        exemplar = Exemplar(image=file, prompt=sample.prompt, scores=levels, why=why)
        made.append((exemplar, encode_png(sample.pixels)))
    return made
