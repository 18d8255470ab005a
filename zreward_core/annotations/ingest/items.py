"""The item of a record: prompt, image and identifiers, each computed once."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from zreward_core.annotations.formats import FORMATS
from zreward_core.annotations.ingest.identities import Identities
from zreward_core.annotations.ingest.image_folder import ImageFolder, short_reference
from zreward_core.annotations.ingest.references import canonical
from zreward_core.annotations.ingest.settings import Source
from zreward_core.annotations.ingest.values import Texts, combine
from zreward_core.schemas import digest, item_id, normalise_prompt, prompt_id

Fact = tuple[str, str | None, str | None, str | None, str | None]
"""item_id, prompt_id, prompt, image_id, quarantine reason."""


@dataclass
class Items:
    """The items of N records, U distinct ones."""

    codes: np.ndarray
    """[N] index of the item."""
    item_ids: pa.Array
    """[U]"""
    prompt_ids: pa.Array
    """[U], null where there is no prompt."""
    prompts: pa.Array
    """[U], null where there is no prompt."""
    image_ids: pa.Array
    """[U], null where the image is absent."""
    faults: list[str | None]
    """[U] quarantine reasons."""


class ItemIndex:
    """Items of one source.

    An item is an image of a prompt: the same bytes are one item in all sources. If the bytes are
    absent, the image is identified by its name (with prompt and generator) among the sources with
    the same `images` folder. A record without a prompt takes the prompt of its image if that is
    judged for one prompt only. Records without an image are distinguished by the source's `item`
    column, else by prompt and generator, else by row; an `item` column that params.yaml names
    also distinguishes absent images of the same name.
    """

    def __init__(self, source: Source, images: ImageFolder, identities: Identities) -> None:
        self.missing: dict[str, str] = {}
        """References without an image, with the reason if the image is not simply absent."""
        self.refused: dict[str, str] = {}
        """References to images that cannot be used, with the reason."""
        self._source = source.name
        self._images = images
        self._identities = identities
        self._scope = f"{source.images}\x1f"
        of_format = FORMATS[source.base_format].settings.get("columns", {}).get("item")
        item = source.columns.item
        self._key_identifies = item is not None and item.column != of_format
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
        columns = zip(*facts, strict=True) if facts else [()] * 5
        item_ids, prompt_ids, prompts, image_ids, faults = columns
        text = pa.string()
        return Items(
            codes,
            pa.array(item_ids, text),
            pa.array(prompt_ids, text),
            pa.array(prompts, text),
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
        short = None if image is None else short_reference(image)
        name = (prompt, short, generator, key, row)
        if name not in self._facts:
            self._facts[name] = self._make(prompt, image, generator, key, row)
        return self._facts[name]

    def _make(
        self,
        prompt: str | None,
        image: str | None,
        generator: str | None,
        key: str | None,
        row: str | None,
    ) -> Fact:
        image_id, fault = self._images.resolve(image) if image is not None else (None, None)
        if key is not None and self._prompt_of_key.setdefault(key, prompt) != prompt:
            fault = fault or "conflicting_prompt"
        named = image is not None and not (self._key_identifies and key is not None)
        name = self._name(image) if image is not None and image_id is None else None
        if image is not None and image_id is None and fault != "conflicting_prompt":
            short = short_reference(image)
            found = self.missing if fault is None else self.refused
            found[short] = self._images.why.get(short, "")
        if fault is None and (image_id is not None or named):
            about = image_id or f"{name}\x1f{generator or ''}"
            self._identities.add_image(about, prompt)
            if prompt is None:
                prompt = self._identities.prompt_of.get(about)
        if image_id is not None:
            item = item_id(prompt or "", image_id)
        elif row is not None:
            item = digest(self._source, "row", row)
        elif key is not None:
            item = digest(self._source, key)
        elif image is not None:
            item = digest(self._source, "picture", image, prompt or "", generator or "")
        else:
            item = digest(self._source, "sample", prompt or "", generator or "")
        if named and name is not None:
            other = digest(self._source, "picture", image or "", prompt or "", generator or "")
            judged = (name, normalise_prompt(prompt or ""), generator or "")
            item = self._identities.item_by_name(judged, item, other)
        if prompt is None:
            return item, None, None, image_id, fault
        prompt, identifier = self._with_id(prompt)
        return item, identifier, prompt, image_id, fault

    def _name(self, reference: str) -> str:
        """Name of an absent image, within the sources of the same `images` folder."""
        name, reading = canonical(short_reference(reference))
        target = self._scope + name
        if reading.upload:
            self._identities.names.add(target, reading)
            if target in self._identities.names.contested:
                return self._scope + reference
        return target

    def _with_id(self, prompt: str) -> tuple[str, str]:
        """A prompt, one object for equal texts, and its identifier."""
        if prompt not in self._prompts:
            self._prompts[prompt] = (prompt, prompt_id(prompt))
        return self._prompts[prompt]
