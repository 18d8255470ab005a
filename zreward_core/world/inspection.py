"""Ground truth of a scene: its caption and an inspection of each aspect."""

import json
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from zreward_core.world.prompts import PLACES, Cells
from zreward_core.world.scenes import Scene

SEVERITIES = ("none", "slight", "clear", "strong")
"""Words for levels 0 to 3."""
INSPECTIONS = pa.schema(
    [
        ("image_id", pa.string()),
        ("prompt", pa.string()),
        ("held_out", pa.bool_()),
        ("caption", pa.string()),
        ("inspection", pa.string()),
        ("defects", pa.string()),
    ]
)
"""Schema of inspections.parquet; ``inspection`` and ``defects`` hold the JSON of ``inspect`` and
``Scene.defects``."""


def caption(scene: Scene) -> str:
    """Content of each cell: ``top left red circle, top right nothing, ...``."""
    return ", ".join(
        f"{place} {thing or 'nothing'}" for place, thing in zip(PLACES, scene.seen, strict=True)
    )


def verdicts(expected: Cells, seen: Cells) -> list[str]:
    """For each cell: fine, recolored, swapped, missing or extra.

    A wrong shape is "swapped" regardless of its colour.
    """
    words = []
    for wanted, shown in zip(expected, seen, strict=True):
        if wanted == shown:
            words.append("fine")
        elif wanted is None:
            words.append("extra")
        elif shown is None:
            words.append("missing")
        else:
            words.append("recolored" if wanted.shape == shown.shape else "swapped")
    return words


def inspect(scene: Scene) -> dict[str, Any]:
    """The ground truth of a scene by aspect.

    Returns:
        alignment: one {place, expected, seen, verdict} for each of the four cells;
        realism: {noise, blur} and aesthetics: {washed, cast}, words of ``SEVERITIES``;
        plausibility: {place, object, verdict, severity} for each visible object; the verdict is
        whole, broken or melted.
    """
    levels = {defect.kind: defect.level for defect in scene.defects if not defect.cells}
    integrity = {
        cell: defect
        for defect in scene.defects
        if defect.aspect == "plausibility"
        for cell in defect.cells
    }
    alignment = [
        {
            "place": place,
            "expected": str(wanted or "nothing"),
            "seen": str(shown or "nothing"),
            "verdict": verdict,
        }
        for place, wanted, shown, verdict in zip(
            PLACES, scene.expected, scene.seen, verdicts(scene.expected, scene.seen), strict=True
        )
    ]
    plausibility = [
        {
            "place": PLACES[cell],
            "object": str(thing),
            "verdict": integrity[cell].kind if cell in integrity else "whole",
            "severity": SEVERITIES[integrity[cell].level] if cell in integrity else "none",
        }
        for cell, thing in enumerate(scene.seen)
        if thing is not None
    ]
    return {
        "alignment": alignment,
        "realism": {kind: SEVERITIES[levels.get(kind, 0)] for kind in ("noise", "blur")},
        "aesthetics": {kind: SEVERITIES[levels.get(kind, 0)] for kind in ("washed", "cast")},
        "plausibility": plausibility,
    }


def inspection_row(scene: Scene, held_out: bool) -> dict[str, Any]:
    """Row of inspections.parquet without the image id."""
    return {
        "prompt": scene.prompt,
        "held_out": held_out,
        "caption": caption(scene),
        "inspection": json.dumps(inspect(scene)),
        "defects": json.dumps([asdict(defect) for defect in scene.defects]),
    }
