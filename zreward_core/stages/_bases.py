"""Sources of a base model: the hub, a local checkpoint, or pretraining. Not a stage."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from zreward_core.config import Settings, UserError
from zreward_core.schemas import COMMIT, tree_hash


class BaseSource(Settings):
    """Exactly one of ``hub_id`` with ``revision``, ``path`` with ``sha256``, and ``tiny``."""

    hub_id: str | None = None
    """Hub id of a checkpoint; nothing is copied, later stages load it by this name."""
    revision: str | None = None
    """Commit of the hub checkpoint, 40 hex digits; required with hub_id so that a run can be
    repeated. A branch or tag is refused before the first stage runs."""
    path: Path | None = None
    """Folder of a local checkpoint, relative to the project or absolute; it is not copied."""
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """sha256 of that folder's file names and contents; required with path."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        tiny = getattr(self, "tiny", None)
        if sum(source is not None for source in (self.hub_id, self.path, tiny)) != 1:
            raise ValueError(
                "give one of hub_id (with revision), path (with sha256) and tiny; an overlay sets"
                " the others to null"
            )
        if self.hub_id is not None and self.revision is None:
            raise ValueError("hub_id needs revision, the commit of the hub checkpoint")
        if self.path is not None and self.sha256 is None:
            raise ValueError("path needs sha256, the hash of the folder's files")
        return self

    def unfixed(self, key: str) -> Iterator[str]:
        """A message if the hub checkpoint is named by a branch or tag instead of a commit.

        It is a fault before a run, and none of the settings themselves: `zreward plan` needs no
        commit. A hub id that is a local folder has no revisions.
        """
        if self.hub_id is None or Path(self.hub_id).is_dir():
            return
        if not COMMIT.fullmatch(str(self.revision)):
            yield (
                f"'{key}.revision' is {self.revision!r}, which is not a commit and can name other"
                f" weights tomorrow: set it to the 40 hex digits of a commit of {self.hub_id},"
                f" see https://huggingface.co/{self.hub_id}/commits/main or `git ls-remote"
                f" https://huggingface.co/{self.hub_id}`"
            )

    def pointer(self, key: str) -> dict[str, Any]:
        """Keys of a model folder's card that refer to a checkpoint elsewhere.

        Args:
            key: of these settings in params.yaml, for messages.

        Raises:
            UserError: the local checkpoint is missing, or its content has another sha256; or the
                revision of a hub checkpoint is not a commit.
        """
        for fault in self.unfixed(key):
            raise UserError(f"params.yaml: {fault}")
        if self.path is None:
            return {"hub_id": self.hub_id, "revision": self.revision}
        if not self.path.is_dir():
            raise UserError(
                f"params.yaml: '{key}.path': there is no folder {self.path}: correct the path"
            )
        found = tree_hash(self.path)
        if found != self.sha256:
            raise UserError(
                f"params.yaml: '{key}.sha256' is {self.sha256}, but the files in {self.path} have"
                f" {found}: set it to that if this is the checkpoint you mean"
            )
        return {"path": str(self.path), "sha256": found}
