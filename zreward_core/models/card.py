"""The card ``zreward.json`` of a model folder: what scoring needs beyond the checkpoint."""

from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from zreward_core.config import UserError
from zreward_core.models.prompts import TEMPLATE_VERSION, PromptSettings
from zreward_core.rubric import Rubric
from zreward_core.schemas import how_to_make, read_json

CARD = "zreward.json"
RECORDED = ("dimensions", "levels", "rubric_sha256")
"""Keys of a card that repeat a part of its rubric."""
Role = Literal["student", "teacher"]
"""A student scores without generating tokens, a teacher after reasoning."""
ROLES: dict[str, Role] = {
    "train_gdso": "teacher",
    "train_gdso_coupled": "teacher",
    "train_grpo": "teacher",
    "train_opd": "teacher",
    "train_rewarddance": "teacher",
    "train_risd": "student",
    "train_sft": "student",
}
"""Stage in a card's lineage to the role that it trains; models of other stages have no role."""
CLASSES: dict[Role, str] = {"student": "RewardModel", "teacher": "TeacherJudge"}
"""Class that opens a model of a role."""


def card(
    rubric: Rubric, prompt: PromptSettings, label_ids: list[int] | None, lineage: dict[str, Any]
) -> dict[str, Any]:
    """Content of ``zreward.json``: everything beyond the checkpoint that scoring needs."""
    return {
        **recorded(rubric),
        "label_ids": label_ids,
        "prompt_template_version": TEMPLATE_VERSION,
        "prompt": prompt.model_dump(),
        "rubric": rubric.model_dump(mode="json"),
        "lineage": lineage,
    }


def read_card(folder: Path) -> dict[str, Any]:
    """Read a model folder's card.

    Raises:
        UserError: the folder or its card is missing or unreadable, or the card contradicts itself:
            its rubric has another hash, or other dimensions or levels, than it records.
    """
    if not folder.is_dir():
        remedy = how_to_make(folder, "give the folder of a model")
        raise UserError(f"{folder} is not a folder: {remedy}")
    if not (folder / CARD).is_file():
        raise UserError(
            f"{folder} has no {CARD}, so it was not written by this project: give the folder of a "
            "stage's model, such as data/train_risd/student"
        )
    content = read_json(folder / CARD)
    keys = "rubric", "prompt", "prompt_template_version", *RECORDED, "label_ids"
    missing = set(keys) - set(content) if isinstance(content, dict) else set(keys)
    if missing:
        raise UserError(f"{folder / CARD} lacks {sorted(missing)}: run the model's stage again")
    if content["prompt_template_version"] != TEMPLATE_VERSION:
        raise UserError(
            f"{folder / CARD} has prompt template {content['prompt_template_version']}, not "
            f"{TEMPLATE_VERSION}: run the model's stage again"
        )
    try:
        rubric, _ = Rubric(**content["rubric"]), PromptSettings(**content["prompt"])
    except (ValidationError, TypeError) as error:
        raise UserError(
            f"{folder / CARD} holds no valid rubric and prompt: {error}; restore the file, or run"
            " the model's stage again"
        ) from None
    for name, value in recorded(rubric).items():
        if content[name] != value:
            raise UserError(
                f"{folder / CARD}: '{name}' is {content[name]!r}, but that of the rubric in it is"
                f" {value!r}: one of them was changed; restore the file, or run the model's stage"
                " again"
            )
    return content


def require_role(folder: Path, role: Role) -> None:
    """Check that a model was not trained for the other role: its scores would be meaningless.

    Raises:
        UserError: it was, or the folder is not a model of this project.
    """
    lineage = read_card(folder).get("lineage")
    stage = str(lineage.get("stage")) if isinstance(lineage, dict) else ""
    trained = ROLES.get(stage, role)
    if trained != role:
        how = {"student": "in one forward pass", "teacher": "after reasoning"}[trained]
        raise UserError(
            f"{folder} is a {trained}: {stage} trained it to score {how}. Open it with"
            f" {CLASSES[trained]}, or give the folder of a {role}"
        )


def checkpoint_source(content: dict[str, Any]) -> str | None:
    """Hub id or path of the checkpoint that a card refers to; None if it lies beside the card."""
    return content.get("hub_id") or content.get("path")


def recorded(rubric: Rubric) -> dict[str, Any]:
    """Keys of a card that repeat a part of its rubric (``RECORDED``)."""
    return {"dimensions": rubric.names, "levels": rubric.levels, "rubric_sha256": rubric.sha256}
