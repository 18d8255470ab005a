"""The measurements of `benchmarks/speed.py`: two things that are timed alternately."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks import speed_models as models
from benchmarks.speed_models import LARGE, MINIATURE, Scale
from benchmarks.speed_server import clients, serving
from zreward_core.images import ImageStore, write_images
from zreward_core.models.backbone import Backbone
from zreward_core.models.scorer import RewardModel
from zreward_core.models.teacher import TeacherJudge
from zreward_core.schemas import item_id

Run = Callable[[], object]


@dataclass(frozen=True)
class Measured:
    """Seconds of two things, timed alternately."""

    model: str
    parameters: int
    first: list[float]
    second: list[float]
    weight: float = 1.0
    """Factor of first / second, such as the number of images of both."""
    note: str = ""


def alternate(
    first: Run, second: Run, repeats: int, clock: Callable[[], float] = time.process_time
) -> tuple[list[float], list[float]]:
    """Seconds of both, which run in turn after one run of each that is not counted.

    Args:
        clock: by default of the CPU time of this process: it runs on one thread and waits for
            nothing, so on an idle machine it is the elapsed time, and on a busy one it is steadier.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    first(), second()
    for _ in range(repeats):
        for run, kept in zip((first, second), seconds, strict=True):
            begun = clock()
            run()
            kept.append(clock() - begun)
    return seconds


def score(scale: Scale) -> Iterator[Measured]:
    """The forward of prepared batches, and score() of the prompts and images they came from."""
    for model, repeats in ((MINIATURE, scale.repeats), (LARGE, scale.few)):
        judge, count = models.student(model, scale), scale.images[model]
        prompts, images = models.prompts(count), models.pixels(model, count)
        batches: list[tuple] = []
        network = judge.backbone.network
        hook = network.register_forward_pre_hook(
            lambda _, given, kept=batches: kept.append(given[:6])
        )
        judge.score(prompts, images)
        hook.remove()

        def bare(network: Any = network, batches: list[tuple] = batches) -> None:
            with torch.no_grad():
                for batch in batches:
                    network(*batch)

        def whole(
            judge: RewardModel = judge, prompts: list = prompts, images: list = images
        ) -> None:
            judge.backbone.chat._kept.cache_clear()  # prompts are new in each repeat
            judge.score(prompts, images)

        times = alternate(bare, whole, repeats)
        note = f"{count} images in {len(batches)} batches"
        yield Measured(model, judge.backbone.num_parameters, *times, note=note)


def dimensions(scale: Scale) -> Iterator[Measured]:
    """A rubric of four dimensions, and of one, with the same weights."""
    whole = models.rubric()
    single = whole.model_copy(update={"dimensions": whole.dimensions[:1]})
    for model, repeats in ((MINIATURE, scale.repeats), (LARGE, scale.few)):
        four = models.student(model, scale)
        own = four.backbone
        one = RewardModel(
            Backbone(own.network.model, own.tokenizer, own.pixels, single, own.prompt)
        )
        count = scale.images[model]
        given = models.prompts(count), models.pixels(model, count)
        times = alternate(partial(four.score, *given), partial(one.score, *given), repeats)
        yield Measured(model, own.num_parameters, *times, note=f"{count} images")


def reward(scale: Scale) -> Iterator[Measured]:
    """reward() with its backward pass, and without."""
    judge, count = models.student(MINIATURE, scale), min(64, scale.images[MINIATURE])
    prompts = models.prompts(count)
    pixels = torch.rand(count, 3, 32, 32)

    def forward() -> None:
        with torch.no_grad():
            judge.reward(prompts, pixels)

    def both() -> None:
        judge.reward(prompts, pixels.clone().requires_grad_()).sum().backward()

    times = alternate(both, forward, scale.repeats)
    yield Measured(MINIATURE, judge.backbone.num_parameters, *times, note=f"{count} images")


def teacher(scale: Scale) -> Iterator[Measured]:
    """An image by the teacher, and by the student, each in batches of a good size."""
    judge = models.student(MINIATURE, scale)
    backbone = models.endless(models.backbone("teacher", MINIATURE, scale, scale.trace))
    reasoning = TeacherJudge(backbone)
    count = scale.images[MINIATURE]
    prompts, images = models.prompts(count), models.pixels(MINIATURE, count)
    few = prompts[: scale.judged], images[: scale.judged]
    times = alternate(
        partial(reasoning.score, *few), partial(judge.score, prompts, images), scale.few
    )
    note = f"teacher of {backbone.num_parameters / 1e6:.2f} M; traces of {scale.trace} tokens"
    weight = count / scale.judged
    yield Measured(MINIATURE, judge.backbone.num_parameters, *times, weight, note)


