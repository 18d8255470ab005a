"""On-policy distillation: advantages, the sampling policy, resumption."""

import numpy as np
import pytest
import torch

from tests.stages.training_root import run_whole_and_killed, tiny
from tests.tiny_models import SIZES
from zreward_core.config import UserError
from zreward_core.images import ImageStore
from zreward_core.models.tiny import build_backbone
from zreward_core.runtime.progress import read_history
from zreward_core.schemas import CANDIDATES, read_table
from zreward_core.stages import train_opd
from zreward_core.stages.train_opd import (
    IMAGES,
    OUTPUT,
    POOL,
    TEACHER,
    Config,
    load_teacher,
    loss_of,
    sample,
)
from zreward_core.training.images import PreparedImages

BATCH = {"images_per_step": 4, "group_size": 2, "micro_batch_images": 2, "checkpoint_every": 2}
CONFIG = Config(seed=1, steps=4, **BATCH)


@pytest.fixture
def with_teacher(training_root):
    if not TEACHER.is_dir():
        tiny(7).save(TEACHER, {})
    return training_root


@pytest.fixture
def drawn(with_teacher):
    student = tiny()
    student.train_mode(lora=None)
    pool = read_table(POOL, CANDIDATES)
    images = PreparedImages(student.pixels, ImageStore(IMAGES))
    batch, metrics = sample(student, CONFIG, pool, images, np.random.default_rng(0))
    return student, batch, metrics


def test_dimensions_are_drawn_equally_often(drawn) -> None:
    _, batch, metrics = drawn
    assert sorted(batch.dimensions) == [0, 0, 1, 1]
    assert len(batch.rollouts.tokens) == 8
    assert 0 <= metrics["score/readable"] <= 1


def test_a_student_equal_to_its_teacher_has_no_gradient(drawn) -> None:
    student, batch, _ = drawn
    loss, sums = loss_of(student, tiny(), CONFIG, batch, range(4))
    loss.backward()
    assert sums == pytest.approx({"loss/total": 0.0, "policy/reverse_kl": 0.0}, abs=1e-4)
    assert all(p.grad is None or p.grad.abs().max() < 1e-4 for p in student.trainable())


def test_advantages_are_those_of_the_policy_that_sampled(drawn) -> None:
    student, batch, _ = drawn
    teacher = tiny(7)
    first, _ = loss_of(student, teacher, CONFIG, batch, range(4))
    kept = batch.advantages[0]
    with torch.no_grad():
        for parameter in student.trainable():
            parameter.mul_(1.01)
    second, _ = loss_of(student, teacher, CONFIG, batch, range(4))
    assert batch.advantages[0] is kept
    assert first.item() != second.item()


def test_gradients_of_micro_batches_add_up_to_the_whole(drawn) -> None:
    student, batch, _ = drawn
    found = []
    for parts in ([range(4)], [range(2), range(2, 4)]):
        batch.advantages.clear()
        for part in parts:
            loss_of(student, tiny(7), CONFIG, batch, part)[0].backward()
        found.append([p.grad.clone() for p in student.trainable() if p.grad is not None])
        student.network.zero_grad()
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("changes", [{}, {"lora": {"rank": 2, "alpha": 2}}])
def test_a_killed_run_resumes_to_the_same_student(with_teacher, monkeypatch, changes) -> None:
    config = Config(**{"seed": 1, "steps": 4, **BATCH, **changes})
    run_whole_and_killed(train_opd, config, monkeypatch)
    assert len(read_history(OUTPUT / "history.jsonl")) == 4


def test_a_step_lowers_the_loss(drawn) -> None:
    student, batch, _ = drawn
    batch.advantages.clear()
    loss, _ = loss_of(student, tiny(7), CONFIG, batch, range(4))
    loss.backward()
    with torch.no_grad():
        for parameter in student.trainable():
            if parameter.grad is not None:
                parameter -= 1e-2 * parameter.grad
        after, _ = loss_of(student, tiny(7), CONFIG, batch, range(4))
    assert after.item() < loss.item()  # the loss is minus the advantages times log-probabilities


def test_a_teacher_with_another_vocabulary_is_rejected(with_teacher, monkeypatch) -> None:
    student = tiny()
    other = build_backbone(SIZES, ["other words"], student.rubric, student.prompt, seed=1)
    monkeypatch.setattr(train_opd, "load_backbone", lambda *_: other)
    with pytest.raises(UserError, match="different vocabularies"):
        load_teacher(student, CONFIG)
