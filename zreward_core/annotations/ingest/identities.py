"""Identities of items across all sources; some are known only after all sources were read."""

from collections import defaultdict
from dataclasses import dataclass, field

from zreward_core.annotations.ingest.references import Claims
from zreward_core.schemas import normalise_prompt


@dataclass
class Identities:
    """Names of absent images, and prompts for records without one, shared by all sources.

    ``settle`` is called after all sources were read; if it returns True, they are read again with
    the new information.
    """

    names: Claims = field(default_factory=Claims)
    """Uploads by the name of the file."""
    prompt_of: dict[str, str] = field(default_factory=dict)
    """Image to its only prompt."""
    _item_of_name: dict[tuple[str, str, str], str] = field(default_factory=dict)
    _name_of_item: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    _wanted: set[str] = field(default_factory=set)
    """Images with records without a prompt, from the last reading."""
    _without_prompt: set[str] = field(default_factory=set)
    _prompts: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    """Requested image to its prompts, by their normal form."""
    _any_prompt: bool = False

    def add_image(self, image: str, prompt: str | None) -> None:
        """Record that a row refers to an image (its id or name) and its prompt."""
        if prompt is None:
            self._without_prompt.add(image)
        else:
            self._any_prompt = True
            if image in self._wanted:
                self._prompts[image].setdefault(normalise_prompt(prompt), prompt)

    def item_by_name(self, name: tuple[str, str, str], item: str, other: str) -> str:
        """The item of an absent image by its name, prompt and generator.

        Args:
            name: compared across sources.
            item: identifier that the record would have on its own.
            other: identifier to use if that one belongs to an image of another name.
        """
        if name not in self._item_of_name:
            if self._name_of_item.setdefault(item, name) != name:
                item = other
            self._item_of_name[name] = item
        return self._item_of_name[name]

    def settle(self) -> bool:
        """Whether there is new information that can change the items."""
        found = {
            image: next(iter(prompts.values()))
            for image, prompts in self._prompts.items()
            if len(prompts) == 1
        }
        wanted = self._without_prompt if self._any_prompt else set()
        changed = self.names.settle() or found != self.prompt_of or wanted != self._wanted
        self.prompt_of, self._wanted, self._without_prompt = found, wanted, set()
        self._prompts.clear()
        self._item_of_name.clear()
        self._name_of_item.clear()
        return changed
