"""The teacher as a judge of images, and its explanations."""

import copy

import numpy as np
import pytest
import torch

from zreward_core import RewardModel, TeacherJudge
from zreward_core.config import UserError
from zreward_core.models.backbone import Backbone
from zreward_core.models.score_decoder import expected_score
from zreward_core.models.teacher import judge_queries, query_seed
from zreward_core.rubric import Rubric


@pytest.fixture
def teacher(backbone: Backbone) -> TeacherJudge:
    return TeacherJudge(copy.deepcopy(backbone), num_traces=2, seed=5, batch_size=3)


def test_scores_are_those_of_the_queries(
    teacher: TeacherJudge, prompts: list[str], images: list[np.ndarray]
) -> None:
    backbone = teacher.backbone
    scores = teacher.score(prompts[:5], images[:5], dimensions=["charm", "alignment"])
    assert scores.dimensions == ["charm", "alignment"]
    for b in range(5):
        for column, d in enumerate((2, 0)):
            seed = query_seed(5, prompts[b], backbone.rubric.names[d])
            pixels = [backbone.pixels.prepare(images[b])]
            found = judge_queries(backbone, [prompts[b]], pixels, [(0, d)], 2, [seed])
            torch.testing.assert_close(scores.probs[b, column], found.probs[0], atol=1e-4, rtol=0)
    assert torch.equal(scores.mean, expected_score(scores.probs, backbone.levels))


def test_a_row_without_a_score(teacher: TeacherJudge, images: list[np.ndarray]) -> None:
    (scores,) = teacher.score_stream("red", [images[0], b"no image"], keep_errors=True)
    assert list(scores.errors) == [1] and torch.isnan(scores.probs[1]).all()
    assert torch.equal(scores.probs[0], teacher.score("red", images[0]).probs[0])


def test_an_explanation_has_the_traces_and_both_distributions(
    teacher: TeacherJudge, images: list[np.ndarray]
) -> None:
    with pytest.raises(UserError, match="student is of type str: pass a RewardModel"):
        teacher.explain("a red circle", images[1], "student")  # type: ignore[arg-type]
    student = RewardModel(teacher.backbone)
    found = teacher.explain("a red circle", images[1], student, ["realism", "charm"])
    assert list(found.traces) == ["realism", "charm"]
    assert all(len(traces) == 2 for traces in found.traces.values())
    expected = teacher.score(["a red circle"], [images[1]], ["realism", "charm"])
    assert torch.equal(found.teacher.probs, expected.probs)
    assert found.student is not None
    scored = student.score(["a red circle"], [images[1]], ["realism", "charm"])
    assert torch.equal(found.student.probs, scored.probs)
    text = str(found)
    assert all(trace in text for traces in found.traces.values() for trace in traces)
    assert f"teacher {expected.mean[0, 0]:.2f} ±" in text and "student" in text
    table = found.to_pandas()
    assert len(table) == 2 * 4 and table["level"].tolist() == [1.0, 2.0, 3.0, 4.0] * 2
    np.testing.assert_allclose(table["teacher"], expected.probs.flatten())
    np.testing.assert_allclose(table["student"], scored.probs.flatten())
    assert "student" not in str(teacher.explain("a red circle", images[1]))


def test_a_student_of_another_rubric_is_refused(
    teacher: TeacherJudge, rubric: Rubric, images: list[np.ndarray]
) -> None:
    student = RewardModel(teacher.backbone)
    other = Backbone(
        teacher.backbone.network.model,
        teacher.backbone.tokenizer,
        teacher.backbone.pixels,
        rubric.model_copy(update={"name": "another"}),
        teacher.backbone.prompt,
    )
    student.backbone = other
    with pytest.raises(UserError, match="another rubric"):
        teacher.explain("a red circle", images[1], student)
    with pytest.raises(UserError, match="num_traces is 0"):
        TeacherJudge(other, num_traces=0)
