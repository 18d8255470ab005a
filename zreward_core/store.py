"""The project's MLflow store, and models fetched from it by a ``models:/`` URI.

By default the store is a SQLite file in the project root with its artifacts beside it;
``MLFLOW_TRACKING_URI`` and ``mlflow.set_tracking_uri`` override it. Its artifact locations are
relative to the root, so a copy of the project is complete. mlflow is imported lazily.
"""

import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from zreward_core.config import UserError, parse_json, read_yaml
from zreward_core.extras import extras_named
from zreward_core.mlflow_database import (
    ARTIFACTS,
    DATABASE,
    EXPERIMENT,
    EXPERIMENT_TAGS,
    check_database,
    create_database,
    database_of,
    is_own,
    locked,
    make_relative,
    store_errors,
)
from zreward_core.schemas import combined_hash, file_hash, file_hashes, read_json

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment
    from mlflow.entities.model_registry import ModelVersion

DOWNLOADS = Path(".zreward/versions")
MODEL = "zreward-student"
ALIAS = "champion"
SCHEME = "models:/"
SHA256_TAG, MANIFEST_TAG = "sha256", "manifest"
"""Tags of a version: the hash of the student's folder, and the hash of each file of the version."""
FOLDER, WHOLE = "artifacts/student", ""
"""Parts of a version: the student's files, and everything that MLflow executes or reads."""
NOTE = "registered_model_meta"
"""File with name and number of the version, which MLflow adds when it loads a version."""
CARD = "zreward.json"
"""In a model folder; with ``hub_id`` and ``revision`` it points to a hub checkpoint."""
COMMIT = re.compile(r"[0-9a-f]{40}")
SETTINGS = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
}
"""Environment of every process that uses MLflow: no unpickling, no telemetry, short retries."""
FORCED = ("MLFLOW_ALLOW_PICKLE_DESERIALIZATION",)
"""Settings that the user's environment cannot change."""
PICKLED = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
PICKLE_MAGIC = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")
"""First bytes of a pickle, and of the archive that `torch.save` writes."""


def is_uri(source: object) -> bool:
    """Whether a model is given as a registry URI rather than as a folder or a hub id."""
    return isinstance(source, str) and source.startswith(SCHEME)


def connect(create: bool = True, write: bool | None = None) -> "MlflowClient":
    """A client of the project's store.

    Args:
        create: create the store if it does not exist.
        write: also check that the database can be written; None: as ``create``.

    Raises:
        UserError: it does not exist and ``create`` is false, or it is locked or unreadable.
    """
    for name, value in SETTINGS.items():
        if name in FORCED:
            os.environ[name] = value
        else:
            os.environ.setdefault(name, value)
    with extras_named():
        from mlflow import MlflowClient, get_tracking_uri
        from mlflow.tracking._tracking_service.utils import is_tracking_uri_set

    # creation of tables, and tracebacks of errors that are raised as well
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    uri = get_tracking_uri() if is_tracking_uri_set() else f"sqlite:///{DATABASE.resolve()}"
    path = database_of(uri)
    if path is not None:
        if not path.exists():
            if not create:
                raise UserError(
                    f"{path} not found: run in a project root that has promoted a student"
                    " (`zreward promote`), or set MLFLOW_TRACKING_URI"
                )
            with locked():
                if not path.exists():
                    create_database(path)
        old = check_database(path, create if write is None else write)
        if old and is_own(path):
            make_relative(path, old)
    return MlflowClient(uri)


