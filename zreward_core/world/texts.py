"""What people in this world write about an image: descriptions, and inspections of uneven care.

The texts pretrain the bases; people differ in how closely they look (``CARE``).
"""

from typing import Any

import numpy as np

from zreward_core.world.inspection import SEVERITIES
from zreward_core.world.prompts import PLACES

CARE = ("glance", "partial", "thorough")
"""How closely somebody looks before scoring."""
GLANCE = "a quick look"
KIND_WORDS = ("noise", "blur", "washed", "cast")
_FINDINGS = ("fine", "recolored", "swapped", "missing", "extra", "whole", "broken", "melted")
VERDICTS = (*_FINDINGS, *SEVERITIES)
"""Words of an inspection that judge."""


def description(inspection: dict[str, Any]) -> str:
    """Everything there is to see, without a word about what was asked for.

    Cell by cell the object and whether it is whole, then noise, blur, washing and cast.
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
    """An inspection of one aspect in words.

    Args:
        aspect: one of the world's aspects.
        inspection: what ``world.inspection.inspect`` tells.
        care: a glance says nothing, a partial inspection leaves out half of the remarks.
        rng: which half is left out.
    """
    if care == "glance":
        return GLANCE
    remarks = aspect_remarks(aspect, inspection[aspect])
    if care == "partial":
        kept = rng.permutation(len(remarks))[: max(1, len(remarks) // 2)]
        remarks = [remarks[i] for i in sorted(kept)]
    return _one_word_places(" ".join(remarks))


def aspect_remarks(aspect: str, found: Any) -> list[str]:
    """Everything there is to remark about one aspect.

    Of a cell's alignment: what was asked for, what is seen, the verdict. No word stands between the
    two: together they are the four tokens that the short convolution of a linear-attention layer
    covers. With a fifth a tiny base learned to compare shapes, but not colours.
    """
    if aspect == "alignment":
        return [
            f"{cell['place']} {cell['expected']} {cell['seen']} {cell['verdict']}" for cell in found
        ]
    if aspect == "plausibility":
        return [f"{one['place']} {_integrity(one)}" for one in found]
    return [f"{kind} {severity}" for kind, severity in found.items()]


def generic_score(aspect: str, found: Any) -> float:
    """A notion of quality that is no rubric: a quarter off for each fault or level of one.

    Returns:
        1 for flawless down to 0.
    """
    if aspect == "alignment":
        faults = sum(cell["verdict"] != "fine" for cell in found)
    elif aspect == "plausibility":
        faults = sum(SEVERITIES.index(one["severity"]) for one in found)
    else:
        faults = sum(SEVERITIES.index(severity) for severity in found.values())
    return max(0.0, 1.0 - 0.25 * faults)


def is_verdict(word: str) -> bool:
    """Whether a word of a trace is a judgement (and no place, colour or shape)."""
    return word in VERDICTS


def _integrity(one: dict[str, str]) -> str:
    return "whole" if one["verdict"] == "whole" else f"{one['verdict']} {one['severity']}"


def _one_word_places(text: str) -> str:
    for place in PLACES:
        text = text.replace(place, place.replace(" ", ""))
    return text
