"""Remedies for a source that has no usable judgements, or too many faulty ones."""

from pathlib import Path

from zreward_core.annotations.formats.label_studio_export import explain_export
from zreward_core.annotations.ingest.settings import Source
from zreward_core.annotations.ingest.summary import SourceSummary
from zreward_core.rubric import Rubric

MAX_REMEDIES = 2
"""Number of the most frequent reasons whose remedies are given."""
REMEDIES = {
    "missing_value": "the cells of the judgements are empty: correct `columns`",
    "out_of_range": "scores are outside the scale: correct `scale` (`min`, `max`)",
    "malformed_record": (
        "cells do not have the expected form: choose another column, extract the number by "
        "`{column: .., pattern: .., to: ..}`, or map words to values (`words` of a score, `map` "
        "of a vote)"
    ),
    "unreadable_image": "image files below `images` are damaged: replace them",
    "image_too_large": "image files below `images` are too large: resize them",
    "path_outside_drop": "images must be below `images`: copy them there instead of linking",
    "conflicting_prompt": "an `item` has two prompts: correct `columns.item` or the prompts",
    "unknown_image": (
        "it is unknown which of several images is judged: set the two images of comparisons by "
        "`columns.image_a` and `columns.image_b`"
    ),
    "unread_kind": "controls of this type are not read: use choices, rating, number or ranker",
    "rounded_identifier": (
        "identifiers were stored as numbers and rounded (such as 1.05826E+18), so different ones "
        "can be equal: store their column as text where the file comes from, and export it again"
    ),
    "total": "all rows are totals or averages: correct `columns`, or export the single scores",
    "event": "`dimension.map` is null for all judgements: map their values to dimensions",
    "empty_line": "the rows have no value in the named columns: correct `columns`",
    "skipped": "all rows were skipped: compare `only` and `vote.map` with the cells",
    "empty_result": "no row has an answer: correct `columns`",
}


def remedy_of(source: Source, summary: SourceSummary, rubric: Rubric) -> str:
    """Remedies for the most frequent reasons.

    Args:
        source: its settings.
        summary: its counts.
        rubric: gives the dimensions.
    """
    if source.base_format == "label_studio":
        places = [row.rpartition("#")[0] for row in summary.first_faults.values()]
        told = [*summary.findings.unread_cells(), *summary.findings.wrong_scales(0.0, 1)]
        export = explain_export(Path((places or summary.files)[0]), rubric.names)
        return "; ".join([export, *told])
    reasons = summary.quarantine if summary.quarantine else summary.ignored
    found = []
    causes = [reason for reason, _ in (+reasons).most_common()]
    if len(causes) > 1:  # totals are not caused by the settings
        causes = [reason for reason in causes if reason != "total"]
    for reason in causes[:MAX_REMEDIES]:
        if reason == "unknown_dimension":
            found.append(_about_dimension(source, rubric))
            found += summary.findings.unread_cells(("dimension",))
        elif reason == "out_of_range" and (told := summary.findings.wrong_scales(0.0, 1)):
            found += told
        elif reason == "malformed_record" and summary.problems:
            found += list(summary.problems)[:MAX_REMEDIES]
            if summary.broken < summary.quarantine[reason]:
                found += _about_cells(summary)
        elif reason == "malformed_record":
            found += _about_cells(summary)
        elif reason in REMEDIES:
            found.append(REMEDIES[reason])
    if not found:
        found.append("the file has no rows below its header: export it again")
    return "To fix this: " + "; ".join(found)


def _about_cells(summary: SourceSummary) -> list[str]:
    cells = summary.findings.unread_cells(("score", "list", "vote"))
    return cells or [REMEDIES["malformed_record"]]


def _about_dimension(source: Source, rubric: Rubric) -> str:
    names = ", ".join(rubric.names)
    if source.dimension is not None and not isinstance(source.dimension, str):
        return (
            f"map the values of the column '{source.dimension.column.column}' to the rubric's "
            f"dimensions ({names}) by `dimension.map` (null: not a judgement)"
        )
    return f"`dimension` must be one of the rubric's ({names})"