def experiment_id(client: "MlflowClient") -> str:
    """Identifier of the project's experiment, created if it does not exist."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:  # the database was created by an MLflow server, or is not a file
        with locked():
            found = client.get_experiment_by_name(EXPERIMENT) or _create_experiment(client)
    return found.experiment_id


def _create_experiment(client: "MlflowClient") -> "Experiment":
    path = database_of(client.tracking_uri)
    location = ARTIFACTS.resolve().as_uri()
    created = client.create_experiment(EXPERIMENT, location if path else None, tags=EXPERIMENT_TAGS)
    if path and is_own(path):
        make_relative(path, location)
    return client.get_experiment(created)


def find_version(client: "MlflowClient", uri: str) -> "ModelVersion":
    """The version that ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION`` names.

    Raises:
        UserError: malformed, or no such model, alias or version.
    """
    from mlflow.exceptions import MlflowException

    name, mark, alias = uri.removeprefix(SCHEME).partition("@")
    name, _slash, number = (name, "", "") if mark else name.partition("/")
    if not name or not (alias or number.isdigit()):
        raise UserError(
            f"{uri!r} is not the URI of a version: write {SCHEME}{MODEL}@{ALIAS} or"
            f" {SCHEME}{MODEL}/3"
        )
    try:
        if alias:
            return client.get_model_version_by_alias(name, alias)
        return client.get_model_version(name, number)
    except MlflowException as error:
        raise UserError(
            f"{uri} is not in the registry {client.tracking_uri}: {error.message}"
        ) from None


def fetch(uri: str, sha256: str | None = None) -> Path:
    """Folder of a version's student, after checking its files against the registered hashes.

    Args:
        uri: URI of the version.
        sha256: expected hash of the student; None: the hash in the version's tag.

    Raises:
        UserError: there is no such version, or its files differ from the registered ones.
    """
    client = connect(create=False)
    with store_errors():
        version = find_version(client, uri)
        folder = artifact(client, version, FOLDER)
    found = combined_hash(compare(folder, manifest_of(version), FOLDER))
    for expected in (version.tags.get(SHA256_TAG), sha256 or found):
        if found != expected:
            raise UserError(
                f"{uri} has the sha256 {found}, not {expected}: it is another student; run"
                " `zreward adopt`, or correct the URI or the hash"
            )
    return folder


def checked(client: "MlflowClient", version: "ModelVersion", part: str) -> Path:
    """Path of a version's part, after checking that its files are exactly the registered ones.

    Raises:
        UserError: the version has no manifest or no such part, a file is missing, added or
            changed, or one may be a pickle.
    """
    folder = artifact(client, version, part)
    compare(folder, manifest_of(version), part)
    return folder


def check_loaded(folder: Path) -> None:
    """Check the files of a version that MLflow is about to load, wherever it copied them.

    Args:
        folder: the version's files, with ``MLmodel``.

    Raises:
        UserError: no registered version has these files, or the registry is not available.
    """
    model_id = read_yaml(folder / "MLmodel").get("model_id")
    client = connect(create=False)
    with store_errors():
        versions = client.search_model_versions(f"name='{MODEL}'")
    for version in versions:
        if version.source == f"{SCHEME}{model_id}":
            compare(folder, manifest_of(version))
            return
    raise UserError(
        f"{folder} is not a version of {MODEL} in {client.tracking_uri}, so the model is not"
        " loaded: set MLFLOW_TRACKING_URI to the registry that it came from"
    )


def manifest_of(version: "ModelVersion") -> dict[str, Any]:
    """A version's manifest: {"files": {name: sha256}}.

    That of a pointer has ``hub``: the hub id, the commit and the hash of each file it resolves to.

    Raises:
        UserError: the version has none.
    """
    try:
        manifest = parse_json(version.tags.get(MANIFEST_TAG, ""))
        dict(manifest["files"])
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"version {version.version} of {version.name} has no valid tag {MANIFEST_TAG}, so the"
            " model is not loaded: `zreward promote` did not register it; register it again"
        ) from None
    return manifest


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


def artifact(client: "MlflowClient", version: "ModelVersion", name: str) -> Path:
    """Path of a version's file or folder; downloaded to ``.zreward`` from a remote store.

    Raises:
        UserError: the version has no such artifact.
    """
    base = _location(client, version)
    parsed = urlparse(base)
    if parsed.scheme in ("", "file"):
        path = _root(client) / url2pathname(parsed.path) / name
    else:
        path = _download(client, base, name)
    if not path.exists():
        raise UserError(
            f"version {version.version} of {version.name} has no {name or 'files'} in {base}: its"
            " files were removed, or `zreward promote` did not register it; register it again"
        )
    return path


def _root(client: "MlflowClient") -> Path:
    """The folder that relative locations refer to: the root of the database's project."""
    path = database_of(client.tracking_uri)
    return path.parents[1] if path and path.match(str(DATABASE)) else Path.cwd()


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


def _location(client: "MlflowClient", version: "ModelVersion") -> str:
    if version.model_id:
        return str(client.get_logged_model(version.model_id).artifact_location)
    return str(client.get_model_version_download_uri(version.name, version.version))


def _download(client: "MlflowClient", base: str, name: str) -> Path:
    from mlflow.artifacts import download_artifacts

    target = DOWNLOADS / base.rstrip("/").split("/")[-2] / (name or "whole")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=DOWNLOADS) as scratch:
            folder = Path(scratch) / "files"
            folder.mkdir()
            found = download_artifacts(
                artifact_uri=f"{base.rstrip('/')}/{name}",
                dst_path=str(folder),
                tracking_uri=client.tracking_uri,
            )
            os.replace(found, target)
    return target
