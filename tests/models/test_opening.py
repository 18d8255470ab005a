"""Opening models: roles, devices, dtypes, sources."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers.utils import logging

from zreward_core import RewardModel, TeacherJudge
from zreward_core.config import UserError
from zreward_core.models.backbone import Backbone


@pytest.fixture(scope="module")
def student(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "student"
    backbone.save(folder, {"stage": "train_risd"})
    return folder


def of_stage(student: Path, folder: Path, stage: str) -> Path:
    shutil.copytree(student, folder)
    content = json.loads((folder / "zreward.json").read_text())
    content["lineage"]["stage"] = stage
    (folder / "zreward.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("stage", "opens", "other", "reason"),
    [
        ("train_gdso", TeacherJudge, RewardModel, "is a teacher: train_gdso .* Open it with Teach"),
        ("train_opd", TeacherJudge, RewardModel, "is a teacher"),
        ("train_risd", RewardModel, TeacherJudge, "is a student: .* in one forward pass"),
        ("train_sft", RewardModel, TeacherJudge, "Open it with RewardModel"),
    ],
)
def test_a_model_of_another_role_is_refused(
    student: Path, tmp_path: Path, stage: str, opens: Any, other: Any, reason: str
) -> None:
    folder = of_stage(student, tmp_path / "model", stage)
    with pytest.raises(UserError, match=reason):
        other.from_pretrained(folder)
    assert opens.from_pretrained(folder).role != other.role


def test_a_model_of_another_stage_has_both_roles(student: Path, tmp_path: Path) -> None:
    folder = of_stage(student, tmp_path / "model", "train_mine")
    for kind in (RewardModel, TeacherJudge):
        assert kind.from_pretrained(folder).backbone.rubric.names  # type: ignore[attr-defined]


def test_dtypes_and_devices(student: Path) -> None:
    def dtype(**options: Any) -> torch.dtype:
        model = RewardModel.from_pretrained(student, **options)
        assert model.backbone.device.type == "cpu" or torch.accelerator.is_available()
        return next(model.backbone.network.parameters()).dtype

    assert dtype() == torch.float32  # as it is stored
    assert dtype(device="cpu", dtype="bfloat16") == torch.bfloat16
    assert dtype(device=torch.device("cpu"), dtype=torch.float16) == torch.float16
    model = RewardModel.from_pretrained(student, batch_size=7).to("cpu", "bfloat16")
    assert model.batch_size == 7
    assert next(model.backbone.network.parameters()).dtype == torch.bfloat16


def test_no_bar_of_a_library_shows_while_weights_are_loaded(
    student: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a terminal, where tqdm is not silent."""
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    logging.enable_progress_bar()
    transformers.Qwen3_5ForConditionalGeneration.from_pretrained(student)
    assert "Loading weights" in capsys.readouterr().err, "the bar has another name: test nothing"
    logging.enable_progress_bar()
    RewardModel.from_pretrained(student)
    assert capsys.readouterr().err == ""


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "device": ({"device": "gpu"}, "'gpu' is not a device: write auto, cpu"),
    "absent device": ({"device": "cuda:99"}, "cuda:99 is not available here"),
    "dtype": ({"dtype": "int8"}, "'int8' is not a dtype of weights"),
    "torch dtype": ({"dtype": torch.int64}, "torch.int64 is not a dtype of weights"),
    "revision": ({"revision": "main"}, "revision 'main' is given for .*student"),
    "batch size": ({"batch_size": 0}, "batch_size is 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options_are_refused(student: Path, case: str) -> None:
    options, reason = WRONG[case]
    for kind in (RewardModel, TeacherJudge):
        model = of_role(student, kind)
        with pytest.raises(UserError, match=reason):
            kind.from_pretrained(model, **options)  # type: ignore[attr-defined]


def of_role(student: Path, kind: Any) -> Path:
    if kind is RewardModel:
        return student
    folder = student.parent / "teacher_student"
    return folder if folder.exists() else of_stage(student, folder, "train_gdso")
