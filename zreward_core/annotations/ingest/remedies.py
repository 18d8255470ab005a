"""What to do about a source that has no usable judgement, or too many faulty ones."""

from pathlib import Path

from zreward_core.annotations.formats.label_studio_export import explain_export
from zreward_core.annotations.ingest.settings import Source
from zreward_core.annotations.ingest.summary import SourceSummary
from zreward_core.rubric import Rubric

MAX_REMEDIES = 2
"""Reasons, the commonest first, whose remedy is given."""
REMEDIES = {
    "missing_value": "the cells of the judgements are empty: correct `columns`",
    "out_of_range": "scores lie outside of the scale: correct `scale` (`min`, `max`)",
    "malformed_record": (
        "cells are not what `columns` expects: name another column, cut out the number by "
        "`{column: .., pattern: .., to: ..}`, or give words a meaning (`words` of a score, `map` "
        "of a vote)"
    ),
    "unreadable_image": "image files below `images` are damaged: replace them",
    "image_too_large": "image files below `images` are too large: scale them down",
    "path_outside_drop": "images must lie below `images`: copy them there, links do not count",
    "conflicting_prompt": "an `item` has two prompts: correct `columns.item` or the prompts",
    "unknown_image": (
        "which of several images is judged is not known: name the two images of comparisons by "
        "`columns.image_a` and `columns.image_b`"
    ),
    "unread_kind": "controls of this type are not read: use choices, rating, number or ranker",
    "event": "`dimension.map` gives null for all judgements: map their words to dimensions",
    "empty_line": "the rows have no value in the named columns: correct `columns`",
    "skipped": "all rows were skipped: compare `only` and `vote.map` with the cells",
    "empty_result": "no row has an answer: correct `columns`",
}


def remedy_of(source: Source, summary: SourceSummary, rubric: Rubric) -> str:
    """What to do next, by the commonest reasons.

    Args:
        source: its settings.
        summary: its counts.
        rubric: names the dimensions.
    """
    if source.base_format == "label_studio":
        places = [row.rpartition("#")[0] for row in summary.first_faults.values()]
        return explain_export(Path((places or summary.files)[0]), rubric.names)
    reasons = summary.quarantine if summary.quarantine else summary.ignored
    found = []
    for reason, _ in (+reasons).most_common(MAX_REMEDIES):
        if reason == "unknown_dimension":
            found.append(_about_dimension(source, rubric))
        elif reason in REMEDIES:
            found.append(REMEDIES[reason])
    if not found:
        found.append("the file has no rows below its header: export it again")
    return "What to do: " + "; ".join(found)


def _about_dimension(source: Source, rubric: Rubric) -> str:
    names = ", ".join(rubric.names)
    if source.dimension is not None and not isinstance(source.dimension, str):
        return (
            f"map the words of the column '{source.dimension.column.column}' to the rubric's "
            f"dimensions ({names}) by `dimension.map` (null: not a judgement)"
        )
    return f"`dimension` must be one of the rubric's ({names})"
