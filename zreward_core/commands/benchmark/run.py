"""`zreward benchmark`: read a set, judge it, print and write the figures."""

from pathlib import Path

import numpy as np
import pandas as pd

from zreward_core.commands.benchmark.figures import pair_results, raters_alpha, score_results
from zreward_core.commands.benchmark.image_files import ImageFiles
from zreward_core.commands.benchmark.judges import (
    FIRST,
    LARGER,
    SAME,
    SHORTER,
    by_score,
    first_image,
    larger_file,
    same_score,
    shorter_prompt,
)
from zreward_core.commands.benchmark.report import Report, check_output, write_report
from zreward_core.commands.benchmark.sets import SETS, Ranked
from zreward_core.commands.benchmark.tables import PairSet, RatedSet, SetImage
from zreward_core.config import UserError, writable

SEED = 0
"""Of the resamples."""


def run_benchmark(
    name: str, folder: Path, model: str | None = None, output: Path | None = None
) -> Report:
    """Compare a model, and judges that see nothing, with people.

    Args:
        name: one of ``SETS``.
        folder: the files of the set as its authors publish them.
        model: folder of a reward model, or a ``models:/`` URI; None: only the judges that see
            nothing and the annotators, for which no images are needed.
        output: a .json or .parquet file for the figures and the results of each pair (or image).

    Raises:
        UserError: unknown set, a file or row that is not as published, an image that is missing or
            cannot be scored.
    """
    if name not in SETS:
        raise UserError(f"no benchmark '{name}'; choose from {', '.join(sorted(SETS))}")
    check_output(output)
    known = SETS[name]
    found = known.read(folder, known.title)
    images = found.images
    if not images:
        raise UserError(f"{writable(str(folder))} has no judgements of {known.title}: download it")
    files = ImageFiles(folder, images)
    if model is not None and files.missing:
        raise UserError(_missing(files.missing, folder))
    scores = _model_scores(model, images, files) if model is not None else {}
    notes = list(found.notes)
    if files.missing:
        notes.append(
            f"{len(files.missing)} of {len(images)} images are absent: '{LARGER}' left out"
        )
    else:
        scores[LARGER] = larger_file(images, files)
    if isinstance(known, Ranked):
        assert isinstance(found, PairSet)
        scores[SAME] = same_score(len(images))
        judges = {judge: by_score(values, found.pairs) for judge, values in scores.items()}
        judges[FIRST] = first_image(len(found.pairs))
        results = pair_results(found, known.rules, judges, SEED)
        table = pair_table(found, known, judges)
    else:
        assert isinstance(found, RatedSet)
        scores[SHORTER] = shorter_prompt(images)
        scores[SAME] = same_score(len(images))
        results = score_results(found, known.rules, scores, SEED)
        table = image_table(found, scores)
    rules = {rule.name: (rule.meaning, rule.source) for rule in known.rules}
    report = Report(
        name, known.title, model, notes, _counts(found), rules, results, raters_alpha(found, SEED)
    )
    if output is not None:
        write_report(report, table, output)
    return report


def _model_scores(model: str, images: list[SetImage], files: ImageFiles) -> dict[str, np.ndarray]:
    from zreward_core.commands.benchmark.model_judge import model_scores  # imports torch

    return model_scores(model, images, files)


def _missing(missing: list[SetImage], folder: Path) -> str:
    first = missing[0]
    return (
        f"{first.place}: no image '{writable(first.name)}' below {writable(str(folder))}"
        f" ({len(missing)} missing); unpack the images of the set there"
    )


def _counts(found: PairSet | RatedSet) -> dict[str, int]:
    """Sizes of the set."""
    counts = {"images": len(found.images)}
    if isinstance(found, RatedSet):
        counts["prompts"] = len({image.prompt for image in found.images})
        counts["ratings"] = int((~np.isnan(found.scores)).sum())
        return counts
    label, bad = found.pairs["label"].to_numpy(float), found.pairs["both_bad"].to_numpy(bool)
    counts["prompts"] = found.pairs["prompt"].nunique()
    counts["pairs"] = len(label)
    counts["first preferred"] = int((label > 0).sum())
    counts["second preferred"] = int((label < 0).sum())
    counts["ties"] = int(((label == 0) & ~bad).sum())
    counts["both bad"] = int(bad.sum())
    return counts


def pair_table(found: PairSet, known: Ranked, judges: dict) -> pd.DataFrame:
    """Results of each pair: a row per pair and judge, with its credit under each rule."""
    pairs = found.pairs
    names = np.array([image.name for image in found.images], dtype=object)
    parts = []
    for judge, decisions in judges.items():
        part = pairs[["place", "prompt", "subset", "label", "both_bad"]].copy()
        part["first"] = names[pairs["first"].to_numpy(int)]
        part["second"] = names[pairs["second"].to_numpy(int)]
        part["judge"], part["difference"] = judge, decisions.listed
        for rule in known.rules:
            credit, weight = rule.credit(pairs, decisions)
            share = np.divide(credit, weight, out=np.full(len(credit), np.nan), where=weight > 0)
            part[f"credit: {rule.name}"] = share
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def image_table(found: RatedSet, scores: dict[str, np.ndarray]) -> pd.DataFrame:
    """Results of each image: a row per image and judge."""
    shared = pd.DataFrame(
        {
            "place": [image.place for image in found.images],
            "prompt": [image.prompt for image in found.images],
            "image": [image.name for image in found.images],
            "human": np.nanmean(found.scores, axis=1),
        }
    )
    parts = [shared.assign(judge=judge, score=values) for judge, values in scores.items()]
    return pd.concat(parts, ignore_index=True)
