"""Assignment: balanced, by prompt, independent of order."""

from collections import Counter

from zreward_core.annotations.label_studio.assignment import assign

OVERLAP = {"train": 1, "validation": 3, "test": 5}
PROMPTS = [f"prompt {number}" for number in range(120) for _ in range(4)]
SPLITS = [("train", "validation", "test")[number % 3] for number in range(120) for _ in range(4)]


def test_overlap_and_balance() -> None:
    assigned = assign(PROMPTS, OVERLAP, SPLITS, 12, seed=1)
    for split, overlap in OVERLAP.items():
        mine = {prompt for prompt, one in zip(PROMPTS, SPLITS, strict=True) if one == split}
        assert {len(set(assigned[prompt])) for prompt in mine} == {overlap}
        loads = Counter(annotator for prompt in mine for annotator in assigned[prompt])
        assert len(loads) == 12
        assert max(loads.values()) - min(loads.values()) <= 1


def test_order_does_not_matter_and_the_seed_does() -> None:
    straight = assign(PROMPTS, OVERLAP, SPLITS, 12, seed=1)
    assert assign(PROMPTS[::-1], OVERLAP, SPLITS[::-1], 12, seed=1) == straight
    assert assign(PROMPTS, OVERLAP, SPLITS, 12, seed=2) != straight


def test_people_are_mixed() -> None:
    assigned = assign(PROMPTS, OVERLAP, SPLITS, 12, seed=1)
    teams = {tuple(people) for people in assigned.values() if len(people) == 5}
    assert len(teams) > 20
