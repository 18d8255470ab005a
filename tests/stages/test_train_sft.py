"""SFT: the loss is the cross-entropy with the annotated scores; resumption; both sizes."""

import pytest
import torch

from tests.stages.training_root import SUPERVISED, run_whole_and_killed, tiny
from zreward_core.config import UserError
from zreward_core.images import ImageStore
from zreward_core.losses.sft import score_cross_entropy
from zreward_core.models.scorer import RewardModel, student_scores
from zreward_core.runtime.progress import read_history
from zreward_core.schemas import ITEMS, read_table
from zreward_core.stages import _training as shared
from zreward_core.stages import train_sft
from zreward_core.stages._training import IMAGES, ITEMS_FILE
from zreward_core.stages.train_sft import OUTPUT, Config
from zreward_core.training.one_token import one_token_loss
from zreward_core.training.samplers import load_labelled


def test_the_loss_is_the_log_probability_of_the_annotated_scores(training_root) -> None:
    backbone = tiny()
    items = read_table(ITEMS_FILE, ITEMS)
    data = load_labelled(backbone, items, "histogram", ImageStore(*IMAGES))
    assert data.probs_NDS.shape == (8, 2, 3) and data.mask_ND.all()
    batch = [0, 3, 5]
    with torch.no_grad():
        loss, sums = one_token_loss(backbone, data, score_cross_entropy, 0.0, batch, batch)
        log_probs, _ = student_scores(
            backbone, [data.prompts[i] for i in batch], [data.images[i] for i in batch]
        )
    expected = []
    for b, i in enumerate(batch):
        for d in range(2):
            score = items[items["item_id"] == f"item{i}"]["score"].iloc[d]
            low, high = (
                int(score) - 1,
                int(score + 0.5) - 1,
            )  # shared by the neighbours
            expected.append((log_probs[b, d, low] + log_probs[b, d, high]) / 2)
    assert loss.item() == pytest.approx(-torch.stack(expected).mean().item(), rel=1e-5)
    assert sums["loss/total"] == pytest.approx(loss.item())


@pytest.mark.parametrize(
    "changes", [{"optimizer": "muon", "learning_rate": 3e-3}, {"base": "teacher"}]
)
def test_a_killed_run_resumes_to_the_same_scorer(training_root, monkeypatch, changes) -> None:
    config = Config(seed=1, **SUPERVISED, **changes)
    run_whole_and_killed(train_sft, config, monkeypatch)
    assert [row["step"] for row in read_history(OUTPUT / "history.jsonl")] == [0]
    assert RewardModel.from_pretrained(OUTPUT / "scorer").dimensions == ["alignment", "realism"]


def test_training_fits_the_annotations(training_root) -> None:
    train_sft.run(Config(seed=1, steps=30, batch_size=6, optimizer="muon", learning_rate=1e-2))
    history = read_history(OUTPUT / "history.jsonl")
    assert history[-1]["loss/total"] < 0.9 * history[0]["loss/total"]


def test_no_item_to_train_on(training_root, monkeypatch) -> None:
    read = shared.read_table
    monkeypatch.setattr(shared, "read_table", lambda *a: read(*a).iloc[:0])
    with pytest.raises(UserError, match=str(ITEMS_FILE)):
        train_sft.run(Config(seed=1))
