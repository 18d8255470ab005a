"""Registration of students whose cards point to a repository of the hub."""

import json
import shutil
from pathlib import Path

import pytest

from tests.commands.promotion_root import BASE, finished_root, root, spoil
from tests.registry.stores import empty_store
from zreward_core.commands.promote import CODE
from zreward_core.config import UserError
from zreward_core.manifest import manifest_of
from zreward_core.registry.versions import all_versions, register, stand_in_run
from zreward_core.schemas import file_hash
from zreward_core.store import MODEL, connect, fetch

__all__ = ["empty_store", "finished_root", "root"]  # fixtures
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def make_pointer(revision: str) -> None:
    """Move the base into a local cache of the hub, and leave a pointer to it."""
    snapshot = Path("hub/models--someone--base/snapshots") / revision
    shutil.copytree(BASE, snapshot)
    card = json.loads((BASE / "zreward.json").read_text())
    shutil.rmtree(BASE)
    BASE.mkdir()
    (snapshot / "zreward.json").unlink()
    card |= {"hub_id": "someone/base", "revision": revision, "label_ids": None}
    (BASE / "zreward.json").write_text(json.dumps(card))
    Path("lineage").mkdir()


@pytest.fixture
def hub(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(root / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return root / "hub/models--someone--base/snapshots"


def test_a_hub_pointer_is_registered_by_commit_and_file_hashes(hub: Path) -> None:
    make_pointer(COMMIT)
    client = connect()
    version = register(client, BASE, CODE, stand_in_run(client, "test"), {}, Path("lineage"))
    uri = f"models:/{MODEL}/{version.version}"
    manifest = manifest_of(version)
    assert (manifest["hub"]["hub_id"], manifest["hub"]["revision"]) == ("someone/base", COMMIT)
    assert manifest["hub"]["files"]["model.safetensors"] == file_hash(
        hub / COMMIT / "model.safetensors"
    )
    assert fetch(uri).is_dir()
    spoil(hub / COMMIT, 7.0)
    with pytest.raises(UserError, match=r"someone/base at .*model.safetensors.* differ"):
        fetch(uri)
    shutil.rmtree(hub)
    with pytest.raises(UserError, match="is not on this machine"):
        fetch(uri)


def test_a_pointer_to_a_branch_is_not_registered(hub: Path) -> None:
    make_pointer("main")
    client = connect()
    with pytest.raises(UserError, match=r"'main', which is not a commit"):
        register(client, BASE, CODE, stand_in_run(client, "test"), {}, Path("lineage"))
    assert not all_versions(client)
