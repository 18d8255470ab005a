"""`zreward gsb import`: human judgements of the blind pairs, aggregated by equation 21.

A judgement is one choice of one annotator on one pair and dimension; all have the same weight. If
an annotator answered a question on a pair more than once, only the latest answer counts (by
``updated_at``, else ``created_at``; answers without a time come first, in the order of the file).
Everything else is counted by reason and left out.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from zreward_core.annotations.formats.label_studio import annotator_of
from zreward_core.annotations.formats.label_studio_export import explain_export, load_export
from zreward_core.annotations.formats.label_studio_results import count_results, identifier
from zreward_core.annotations.items.times import parse_times
from zreward_core.annotations.label_studio.project import CHOICES, OVERALL
from zreward_core.commands.people.gsb_export import load_pairs
from zreward_core.config import UserError, read_params
from zreward_core.evaluation.gsb import aggregate_gsb, unblind
from zreward_core.rubric import load_rubric
from zreward_core.schemas import write_json

RESULT = Path("reports/gsb.json")
SKIPPED = "skipped or empty"

Record = dict[str, Any]


def import_judgements(export: Path, output: Path = RESULT) -> str:
    """Write gsb.json from a raw Label Studio export, in the format of `evaluate_gsb`.

    Returns:
        The figures, one line per question.

    Raises:
        UserError: not a raw export, a pair of another run, or no judgements.
    """
    pairs = load_pairs()
    dimensions = [*load_rubric().names, OVERALL]
    choices, left_out = read_choices(load_tasks(export), export, set(pairs.index), dimensions)
    if choices.empty:
        unanswered = set(left_out) <= {SKIPPED}
        remedy = explain_export(export, dimensions) if unanswered else "Export the project again"
        raise UserError(f"{export} has no judgements ({dict(left_out) or 'no tasks'}). {remedy}")
    seed = int(read_params().get("seed", 0))
    result = {name: _figures(choices, pairs, name, seed) for name in dimensions}
    write_json(result, output)
    people = f"annotators: {choices['annotator'].nunique()}"
    if choices["annotator"].isna().any():
        people += " and unnamed ones"
    number = choices["pair"].nunique()
    lines = [f"{output}: {len(choices)} judgements of {number} pairs ({people})"]
    lines += [f"left out: {number} {reason}" for reason, number in sorted(left_out.items())]
    for name, row in result.items():
        share = "–" if row["gsb"] is None else f"{row['gsb']:+.2f}"
        lines.append(f"  {name:<14} {row['good']}/{row['same']}/{row['bad']}  GSB {share}")
    return "\n".join(lines)


def load_tasks(path: Path) -> list[Record]:
    """The annotated tasks of a raw export.

    Raises:
        UserError: the file is missing or not a raw export.
    """
    tasks = load_export(path)
    sound = all(
        isinstance(task, dict)
        and isinstance(task.get("data"), dict)
        and isinstance(task.get("annotations"), list)
        for task in tasks
    )
    if not sound:
        raise UserError(f"{path} is not a list of annotated tasks: export as JSON (not JSON-MIN)")
    return tasks


def read_choices(
    tasks: list[Record], path: Path, known: set[str], dimensions: list[str]
) -> tuple[pd.DataFrame, Counter[str]]:
    """The choices in an export.

    Returns:
        Columns pair, annotator (None: unknown), name (the question) and choice; counts of all else
        by reason.

    Raises:
        UserError: a task is not one of the known pairs.
    """
    rows: list[tuple[str, str | None, str, str, str | None]] = []
    left_out: Counter[str] = Counter()
    seen: dict[str, list[Any]] = {}
    for task in tasks:
        pair = task["data"].get("pair")
        if pair not in known:
            raise UserError(
                f"{path} task {task.get('id')}: pair {pair!r} is not in data/evaluate_gsb; the "
                "export belongs to another run. Export the pairs again (`zreward gsb export`)"
            )
        for annotation in task["annotations"]:
            result = annotation.get("result") if isinstance(annotation, dict) else None
            skipped = result and (annotation.get("was_cancelled") or annotation.get("skipped"))
            if not isinstance(result, list) or not result or skipped:
                left_out[SKIPPED] += 1
                continue
            before = seen.setdefault(f"{pair} {annotation.get('id')}", [])
            if annotation.get("id") is not None and annotation in before:
                left_out["in the file twice (the same annotation)"] += count_results(annotation)
                continue
            before.append(annotation)
            who = annotator_of(annotation.get("completed_by"))
            time = identifier(annotation.get("updated_at") or annotation.get("created_at"))
            for item in result:
                name, choice = _choice(item)
                if name in dimensions and choice in CHOICES:
                    rows.append((str(pair), who, str(name), str(choice), time))
                else:
                    left_out["not a choice of left, same or right"] += 1
    columns = ["pair", "annotator", "name", "choice", "time"]
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    return _latest(table, left_out), left_out


def _latest(table: pd.DataFrame, left_out: Counter[str]) -> pd.DataFrame:
    """The latest choice of each person on each question, in the order of the file."""
    ordered = table.iloc[np.argsort(parse_times(table["time"]), kind="stable")]
    again = ordered.duplicated(["pair", "annotator", "name"], keep="last")
    again &= ordered["annotator"].notna()
    if again.any():
        left_out["answered again later by the same annotator"] += int(again.sum())
    return ordered[~again].sort_index(ignore_index=True).drop(columns="time")


def _choice(item: Any) -> tuple[Any, Any]:
    """Question and answer of a result item; None if missing."""
    value = item.get("value") if isinstance(item, dict) else None
    chosen = value.get("choices") if isinstance(value, dict) else None
    answer = chosen[0] if isinstance(chosen, list) and len(chosen) == 1 else None
    return (item.get("from_name") if isinstance(item, dict) else None), answer


def _figures(choices: pd.DataFrame, pairs: pd.DataFrame, name: str, seed: int) -> dict[str, Any]:
    part = choices[choices["name"] == name]
    shown = pairs.loc[part["pair"]]
    verdicts = unblind(part[["choice"]].set_axis([name], axis="columns"), shown["left"].tolist())
    return aggregate_gsb(verdicts, shown["prompt_id"].tolist(), seed)[name]
