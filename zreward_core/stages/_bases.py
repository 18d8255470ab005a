"""Where a base model comes from: the hub, a local checkpoint, or pretraining on the world."""

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from zreward_core.config import Settings, UserError
from zreward_core.schemas import tree_hash


class BaseSource(Settings):
    """Exactly one of ``hub_id`` with ``revision``, ``path`` with ``sha256``, and ``tiny``."""

    hub_id: str | None = None
    """Hub id of a checkpoint; nothing is copied, later stages load it by this name."""
    revision: str | None = None
    """Commit of the hub checkpoint; required with hub_id so that a run can be repeated."""
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

    def pointer(self, key: str) -> dict[str, Any]:
        """What a model folder's card says about a checkpoint that lies elsewhere.

        Args:
            key: of these settings in params.yaml, for messages.

        Raises:
            UserError: the local checkpoint is missing, or its content has another sha256.
        """
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
