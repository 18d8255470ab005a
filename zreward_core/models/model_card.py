"""The model card (README.md) of a published model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zreward_core.config import UserError
from zreward_core.models.card import CLASSES, Role, checkpoint_source, read_card
from zreward_core.rubric import Dimension, Rubric
from zreward_core.schemas import combined_hash, file_hashes

_REFERENCES = (
    ("reference", "annotator_agreement", "annotators, split halves"),
    ("reference", "oracle", "pixel oracle (ceiling)"),
)
ROWS: dict[Role, tuple[tuple[str, str, str], ...]] = {
    "student": (
        ("models", "student", "this student"),
        ("models", "teacher", "its teacher"),
        ("models", "zero_shot", "its base"),
        *_REFERENCES,
    ),
    "teacher": (
        ("models", "teacher", "this teacher"),
        ("models", "zero_shot_reasoning", "its base with reasoning"),
        *_REFERENCES,
    ),
}
"""Rows of the figures: group and name in the metrics of `evaluate`, title."""
HOW: dict[Role, str] = {
    "student": (
        "It scores all dimensions in one forward pass, without generating tokens, and is"
        " differentiable in the pixels."
    ),
    "teacher": (
        "It reasons about one dimension at a time before it scores; a score is averaged over"
        " sampled traces."
    ),
}
README = "README.md"
CITATION = """@misc{zreward,
  title = {Z-Reward},
  eprint = {2606.09076},
  archivePrefix = {arXiv},
  url = {https://arxiv.org/abs/2606.09076}
}"""


def describe_model(
    folder: Path,
    name: str,
    role: Role,
    metrics: Mapping[str, Any] | None = None,
    license_id: str | None = None,
) -> str:
    """The model card of a folder; for the other arguments see ``model_card``.

    Raises:
        UserError: the folder is not a model of this project, or holds no weights.
    """
    content = read_card(folder)
    if (source := checkpoint_source(content)) is not None:
        raise UserError(
            f"{folder} holds no weights, it refers to {source}: publish a model that was trained"
        )
    hashes = {name: value for name, value in file_hashes(folder).items() if name != README}
    sha256 = combined_hash(hashes)
    lineage = content.get("lineage") or {}
    return model_card(name, role, Rubric(**content["rubric"]), lineage, sha256, metrics, license_id)


def model_card(
    name: str,
    role: Role,
    rubric: Rubric,
    lineage: Mapping[str, Any],
    sha256: str,
    metrics: Mapping[str, Any] | None,
    license_id: str | None,
) -> str:
    """Markdown with the metadata of the hub.

    Args:
        name: id of the repository.
        lineage: of the model's ``zreward.json``: its stage and the hashes of the stage's inputs.
        sha256: hash of the model's files.
        metrics: content of `evaluate`'s metrics.json for this model; None if it was not evaluated.
        license_id: the hub's name of a license.
    """
    license_line = [f"license: {license_id}"] if license_id else []
    return "\n".join(
        [
            *("---", *license_line, "library_name: zreward"),
            *("tags:", "- reward-model", "- text-to-image", "- image-quality", f"- {role}", "---"),
            f"# {name}",
            "",
            f"A reward model ({role}) of the Z-Reward method (arXiv:2606.09076). It takes an image"
            f" and the prompt that the image was generated for, and returns a distribution over"
            f" {len(rubric.levels)} levels from {rubric.minimum:g} to {rubric.maximum:g} in each of"
            f" {len(rubric.dimensions)} dimensions. {HOW[role]}",
            "",
            *("```python", f"from zreward_core import {CLASSES[role]}", ""),
            f'model = {CLASSES[role]}.from_pretrained("{name}")',
            'scores = model.score(["a red circle"], ["image.png"])',
            *("print(scores.to_pandas())", "```", ""),
            *("## What it scores", "", *_rubric_table(rubric), ""),
            *("## Figures", "", *_figures(role, rubric, metrics), ""),
            *("## Training data", "", *_training(rubric, lineage, sha256), ""),
            *("## Limits", "", *_limits(role), ""),
            *("## Citation", "", "```bibtex", CITATION, "```", ""),
        ]
    )


def _rubric_table(rubric: Rubric) -> list[str]:
    rows = [
        (d.name, d.question, _level(d, min), _level(d, max), f"{d.weight:g}")
        for d in rubric.dimensions
    ]
    return [
        f"Rubric: {rubric.name}.",
        "",
        *_table(("dimension", "question", "lowest level", "highest level", "weight"), rows),
    ]


def _level(dimension: Dimension, end: Any) -> str:
    """Score and description of the lowest or highest level that is described."""
    if not dimension.levels:
        return ""
    score = end(dimension.levels)
    return f"{score:g}: {dimension.levels[score]}"


def _figures(role: Role, rubric: Rubric, metrics: Mapping[str, Any] | None) -> list[str]:
    if metrics is None:
        return ["No evaluation was given when this card was written."]
    rows = []
    for group, name, title in ROWS[role]:
        for part, found in metrics.get(group, {}).get(name, {}).items():
            if part in (*rubric.names, "overall"):
                low, high = _number(found.get("hpa_low")), _number(found.get("hpa_high"))
                numbers = (_number(found.get(key)) for key in ("margin_hpa", "plcc", "srcc", "ece"))
                rows.append((title, part, f"{_number(found['hpa'])} [{low}, {high}]", *numbers))
    return [
        "Agreement with the annotators on held-out prompts: HPA is the share of pairs of one prompt"
        " that are ordered as the annotators ordered them, with the 95 % bootstrap interval over"
        " prompts; margin HPA counts pairs more than half a point apart. No model can agree with"
        " the annotators by much more than they agree with each other.",
        "",
        *_table(("model", "dimension", "HPA", "margin HPA", "PLCC", "SRCC", "ECE"), rows),
    ]


def _training(rubric: Rubric, lineage: Mapping[str, Any], sha256: str) -> list[str]:
    inputs = [(str(key), str(value)) for key, value in sorted(lineage.items()) if key != "stage"]
    return [
        f"Trained by the stage `{lineage.get('stage', 'unknown')}`. Inputs are named by the sha256"
        " of their files, so that they can be compared with a copy:",
        "",
        *_table(("input", "sha256"), [*inputs, ("rubric", rubric.sha256), ("this model", sha256)]),
    ]


def _limits(role: Role) -> list[str]:
    own = {
        "student": "It compares prompt and image without reasoning: alignment with long or"
        " compositional prompts is its weakest part.",
        "teacher": "Its traces are sampled: a score has noise that more traces reduce.",
    }
    points = [
        "Scores are valid for images and prompts like those that were annotated; elsewhere they are"
        " extrapolation. A low `mass` (probability of the score tokens) marks such inputs.",
        "It reproduces the taste and the errors of its annotators.",
        own[role],
        "A generator that is trained on it will exploit it. Watch a judge that is never trained on"
        " (`HackingMonitor`) and stop when it falls.",
        "It does not detect unsafe, false or copied content.",
    ]
    return [f"- {point}" for point in points]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in cells]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
