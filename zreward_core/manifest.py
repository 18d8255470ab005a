"""The hashes of a registered version's files, and the check of files against them.

No mlflow is imported.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zreward_core.config import Settings, UserError, parse_json
from zreward_core.schemas import COMMIT, file_hash, file_hashes, read_json

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

MANIFEST_TAG = "manifest"
"""Tag of a version: the hash of each of its files."""
FOLDER, WHOLE = "artifacts/student", ""
"""Parts of a version: the student's files, and everything that MLflow executes or reads."""
NOTE = "registered_model_meta"
"""File with name and number of the version, which MLflow adds when it loads a version."""
CARD = "zreward.json"
"""In a model folder; with ``hub_id`` and ``revision`` it points to a hub checkpoint."""
PICKLED = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
PICKLE_MAGIC = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")
"""First bytes of a pickle, and of the archive that `torch.save` writes."""


class Hub(Settings):
    """The hub checkpoint of a pointer."""

    hub_id: str
    """Its repository."""
    revision: str
    """The commit."""
    files: dict[str, str]
    """Hash of each file, by name."""


class Manifest(Settings):
    """Content of the tag."""

    files: dict[str, str]
    """Hash of each file of the version, by name."""
    hub: Hub | None = None
    """Of a pointer."""


def manifest_of(version: "ModelVersion") -> dict[str, Any]:
    """A version's manifest: {"files": {name: sha256}}.

    That of a pointer has ``hub``: the hub id, the commit and the hash of each file it resolves to.

    Raises:
        UserError: the version has none.
    """
    try:
        content = parse_json(version.tags.get(MANIFEST_TAG, ""))
        return Manifest.model_validate(content).model_dump(exclude_none=True)
    except ValueError:
        raise UserError(
            f"version {version.version} of {version.name} has no valid tag {MANIFEST_TAG}, so the"
            " model is not loaded: `zreward promote` did not register it; register it again"
        ) from None


def make_manifest(files: Mapping[str, str], folder: Path) -> str:
    """Value of the tag.

    Args:
        files: hash of each file of the version, by name.
        folder: the student's folder.

    Raises:
        UserError: the folder is a pointer that cannot be registered; see ``hub_snapshot``.
    """
    manifest: dict[str, Any] = {"files": files}
    if (snapshot := hub_snapshot(folder)) is not None:
        pointer = {key: read_json(folder / CARD)[key] for key in ("hub_id", "revision")}
        manifest["hub"] = pointer | {"files": file_hashes(snapshot)}
    return json.dumps(manifest)


def compare(folder: Path, manifest: Mapping[str, Any], part: str = WHOLE) -> dict[str, str]:
    """Hashes of a version's part, after comparing them with the manifest of the version.

    If the student is a pointer, the registered files of its hub checkpoint are compared as well.

    Raises:
        UserError: a file is missing, added or changed, or may be a pickle.
    """
    for cache in list(folder.rglob("__pycache__")):  # Python would run it instead of the source
        shutil.rmtree(cache)
    prefix = f"{part}/" if part else ""
    expected = {
        name.removeprefix(prefix): value
        for name, value in manifest["files"].items()
        if name.startswith(prefix)
    }
    hashes = file_hashes(folder)
    if part == WHOLE:
        hashes.pop(NOTE, None)
    wrong = sorted(
        name for name in hashes.keys() | expected.keys() if hashes.get(name) != expected.get(name)
    )
    if wrong:
        raise UserError(
            f"{folder}: {wrong} differ from the registered manifest, so the model is not loaded."
            " Restore the files, or register the model again"
        )
    refuse_pickles(folder)
    student = {WHOLE: folder / FOLDER, FOLDER: folder}.get(part)
    if student is not None and "hub" in manifest:
        _check_hub_files(student, manifest["hub"])
    return hashes


def refuse_pickles(folder: Path) -> None:
    """Reject a model folder with a file that is loaded by unpickling, which can run any code.

    Raises:
        UserError: names the file.
    """
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as stream:
            magic = path.suffix != ".safetensors" and stream.read(4).startswith(PICKLE_MAGIC)
        if magic or path.suffix.lower() in PICKLED:
            raise UserError(
                f"{path} may be a pickle, which can run any code when it is loaded: save the"
                " weights as safetensors and remove the file"
            )


def hub_snapshot(folder: Path, download: list[str] | None = None) -> Path | None:
    """Local files of the hub checkpoint that a pointer names; None if the folder is no pointer.

    Args:
        folder: a model folder.
        download: files to download; None: the checkpoint must have been downloaded.

    Raises:
        UserError: the pointer names a branch or tag, whose content changes, or the checkpoint is
            not on this machine.
    """
    card = read_json(folder / CARD) if (folder / CARD).is_file() else {}
    if not card.get("hub_id"):
        return None
    source, revision = str(card["hub_id"]), str(card.get("revision"))
    if Path(source).is_dir():
        return Path(source)
    if not COMMIT.fullmatch(revision):
        raise UserError(
            f"{folder / CARD} points to {source} at {revision!r}, which is not a commit: a branch"
            " or tag can name other weights tomorrow, so it is not registered. Set the revision in"
            " base_vlm (params.yaml) to the 40 digits of the commit"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            source, revision=revision, allow_patterns=download, local_files_only=download is None
        )
    except (LocalEntryNotFoundError, HfHubHTTPError) as error:
        raise UserError(
            f"{source} at {revision} is not on this machine: run the stage that reads it, such as"
            f" `dvc repro evaluate`, with a network ({error})"
        ) from None
    return Path(found)


def _check_hub_files(folder: Path, hub: dict[str, Any]) -> None:
    snapshot = hub_snapshot(folder, sorted(hub["files"]))
    assert snapshot is not None, folder
    wrong = sorted(
        name
        for name, sha256 in hub["files"].items()
        if not (snapshot / name).is_file() or file_hash(snapshot / name) != sha256
    )
    if wrong:
        raise UserError(
            f"{hub['hub_id']} at {hub['revision']}: {wrong} differ from the hashes taken at"
            f" registration, so the model is not loaded. Delete {snapshot} to download them again,"
            " or register the model again"
        )
