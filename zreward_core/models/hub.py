"""The Hugging Face hub: models of this project as repositories. huggingface_hub is imported lazily.

``HF_ENDPOINT`` names another hub, ``HF_TOKEN`` the token (or `hf auth login`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zreward_core.config import UserError

FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "README.md"]
"""Files of a model; no other is downloaded, and no pickle."""


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
    folder: Path, hub_id: str, *, private: bool | None, revision: str | None, message: str
) -> str:
    """Upload a model's folder; the repository is created if it does not exist.

    Args:
        private: of a new repository; None for the default of the account.
        revision: branch, which must exist; None for main.

    Returns:
        The commit, which ``revision`` can name.

    Raises:
        UserError: the hub cannot be reached or refuses the upload.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with _hub_errors(hub_id):
        api.create_repo(hub_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=hub_id,
            folder_path=folder,
            revision=revision,
            allow_patterns=FILES,
            commit_message=message,
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
