"""The item of a record: prompt, image and identifiers, each computed once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from zreward_core.annotations.ingest.values import Texts, combine
from zreward_core.schemas import digest, item_id, prompt_id

Resolve = Callable[[str], tuple[str | None, str | None]]
"""Image reference to image id (None: absent) and quarantine reason (None: no fault)."""
Fact = tuple[str, str | None, str | None, str | None]
"""item_id, prompt_id, image_id, quarantine reason."""


@dataclass
class Items:
    """The items of N records, U distinct ones."""

    codes: np.ndarray
    """[N] index of the item."""
    item_ids: pa.Array
    """[U]"""
    prompt_ids: pa.Array
    """[U], null where there is no prompt."""
    image_ids: pa.Array
    """[U], null where the image is absent."""
    faults: list[str | None]
    """[U] quarantine reasons."""


class ItemIndex:
    """Items of one source.

    An item is an image of a prompt. If either is unknown, items are distinguished by the source's
    `item` column, else by the image's name (with prompt and generator), else by prompt and
    generator, else by row.
    """

    def __init__(self, source: str, resolve: Resolve) -> None:
        self._source = source
        self._resolve = resolve
        self._facts: dict[tuple, Fact] = {}
        self._prompts: dict[str, tuple[str, str]] = {}
        self._prompt_of_key: dict[str, str | None] = {}

    def look_up(
        self, prompt: Texts, image: Texts, generator: Texts, key: Texts, rows: list[str] | pa.Array
    ) -> Items:
        """Find the items of some records.

        Args:
            prompt, image, generator, key: columns of N records.
            rows: [N] references, for records without any other identification.
        """
        used = [prompt.codes, image.codes, generator.codes, key.codes]
        nameless = (image.codes < 0) & (key.codes < 0)
        nameless &= (prompt.codes < 0) | (generator.codes < 0)
        if nameless.any():
            used.append(np.where(nameless, np.arange(len(nameless)), -1))
        codes, first = combine(used)
        named = [one.take(first).to_pylist() for one in (prompt, image, generator, key)]
        places = [str(rows[int(place)]) if nameless[place] else None for place in first]
        facts = [self._fact(*names) for names in zip(*named, places, strict=True)]
        item_ids, prompt_ids, image_ids, faults = zip(*facts, strict=True) if facts else [()] * 4
        text = pa.string()
        return Items(
            codes,
            pa.array(item_ids, text),
            pa.array(prompt_ids, text),
            pa.array(image_ids, text),
            list(faults),
        )

    def _fact(
        self,
        prompt: str | None,
        image: str | None,
        generator: str | None,
        key: str | None,
        row: str | None,
    ) -> Fact:
        identifier = None
        if prompt is not None:
            if prompt not in self._prompts:
                self._prompts[prompt] = (prompt, prompt_id(prompt))
            prompt, identifier = self._prompts[prompt]
        name = (prompt, image, generator, key, row)
        if name not in self._facts:
            self._facts[name] = self._make(prompt, identifier, image, generator, key, row)
        return self._facts[name]

    def _make(
        self,
        prompt: str | None,
        identifier: str | None,
        image: str | None,
        generator: str | None,
        key: str | None,
        row: str | None,
    ) -> Fact:
        image_id, fault = self._resolve(image) if image is not None else (None, None)
        if key is not None and self._prompt_of_key.setdefault(key, prompt) != prompt:
            fault = fault or "conflicting_prompt"
        if prompt is not None and image_id is not None:
            item = item_id(prompt, image_id)
        elif row is not None:
            item = digest(self._source, "row", row)
        elif key is not None:
            item = digest(self._source, key)
        elif image is not None:
            item = digest(self._source, "picture", image, prompt or "", generator or "")
        else:
            item = digest(self._source, "sample", prompt or "", generator or "")
        return item, identifier, image_id, fault
