"""Synthetic text about images: descriptions, and inspections of varying thoroughness (``CARE``).

The base models are pretrained on these texts.
"""

from typing import Any

import numpy as np

from zreward_core.world.inspection import SEVERITIES
from zreward_core.world.prompts import PLACES

CARE = ("glance", "partial", "thorough")
"""Thoroughness of the inspection that precedes a score."""
GLANCE = "a quick look"
KIND_WORDS = ("noise", "blur", "washed", "cast")
_FINDINGS = ("fine", "recolored", "swapped", "missing", "extra", "whole", "broken", "melted")
VERDICTS = (*_FINDINGS, *SEVERITIES)
"""Words of an inspection that express a judgement."""


def description(inspection: dict[str, Any]) -> str:
    """Complete description of an image that does not refer to its prompt.

    For each cell the object and its integrity, then noise, blur, washed and cast.
    """
    integrity = {one["place"]: one for one in inspection["plausibility"]}
    words = []
    for cell in inspection["alignment"]:
        words.append(f"{cell['place']} {cell['seen']}")
        if cell["place"] in integrity:
            words.append(_integrity(integrity[cell["place"]]))
    for aspect in ("realism", "aesthetics"):
        words += aspect_remarks(aspect, inspection[aspect])
    return _one_word_places(" ".join(words))


def trace_text(aspect: str, inspection: dict[str, Any], care: str, rng: np.random.Generator) -> str:
    """An inspection of one aspect as text.

    Args:
        aspect: one of the world's aspects.
        inspection: result of ``world.inspection.inspect``.
        care: "glance" has no remarks, "partial" omits half of them, "thorough" has all.
        rng: chooses the omitted half.
    """
    if care == "glance":
        return GLANCE
    remarks = aspect_remarks(aspect, inspection[aspect])
    if care == "partial":
        kept = rng.permutation(len(remarks))[: max(1, len(remarks) // 2)]
        remarks = [remarks[i] for i in sorted(kept)]
    return _one_word_places(" ".join(remarks))


def aspect_remarks(aspect: str, found: Any) -> list[str]:
    """All remarks on one aspect.

    A remark on alignment consists of the place, the expected object, the visible object and the
    verdict. Expected and visible object are adjacent: their four tokens fit the short convolution
    of a linear-attention layer. With a fifth token between them, a tiny base model learned to
    compare shapes but not colours.
    """
    if aspect == "alignment":
        return [
            f"{cell['place']} {cell['expected']} {cell['seen']} {cell['verdict']}" for cell in found
        ]
    if aspect == "plausibility":
        return [f"{one['place']} {_integrity(one)}" for one in found]
    return [f"{kind} {severity}" for kind, severity in found.items()]


def generic_score(aspect: str, found: Any) -> float:
    """A generic quality measure that differs from the rubric: 0.25 off per fault or level.

    Returns:
        From 0 to 1 (no faults).
    """
    if aspect == "alignment":
        faults = sum(cell["verdict"] != "fine" for cell in found)
    elif aspect == "plausibility":
        faults = sum(SEVERITIES.index(one["severity"]) for one in found)
    else:
        faults = sum(SEVERITIES.index(severity) for severity in found.values())
    return max(0.0, 1.0 - 0.25 * faults)


def is_verdict(word: str) -> bool:
    """Whether a word of a trace is a judgement rather than a place, colour or shape."""
    return word in VERDICTS


def _integrity(one: dict[str, str]) -> str:
    return "whole" if one["verdict"] == "whole" else f"{one['verdict']} {one['severity']}"


def _one_word_places(text: str) -> str:
    for place in PLACES:
        text = text.replace(place, place.replace(" ", ""))
    return text
