"""RewardDance: rationales for a given score, the loss on rationale and score, resumption."""

import pandas as pd
import pytest
import torch

from tests.stages.training_root import SUPERVISED, run_whole_and_killed, tiny
from zreward_core.images import ImageStore
from zreward_core.models.rollouts import sample_rollouts
from zreward_core.models.traces import trace_log_probs
from zreward_core.runtime.progress import read_history
from zreward_core.schemas import ITEMS, read_table
from zreward_core.stages import train_rewarddance
from zreward_core.stages._training import IMAGES, ITEMS_FILE
from zreward_core.stages.train_rewarddance import OUTPUT, Config, chains_of, read_chains
from zreward_core.training import chains
from zreward_core.training.chains import chain_loss

CONFIG = Config(seed=1, num_chains=3)


@pytest.fixture
def items(training_root) -> pd.DataFrame:
    return read_table(ITEMS_FILE, ITEMS).iloc[:4]


def test_the_writer_is_shown_the_score(items, monkeypatch) -> None:
    writer, shown = tiny(), []

    def spy(*arguments):
        shown.extend(arguments[-1])
        return sample_rollouts(*arguments)

    monkeypatch.setattr(chains, "sample_rollouts", spy)
    chains_of(writer, CONFIG, items, ImageStore(*IMAGES))
    chat = writer.chat
    for asked, row in zip(shown, items.itertuples(), strict=True):
        question = chat.questions[writer.rubric.names.index(row.dimension)]
        assert asked[-len(question) :] == asked[: len(question)] == question
        label = asked[len(question) + len(chat.closing)]
        score = writer.rubric.levels[chat.label_ids.index(label)]
        assert abs(score - row.score) <= 0.5
        assert asked.count(chat.close_id) == 1 + 2 * question.count(chat.close_id)


def test_the_chain_kept_is_the_one_after_which_the_score_is_likeliest(items) -> None:
    writer, store = tiny(), ImageStore(*IMAGES)
    rows = chains_of(writer, CONFIG, items, store).to_dict("records")
    (one,) = chains_of(writer, CONFIG, items.iloc[1:2], store).to_dict("records")
    assert one == {**rows[1], "likelihood": pytest.approx(rows[1]["likelihood"], abs=1e-5)}
    row = items.iloc[1]
    image = writer.pixels.prepare(store.pixels(row["image_id"]))
    dimension = writer.rubric.names.index(row["dimension"])
    trace = writer.chat.trace(rows[1]["trace"])
    with torch.no_grad():
        found = trace_log_probs(writer, [row["prompt"]], [image], [dimension], [trace])
    likelihood = (found.scores_NS.exp()[0] * torch.tensor(row["histogram"])).sum().item()
    assert likelihood == pytest.approx(rows[1]["likelihood"], abs=2e-2)  # text tokenized again


def test_the_loss_is_that_of_the_tokens_and_of_the_score(items) -> None:
    backbone, store = tiny(), ImageStore(*IMAGES)
    written = pd.DataFrame({"trace": ["red", "blue star", "top left", "circle"]})
    images = [backbone.pixels.prepare(store.pixels(i)) for i in items["image_id"]]
    data = read_chains(backbone, items, written, images)
    assert all(chain[-1] == backbone.chat.close_id for chain in data.tokens)
    batch = [0, 1, 2, 3]
    with torch.no_grad():
        loss, sums = chain_loss(backbone, data, 2.0, 0.0, batch, batch)
        found = trace_log_probs(backbone, data.prompts, data.images, data.dimensions, data.tokens)
    chain = -found.log_probs_NT[found.mask_NT].mean().item()
    score = -(found.scores_NS * data.target_NS).sum(-1).mean().item()
    assert sums["loss/chain"] == pytest.approx(chain, rel=1e-5)
    assert sums["loss/score"] == pytest.approx(score, rel=1e-5)
    assert loss.item() == pytest.approx(chain + 2 * score, rel=1e-5)
    halves = [chain_loss(backbone, data, 2.0, 0.0, part, batch)[0] for part in ([0, 1], [2, 3])]
    assert sum(half.item() for half in halves) == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("changes", [{}, {"base": "student", "optimizer": "muon"}])
def test_a_killed_run_resumes_to_the_same_teacher(training_root, monkeypatch, changes) -> None:
    config = Config(seed=1, **SUPERVISED, num_chains=2, shard_items=5, **changes)
    run_whole_and_killed(train_rewarddance, config, monkeypatch)
    assert len(pd.read_parquet(OUTPUT / "chains.parquet")) == 12
    assert "loss/chain" in read_history(OUTPUT / "history.jsonl")[0]
