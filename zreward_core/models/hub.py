"""The Hugging Face hub: models of this project as repositories. huggingface_hub is imported lazily.

``HF_ENDPOINT`` names another hub, ``HF_TOKEN`` the token (or `hf auth login`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zreward_core.config import UserError
from zreward_core.models.model_card import README

FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt"]
"""Files of a model; no other is uploaded or downloaded, and no pickle."""


def download(hub_id: str, revision: str | None = None) -> Path:
    """Local copy of a repository's model; nothing is sent if the commit is already here.

    Raises:
        UserError: there is no such repository or revision, it is not readable without a token, or
            the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    with _hub_errors(f"{hub_id} at {revision or 'main'}"):
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=FILES))


def upload(
    folder: Path, hub_id: str, readme: str, *, private: bool | None, revision: str | None
) -> str:
    """Upload a model's files and its card in one commit.

    Args:
        folder: of the model.
        hub_id: of the repository, which is created if it does not exist.
        readme: content of README.md.
        private: of a new repository; None for the default of the account.
        revision: branch, which must exist; None for main.

    Returns:
        The commit.

    Raises:
        UserError: the hub cannot be reached or refuses the upload.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    found = (path for pattern in FILES for path in folder.rglob(pattern))
    files = {path.relative_to(folder).as_posix(): path for path in found}
    contents = files | {README: readme.encode()}
    with _hub_errors(hub_id):
        api.create_repo(hub_id, private=private, exist_ok=True)
        commit = api.create_commit(
            hub_id,
            [CommitOperationAdd(name, content) for name, content in sorted(contents.items())],
            commit_message="Upload a Z-Reward model",
            revision=revision,
        )
    return str(commit.oid)


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    """Within the block errors of the hub become UserErrors."""
    from huggingface_hub.errors import (
        FileMetadataError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        XetDownloadError,
    )

    unreachable = (
        LocalEntryNotFoundError, OfflineModeIsEnabled, HTTPError, FileMetadataError,
        XetDownloadError,
    )  # fmt: skip
    try:
        yield
    except (HfHubHTTPError, HFValidationError) as error:
        raise UserError(
            f"{name}: the hub refuses it ({_first_line(error)}); correct the id or the revision, or"
            " give a token with access to it (`hf auth login`, HF_TOKEN)"
        ) from None
    except unreachable as error:
        raise UserError(
            f"{name} is neither a folder nor a copy of the hub on this machine, and the hub cannot"
            f" be reached ({_first_line(error)}); correct the path, or try again with a network"
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
