"""`zreward score` of many images, into a Parquet file.

A part of the rows is the unit of work of a process and of resuming; a window of them is in memory
at a time. Parts and windows depend on the rows alone, and so do the scores.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from zreward_core import __version__
from zreward_core.commands.scoring.parts import Parts
from zreward_core.commands.scoring.rows import Columns, Row, Source
from zreward_core.commands.scoring.score_file import OVERALL, score_schema
from zreward_core.commands.scoring.sources import open_source
from zreward_core.config import UserError, writable
from zreward_core.models.opening import find_folder
from zreward_core.models.scorer import RewardModel
from zreward_core.models.scores import Scores
from zreward_core.runtime.progress import track
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import digest, tree_hash

PART_ROWS = 1024
"""Rows that are lost at most by a kill."""
WINDOW = 128
"""Images in memory at a time."""
NUM_TOLD = 3
"""Reasons of images without a score that are printed."""


class Scored(NamedTuple):
    """Result of a run."""

    path: Path
    rows: int
    """Rows of the file."""
    errors: int
    """Rows without a score."""
    first: list[str]
    """Places and reasons of the first of them."""
    rate: float | None
    """Images per second, of all processes; None if the file was complete before."""

    def lines(self) -> list[str]:
        """A summary."""
        speed = "complete already" if self.rate is None else f"{self.rate:,.1f} images/s"
        told = [f"{writable(str(self.path))}: {self.rows:,} images, {speed}"]
        if self.errors:
            told.append(f"{self.errors:,} without a score (column error):")
            told += [f"  {one}" for one in self.first]
        return told


def score_source(
    paths: Sequence[Path],
    model: str,
    output: Path,
    columns: Columns,
    images: Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int = 64,
) -> Scored | None:
    """Score the images of a source; a run that was killed is resumed.

    Args:
        paths, columns, images: see ``open_source``.
        model: folder of a reward model, ``models:/`` URI, or id of a hub repository.
        output: Parquet file.
        device, dtype, batch_size: see ``RewardModel.from_pretrained``.

    Returns:
        None in a process that does not write the output.

    Raises:
        UserError: the source or model cannot be used, the output is of another job, or no image has
            a score.
    """
    source = open_source(paths, columns, images)
    folder = find_folder(model, None)
    reward = RewardModel.from_pretrained(folder, own_device(device), dtype, batch_size=batch_size)
    facts = model_facts(reward, folder)
    job = {
        "rows": source.count,
        "files": digest(*(f"{path} {path.stat().st_size}" for path in _present(source.files))),
        "columns": [columns.image, columns.prompt, columns.text],
        "images": None if images is None else str(images),
        "model_sha256": facts["model_sha256"],
        "device": reward.backbone.device.type,
        "dtype": str(next(reward.backbone.network.parameters()).dtype).removeprefix("torch."),
        "batch_size": batch_size,
        "versions": [__version__, torch.__version__],
    }
    newest = max((path.stat().st_mtime for path in _present(source.files)), default=0.0)
    parts = Parts(output, -(-source.count // PART_ROWS))
    if not parts.start(job, newest):
        if not is_main():
            return None
        finished = output.stat().st_mtime
        _require_unchanged(source, lambda _: finished, output)
        return _result(output, None)
    if is_main() and (times := parts.times()):
        _require_unchanged(source, lambda row: times.get(row // PART_ROWS), parts.folder)
    given = {"paths": [writable(str(path)) for path in paths]} | columns.__dict__
    given["images"] = job["images"]
    schema = score_schema(reward.dimensions, facts | {"job": job, "source": given})
    began, before = time.monotonic(), parts.num_done()
    _compute(parts, source, reward, schema, facts)
    if not is_main():
        return None
    seconds = time.monotonic() - began
    done = source.count - min(before * PART_ROWS, source.count)
    parts.finish(lambda: _require_scores(parts))
    if not output.is_file():
        raise UserError(
            f"{writable(str(output))}: another run of this command has found no image that can be"
            " scored, or its parts were removed: run it again"
        )
    return _result(output, done / max(seconds, 1e-9))


def own_device(device: str) -> str:
    """The device of this process: of several on a machine, each has the accelerator of its rank."""
    if device != "auto" or "LOCAL_RANK" not in os.environ:
        return device
    here = torch.accelerator.current_accelerator(check_available=True)
    if here is None or os.environ.get("ACCELERATE_USE_CPU") == "true":
        return "cpu"
    return f"{here.type}:{os.environ['LOCAL_RANK']}"


def model_facts(reward: RewardModel, folder: Path) -> dict[str, Any]:
    """What a file of scores records of its model."""
    rubric = reward.backbone.rubric
    return {
        "dimensions": rubric.names,
        "levels": rubric.levels,
        "weights": [dimension.weight for dimension in rubric.dimensions],
        "model_sha256": tree_hash(folder),
        "rubric_sha256": rubric.sha256,
    }


def _require_unchanged(
    source: Source, finished: Callable[[int], float | None], result: Path
) -> None:
    """Refuse a result some of whose images have been written since.

    Args:
        source: of the images.
        finished: number of a row to the time when it was scored; None if it was not.
        result: an output, or the folder of its parts.

    Raises:
        UserError: names the first of them.
    """
    for number, row in enumerate(source.rows()):
        if isinstance(row.image, bytes):
            return  # the images are in the files that list them, whose times are compared before
        image, scored = row.image, finished(number)
        if image is None or scored is None or not image.is_file():
            continue
        if image.stat().st_mtime > scored:
            raise UserError(
                f"{writable(str(result))} exists, but {writable(str(image))} is newer: remove"
                f" {writable(result.name)}, or choose another --output"
            )


def _present(files: Sequence[Path]) -> Iterator[Path]:
    return (path for path in files if path.is_file())


def _compute(
    parts: Parts, source: Source, reward: RewardModel, schema: pa.Schema, facts: dict[str, Any]
) -> None:
    """Compute the parts that this process gets."""
    rows: Iterator[Row] = iter(())
    position = -1
    bar = track((), "scoring", source.count, min(parts.num_done() * PART_ROWS, source.count))
    bar.unit = " images"
    for index in parts.missing():
        start, stop = index * PART_ROWS, min((index + 1) * PART_ROWS, source.count)
        if position != start:
            rows = source.rows(start)
        position = start
        tables = []
        while position < stop:
            window = list(islice(rows, min(WINDOW, stop - position)))
            if not window:
                raise UserError(
                    f"{writable(str(source.files[0]))} has become shorter: run the command again"
                )
            tables.append(_table(window, position, reward, schema, facts))
            position += len(window)
            bar.update(len(window))
        parts.save(index, pa.concat_tables(tables).combine_chunks())
        done = min(parts.num_done() * PART_ROWS, source.count)
        bar.update(max(0, done - bar.n))
    bar.close()


def _table(
    window: Sequence[Row], start: int, reward: RewardModel, schema: pa.Schema, facts: dict[str, Any]
) -> pa.Table:
    """Scores of some rows."""
    good = [b for b, row in enumerate(window) if row.error is None]
    errors = {b: row.error for b, row in enumerate(window)}
    scores = _score([window[b] for b in good], reward)
    errors |= {good[b]: reason.removeprefix(f"row {b}: ") for b, reason in scores.errors.items()}
    scored = [b for b in range(len(good)) if b not in scores.errors]
    position = {good[b]: b for b in scored}

    def column(values: torch.Tensor) -> list[Any]:
        found = values.tolist()
        return [found[position[b]] if b in position else None for b in range(len(window))]

    columns: dict[str, list[Any]] = {
        "row": [start + b for b in range(len(window))],
        "place": [row.place for row in window],
        "image": [row.name for row in window],
        "prompt": [None if row.prompt is None else writable(row.prompt) for row in window],
        OVERALL: column(scores.overall),
        "error": list(errors.values()),
    }
    for d, name in enumerate(scores.dimensions):
        columns[f"{name}_mean"] = column(scores.mean[:, d])
        columns[f"{name}_std"] = column(scores.std[:, d])
        columns[f"{name}_mass"] = column(scores.mass[:, d])
        columns[f"{name}_probs"] = column(scores.probs[:, d])
    for name in ("model_sha256", "rubric_sha256"):
        columns[name] = [facts[name]] * len(window)
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _score(rows: Sequence[Row], reward: RewardModel) -> Scores:
    if not rows:
        return reward.score([], [])
    prompts = [row.prompt or "" for row in rows]
    images = [row.image or b"" for row in rows]
    (scores,) = reward.score_stream(prompts, images, window=len(rows), keep_errors=True)
    return scores


def _require_scores(parts: Parts) -> None:
    """Refuse a result without a single score, such as with a wrong folder of images.

    Raises:
        UserError: there is none; the parts are removed.
    """
    for index in range(parts.count):
        if parts.read(index, ["error"])["error"].null_count:
            return
    place, error = (parts.read(0)[name][0].as_py() for name in ("place", "error"))
    parts.clear()
    raise UserError(f"no image could be scored; the first, {place}: {error}")


def _result(output: Path, rate: float | None) -> Scored:
    count = errors = 0
    first: list[str] = []
    with pq.ParquetFile(output) as file:
        for batch in file.iter_batches(2**16, columns=["place", "error"]):
            count += batch.num_rows
            bad = batch.filter(batch["error"].is_valid())
            errors += bad.num_rows
            for row in bad.slice(0, NUM_TOLD - len(first)).to_pylist():
                first.append(f"{row['place']}: {row['error']}")
    return Scored(output, count, errors, first, rate)
