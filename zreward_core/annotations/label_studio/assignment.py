"""Assignment of prompts to annotators: balanced, with all images of a prompt together."""

from collections.abc import Sequence

from zreward_core.schemas import digest, normalise_prompt


def assign(
    prompts: Sequence[str],
    overlap: dict[str, int],
    splits: Sequence[str],
    num_annotators: int,
    seed: int,
) -> dict[str, list[int]]:
    """Assign annotators to prompts.

    Prompts are visited in the order of their hashes; each goes to the annotators with the fewest
    images of its split so far, ties broken by hash. The order of the items does not matter, and all
    images of a prompt are seen by the same people.

    Args:
        prompts: the prompt of each image.
        overlap: number of annotators per item, by split.
        splits: the split of each image.
        num_annotators: number of annotators.
        seed: seed of the assignment.

    Returns:
        Normalised prompt to the indices of its annotators, ascending.
    """
    sizes: dict[str, int] = {}
    split_by_prompt: dict[str, str] = {}
    for prompt, split in zip(map(normalise_prompt, prompts), splits, strict=True):
        sizes[prompt] = sizes.get(prompt, 0) + 1
        split_by_prompt[prompt] = split
    loads = {split: [0] * num_annotators for split in overlap}
    assigned: dict[str, list[int]] = {}
    for prompt in sorted(sizes, key=lambda text: digest("visit", str(seed), text)):
        load = loads[split_by_prompt[prompt]]
        ranked = sorted(
            range(num_annotators),
            key=lambda one: (load[one], digest("tie", str(seed), prompt, str(one))),
        )
        chosen = sorted(ranked[: overlap[split_by_prompt[prompt]]])
        for one in chosen:
            load[one] += sizes[prompt]
        assigned[prompt] = chosen
    return assigned
