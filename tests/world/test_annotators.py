"""Simulated annotators."""

import numpy as np

from zreward_core.world.annotators import make_annotators

SCORES = {"alignment": 3.2, "realism": 4.6}
IDS = [f"{number:064x}" for number in range(400)]


def test_ratings_depend_on_annotator_and_image_alone() -> None:
    team, again = make_annotators(6, 17), make_annotators(9, 17)
    for annotator, same in zip(team[:5], again[:5], strict=True):
        forwards = [annotator.rate(SCORES, identifier, "a  Prompt") for identifier in IDS]
        backwards = [same.rate(SCORES, identifier, "a prompt") for identifier in IDS[::-1]]
        assert forwards == backwards[::-1]
        assert annotator.seconds(IDS[0], "a prompt") == same.seconds(IDS[0], "a prompt") > 0
    one_dimension = [team[0].rate({"realism": 4.6}, identifier, "a prompt") for identifier in IDS]
    both = [team[0].rate(SCORES, identifier, "a prompt") for identifier in IDS]
    assert [row and row["realism"] for row in one_dimension] == [
        row and row["realism"] for row in both
    ]


def test_ratings_lie_on_the_annotators_grid_and_some_tasks_are_skipped() -> None:
    for annotator in make_annotators(8, 3):
        rows = [annotator.rate(SCORES, identifier, "a prompt") for identifier in IDS]
        assert 0 < rows.count(None) < 40
        values = np.array([list(row.values()) for row in rows if row])
        assert values.min() >= 1
        assert values.max() <= 5
        assert np.all(values % annotator.step == 0)


def test_careful_annotators_follow_the_oracle_and_the_careless_one_does_not() -> None:
    truth = np.random.default_rng(0).uniform(1, 5, len(IDS))
    correlations = []
    for annotator in make_annotators(6, 5):
        pairs = [
            (score, row["realism"])
            for score, identifier in zip(truth, IDS, strict=True)
            if (row := annotator.rate({"realism": float(score)}, identifier, "a prompt"))
        ]
        correlations.append(np.corrcoef(np.array(pairs).T)[0, 1])
    assert min(correlations[:-1]) > 0.75
    assert correlations[-1] < 0.5
