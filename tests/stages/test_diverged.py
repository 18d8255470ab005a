"""Training that diverges: the stage is refused with its step and value, and writes nothing."""

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.stages.generator_root import TUNING, finished_root, generator_config, root
from tests.stages.training_root import ON_POLICY, SUPERVISED, tiny
from zreward_core.config import Settings
from zreward_core.images import ImageStore
from zreward_core.models.loading import load_backbone
from zreward_core.models.scorer import RewardModel
from zreward_core.runtime.outputs import whole_output
from zreward_core.schemas import NotFinite
from zreward_core.stages import (
    base_generator,
    base_vlm,
    finetune_generator,
    label,
    train_gdso,
    train_risd,
    train_sft,
    world,
)

__all__ = ["finished_root", "root"]  # fixtures
RATE = 1e10
"""Above the limit of params, so that it is set on a config that was validated before."""
REPOSITORY = Path(__file__).parents[2]


def with_rate(config: Any) -> Any:
    """The settings with another learning rate."""
    return config.model_copy(update={"learning_rate": RATE})


def files() -> set[Path]:
    """Every output and checkpoint of the current folder."""
    folders = Path("data"), Path(".zreward/checkpoints")
    found = {path for folder in folders for path in folder.rglob("*") if path.is_file()}
    return {path for path in found if path.suffix != ".lock"}


@pytest.mark.parametrize(
    ("stage", "settings"),
    [(train_risd, SUPERVISED), (train_sft, SUPERVISED), (train_gdso, ON_POLICY)],
)
def test_a_learning_rate_of_1e10_ends_training(
    training_root: Path, stage: ModuleType, settings: dict
) -> None:
    name, before = stage.__name__.rpartition(".")[2], files()
    with pytest.raises(NotFinite, match=rf"^{name}, step 1: .* is nan.*lower the learning rate"):
        stage.run(with_rate(stage.Config(seed=1, **settings)))
    assert files() == before


@pytest.mark.parametrize(("stage", "settings"), [(train_risd, SUPERVISED), (train_gdso, ON_POLICY)])
def test_a_last_step_that_leaves_finite_weights_and_no_finite_loss(
    training_root: Path, stage: ModuleType, settings: dict
) -> None:
    name, before = stage.__name__.rpartition(".")[2], files()
    with pytest.raises(NotFinite, match=rf"^{name}, after its last step: .* is nan.*learning rate"):
        stage.run(with_rate(stage.Config(seed=1, **settings | {"steps": 1})))
    assert files() == before


def test_a_learning_rate_of_1e10_ends_pretraining(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/rubric.yaml").write_text((REPOSITORY / "data/rubric.yaml").read_text())
    Path("params.yaml").write_text((REPOSITORY / "params.yaml").read_text())
    overlay = yaml.safe_load((REPOSITORY / "params/smoke.yaml").read_text())
    overlay["world"] |= {"size": 8, "held_out": 2, "pretraining_prompts": 8, "held_out_prompts": 2}
    for role in ("teacher", "student"):
        settings = {"steps": 3, "batch_size": 2, "checkpoint_every": 1}
        overlay["base_vlm"][role]["pretraining"] = settings
    Path("over.yaml").write_text(yaml.safe_dump(overlay))
    world.run(world.Config.load("world", Path("over.yaml")))
    config = base_vlm.Config.load("base_vlm", Path("over.yaml"))
    teacher = config.teacher.model_copy(
        update={"pretraining": with_rate(config.teacher.pretraining)}
    )
    config = config.model_copy(update={"teacher": teacher})
    with pytest.raises(NotFinite, match=r"^base_vlm, step 1 of the teacher: loss is nan"):
        base_vlm.run(config)
    assert not base_vlm.OUTPUT.exists()
    once = teacher.model_copy(
        update={"pretraining": teacher.pretraining.model_copy(update={"steps": 1})}
    )
    with pytest.raises(NotFinite, match=r"^base_vlm, the teacher after its last step: score_error"):
        base_vlm.run(config.model_copy(update={"teacher": once}))
    assert not base_vlm.OUTPUT.exists()


@pytest.mark.parametrize(("part", "words"), [("vae", "autoencoder"), ("flow", "transformer")])
def test_a_learning_rate_of_1e10_ends_the_training_of_a_generator(
    root: Path, part: str, words: str
) -> None:
    config = generator_config(**{part: {"steps": 8, "batch_size": 4}})
    config = config.model_copy(update={part: with_rate(getattr(config, part))})
    before, message = files(), rf"^base_generator, step \d of the {words}: .* is (nan|inf)"
    with pytest.raises(NotFinite, match=message):
        base_generator.run(config)
    kept = files() - before  # of the autoencoder, which was trained before
    assert before <= files() and all(path.name.startswith("vae.") for path in kept)


def test_a_learning_rate_of_1e10_ends_tuning(root: Path) -> None:
    settings = {**TUNING, "panel": False, "watch": {"num_prompts": 2}}
    before = files()
    with pytest.raises(NotFinite, match=r"^finetune_generator, step \d: .* is (nan|inf)"):
        finetune_generator.run(with_rate(finetune_generator.Config(seed=5, **settings)))
    kept = {path.name for path in files() - before}
    assert kept == {"before00000.parquet"}  # samples of the untuned generator


def test_a_teacher_that_diverged_labels_nothing(training_root: Path) -> None:
    teacher = tiny()
    with torch.no_grad():
        teacher.network.model.lm_head.weight.fill_(torch.inf)
    shutil.rmtree(label.TEACHER.parent, ignore_errors=True)
    teacher.save(label.TEACHER, {})
    before = files()
    try:
        with pytest.raises(NotFinite, match=rf"{label.TEACHER}: .* in alignment is not finite"):
            label.run(label.Config(seed=1))
        assert files() == before
        images = ImageStore(label.IMAGES)
        pixels = images.pixels(next(iter(images)))
        with pytest.raises(NotFinite, match="'a prompt' is not finite"):
            RewardModel(load_backbone(label.TEACHER)).score(["a prompt"], [pixels])
    finally:
        shutil.rmtree(label.TEACHER.parent)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_not_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    """As after a last step that overflows, which no later loss shows."""
    monkeypatch.chdir(tmp_path)
    output = Path("data/train_toy")
    with whole_output(output, Settings()) as folder:
        (folder / "model").mkdir()
        weights = {"a": torch.zeros(2), "b": torch.zeros(3, dtype=torch.bfloat16)}
        save_file(weights, folder / "model/model.safetensors")
    with (
        pytest.raises(NotFinite, match=r"train_toy.* weight b in model/model.safetensors"),
        whole_output(output, Settings()) as folder,
    ):
        (folder / "model").mkdir()
        weights["b"][1] = value
        save_file(weights, folder / "model/model.safetensors")
    assert load_file(output / "model/model.safetensors")["b"].sum() == 0
    assert [path.name for path in Path("data").iterdir()] == ["train_toy"]