def server(scale: Scale) -> Iterator[Measured]:
    """score_stream() of image files, and the same images sent to the server by many clients."""
    for model, count in scale.served.items():
        judge = models.student(model, scale)
        prompts, images = models.prompts(count), models.files(model, count)
        stream = partial(_score_all, judge, prompts, images)
        with TemporaryDirectory() as name:
            folder = Path(name)
            judge.backbone.save(folder / "student", {})
            with serving(folder / "student") as port:
                for size in (1, 8) if model == MINIATURE else (1,):
                    with clients(port, scale.clients, prompts, images, size, folder) as served:
                        before = served.batches()
                        times = alternate(stream, served.round, scale.few, time.perf_counter)
                        batches, rows = np.subtract(served.batches(), before)
                    note = (
                        f"{scale.clients} clients, {size} image{'s' * (size > 1)} in a request;"
                        f" batches of {rows / batches:.0f} on average"
                    )
                    yield Measured(model, judge.backbone.num_parameters, *times, note=note)


def _score_all(judge: RewardModel, prompts: list[str], images: list[bytes]) -> None:
    for _ in judge.score_stream(prompts, images):
        pass


def labelling(scale: Scale) -> Iterator[Measured]:
    """Labels of images, and transformers' generate() of as many tokens for the same sequences."""
    from zreward_core.stages import label

    backbone = models.endless(models.backbone("teacher", MINIATURE, scale))
    backbone.network.eval()
    count, length = scale.judged, scale.short_trace
    prompts = models.prompts(count)
    pixels = [backbone.pixels.prepare(one) for one in models.pixels(MINIATURE, count)]
    config = label.Config(seed=0, num_traces=1, batch_size=count)
    rows = [
        backbone.prefix(prompt, image) + question
        for prompt, image in zip(prompts, pixels, strict=True)
        for question in backbone.chat.questions
    ]
    repeated = [image for image in pixels for _ in backbone.chat.questions]
    ids, mask = backbone.collate(rows)
    values, grid = backbone.pixels.patches(repeated)
    kinds = (ids == backbone.chat.image_token_id).int()

    def generate() -> None:
        with torch.no_grad():
            found = backbone.network.model.generate(
                input_ids=ids,
                attention_mask=mask,
                pixel_values=values,
                image_grid_thw=grid,
                mm_token_type_ids=kinds,
                do_sample=True,
                max_new_tokens=length,
                min_new_tokens=length,
                suppress_tokens=backbone.chat.forbidden,
            )
        assert found.shape[1] == ids.shape[1] + length

    with TemporaryDirectory() as name:
        identifiers = write_images(models.files(MINIATURE, count), Path(name))
        store = ImageStore(Path(name))
        pool = pd.DataFrame({"prompt": prompts, "image_id": identifiers})
        pool["item_id"] = [item_id(*pair) for pair in zip(prompts, identifiers, strict=True)]
        times = alternate(
            lambda: label.sample_traces(backbone, config, pool, store), generate, scale.repeats
        )
    note = f"{len(rows)} traces of {length} tokens"
    yield Measured(MINIATURE, backbone.num_parameters, *times, note=note)


def gdso(scale: Scale) -> Iterator[Measured]:
    """A step of train_gdso, and one of TRL's GRPOTrainer, alternately.

    TRL's prompts are texts of as many tokens as ours with their image: it has no vision tower to
    run. Both sample, take the reference's log-probabilities and make one update with AdamW.
    """
    from benchmarks.speed_trl import grpo_steps
    from zreward_core.stages import train_gdso
    from zreward_core.training.rollouts import roll_out
    from zreward_core.training.samplers import PairBatch
    from zreward_core.training.updates import update

    config = train_gdso.Config(seed=0, pairs_per_step=scale.pairs, group_size=scale.group)
    backbone = models.endless(models.backbone("teacher", MINIATURE, scale))
    backbone.train_mode(None)
    optimizer = torch.optim.AdamW(backbone.trainable(), lr=1e-6)
    reference = backbone.snapshot()
    count, num_dimensions = 2 * scale.pairs, len(backbone.rubric.names)
    prompts = [prompt for prompt in models.prompts(scale.pairs) for _ in range(2)]
    pixels = [backbone.pixels.prepare(one) for one in models.pixels(MINIATURE, count)]
    scores = torch.tensor([[4.0, 2.0]] * scale.pairs)
    histograms = [[backbone.rubric.histogram([v]) for v in pair] for pair in scores.tolist()]
    pairs = PairBatch(
        prompts,
        pixels,
        [side // 2 % num_dimensions for side in range(count)],
        scores,
        torch.tensor(np.array(histograms)).float(),
        torch.zeros(scale.pairs, dtype=torch.bool),
    )
    rng = np.random.default_rng(0)

    def step() -> None:
        rollouts = roll_out(backbone, *pairs.inputs, config.group_size, config.temperature, rng)
        batch, _ = train_gdso.reward(backbone, config, pairs, rollouts)
        part = train_gdso.objective(backbone, config, batch, range(scale.pairs), reference)
        update("the step", backbone, [optimizer], [part], config.max_grad_norm)

    lengths = [
        len(backbone.prefix(prompt, image) + backbone.chat.questions[dimension])
        for prompt, image, dimension in zip(*pairs.inputs, strict=True)
    ]
    own, trl = grpo_steps(backbone, lengths, config, scale.few, step)
    note = f"{count * scale.group} traces of {scale.short_trace} tokens, {scale.group} in a group"
    yield Measured(MINIATURE, backbone.num_parameters, own, trl, note=note)
