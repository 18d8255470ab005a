"""promote, rollback and adopt: who is champion, in MLflow and in data/champion.yaml."""

import hashlib
import logging
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import SafetensorError

from zreward_core.commands import gate
from zreward_core.config import UserError
from zreward_core.registry.champion_file import choice, write_choice
from zreward_core.registry.lineage import capture
from zreward_core.registry.stage_fingerprint import read_lock
from zreward_core.registry.sync import find_run
from zreward_core.registry.tracker import DIRTY_TAG, git_revision
from zreward_core.registry.versions import (
    DEMOTED_TAG,
    champion_of,
    demote,
    past_champions,
    register,
    set_champion,
    stand_in_run,
    tag_version,
    version_of,
)
from zreward_core.schemas import tree_hash, write_json
from zreward_core.store import ALIAS, MODEL, SCHEME, SHA256_TAG, connect, fetch

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

logger = logging.getLogger(__name__)
TRAINED, BASE = Path("data/train_risd/student"), Path("data/base_vlm/student")
IN_USE = Path("data/champion/student")
REPORT = Path("reports/promotion.json")
CODE = Path(__file__).with_name("student_pyfunc.py")
JUDGED_TAG = "gate.judged"
"""What a version's verdict was reached on; the same is not judged twice."""


class Candidate(NamedTuple):
    """A student of the workspace and its version."""

    version: "ModelVersion"
    sha256: str


def promote(force: bool = False, reason: str = "") -> dict[str, Any]:
    """Register the trained student, judge it against the champion, and move the alias if it passes.

    Args:
        force: promote it whatever the gate says.
        reason: why; kept as a tag of the version.

    Returns:
        {"version", "champion_version", "passed", "promoted", "changed", "reason", "difference",
        "low", "high", "margin", "summary"}, which is also written to reports/promotion.json.
        ``promoted``: the trained student is champion; ``changed``: the alias or data/champion.yaml
        changed.

    Raises:
        UserError: nothing is trained, ``--force`` without a reason, or unusable params.
    """
    if force and not reason.strip():
        raise UserError("--force needs --reason TEXT: it is kept with the version")
    if not TRAINED.is_dir():
        raise UserError(f"{TRAINED} not found: run `dvc repro evaluate` first")
    config = gate.Config.load("promote")
    client = connect()
    taken_over = _take_over(client)
    candidate = _registered(client, TRAINED, tree_hash(TRAINED))
    champion = champion_of(client)
    number = candidate.version.version
    if champion is not None and champion.version == number:
        verdict = _known_verdict(candidate.version) or gate.Verdict(True, "it is the champion")
    elif DEMOTED_TAG in candidate.version.tags and not force:
        told = candidate.version.tags[DEMOTED_TAG]
        verdict = gate.Verdict(True, f"{told}; `zreward promote --force` gives it back")
    else:
        verdict = _judged(client, config, candidate, champion)
        if verdict.passed or force:
            set_champion(client, number)
            if force:
                tag_version(client, number, {"gate.forced": reason, "gate.forced_at": _now()})
                verdict = verdict._replace(reason=f"forced: {reason}; {verdict.reason}")
        elif champion is None:
            _crown_base(client)
    standing = champion_of(client)
    assert standing is not None
    moved = champion is None or standing.version != champion.version
    written = _write(client, standing, candidate.sha256)
    result = {
        "version": int(number),
        "champion_version": int(standing.version),
        "passed": verdict.passed,
        "promoted": standing.version == number,
        "changed": moved or written or taken_over,
        "reason": verdict.reason,
        "difference": verdict.difference,
        "low": verdict.low,
        "high": verdict.high,
        "margin": config.margin,
    }
    result["summary"] = describe(result)
    write_json(result, REPORT)
    return result


def describe(result: dict[str, Any]) -> str:
    """One line for a person."""
    verdict = "is champion" if result["promoted"] else "was not promoted"
    standing = "" if result["promoted"] else f"; version {result['champion_version']} stands"
    return f"version {result['version']} {verdict}{standing}: {result['reason']}"


def rollback() -> dict[str, Any]:
    """Give the alias back to the champion before this one.

    Raises:
        UserError: there is none.
    """
    client = connect(create=False)
    _take_over(client)
    champions = past_champions(client)
    current = champion_of(client)
    earlier = [one for one in champions if current is None or one != current.version]
    if current is None or not earlier:
        raise UserError(f"{MODEL} has no earlier champion to go back to: nothing was changed")
    previous = earlier[-1]
    set_champion(client, previous, champions[: len(champions) - champions[::-1].index(previous)])
    demote(client, current.version, f"version {current.version} was rolled back on {_now()}")
    return _answer(client, changed=True)


def adopt() -> dict[str, Any]:
    """Follow the alias as a person left it in MLflow: write data/champion.yaml accordingly.

    Returns:
        {"changed", "version", "source"}; version and source are None where there is no champion.
        ``changed``: another student is to reward the generator. Training one changes no more than
        the words of the file, from ``trained`` to the version that the champion is.
    """
    client = connect()
    moved = _take_over(client)
    return _answer(client, moved)


def _take_over(client: "MlflowClient") -> bool:
    """Record a champion that a person chose in MLflow; whether there was such a change."""
    champion, champions = champion_of(client), past_champions(client)
    if champion is None or champions[-1:] == [champion.version]:
        return False
    if champions:
        told = f"a person moved {ALIAS} from version {champions[-1]} to {champion.version}"
        demote(client, champions[-1], f"{told} (seen {_now()})")
    set_champion(client, champion.version)
    return True


def _answer(client: "MlflowClient", changed: bool) -> dict[str, Any]:
    champion = champion_of(client)
    if champion is None:
        return {"changed": False, "version": None, "source": None}
    trained = tree_hash(TRAINED) if TRAINED.is_dir() else None
    sha256 = _sha256(champion)
    written = _write(client, champion, trained)
    if written and not changed:
        changed = not IN_USE.is_dir() or tree_hash(IN_USE) != sha256
    source = choice(champion.version, sha256, trained)["source"]
    return {"changed": changed, "version": int(champion.version), "source": source}


def _write(client: "MlflowClient", champion: "ModelVersion", trained: str | None) -> bool:
    return write_choice(choice(champion.version, _sha256(champion), trained))


def _sha256(version: "ModelVersion") -> str:
    found = version.tags.get(SHA256_TAG)
    if not found:
        raise UserError(
            f"version {version.version} of {MODEL} has no tag {SHA256_TAG}: it was not registered"
            " by `zreward promote`; move the alias to one that was"
        )
    return found


def _registered(client: "MlflowClient", folder: Path, sha256: str) -> Candidate:
    """The version with a folder's content, which is registered if it is new."""
    found = version_of(client, sha256)
    if found is None:
        with tempfile.TemporaryDirectory() as scratch:
            lineage = Path(scratch) / "lineage"
            stage = capture(folder, lineage)
            run = find_run(client, stage, read_lock()[stage]) if stage else None
            tags = {"source": str(folder), "stage": stage or ""}
            if run is not None:
                names = ("mlflow.source.git.commit", DIRTY_TAG)
                commit, dirty = (run.data.tags.get(name, "") for name in names)
            else:
                revision = git_revision()
                commit, dirty = (revision[0], str(revision[1]).lower()) if revision else ("", "")
            tags |= {"git_revision": commit, "git_dirty": dirty}
            run_id = run.info.run_id if run else stand_in_run(client, f"no run made {folder}")
            found = register(client, folder, CODE, run_id, tags, lineage)
        logger.info("registered %s as version %s of %s", folder, found.version, MODEL)
    return Candidate(found, sha256)


def _crown_base(client: "MlflowClient") -> None:
    """Nothing passed the gate yet: the student's own base, which it was judged against, stands."""
    base = _registered(client, BASE, tree_hash(BASE))
    set_champion(client, base.version.version)


def _judged(
    client: "MlflowClient",
    config: gate.Config,
    candidate: Candidate,
    champion: "ModelVersion | None",
) -> gate.Verdict:
    """The gate's verdict, kept as tags of the version."""
    test = gate.read_test_set()
    rival = _sha256(champion) if champion is not None else tree_hash(BASE)
    read = f"{rival} {test.key} {config.model_dump_json()}"
    key = hashlib.sha256(read.encode()).hexdigest()[:16]
    known = _known_verdict(candidate.version)
    if known is not None and candidate.version.tags.get(JUDGED_TAG) == key:
        return known
    try:
        # What is judged is what was registered, not the folder it came from.
        mine = fetch(f"{SCHEME}{MODEL}/{candidate.version.version}", candidate.sha256)
        theirs = fetch(f"{SCHEME}{MODEL}/{champion.version}", rival) if champion else BASE
        scored = [
            gate.score_items(folder, sha256, test)
            for folder, sha256 in ((mine, candidate.sha256), (theirs, rival))
        ]
        verdict = gate.judge(config, test, *scored)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        told = f"a model could not be loaded or used: {type(error).__name__}: {error}"
        return gate.Verdict(False, told)
    tag_version(
        client,
        candidate.version.version,
        {
            JUDGED_TAG: key,
            "gate.passed": str(verdict.passed).lower(),
            "gate.reason": verdict.reason,
            "gate.difference": verdict.difference,
            "gate.low": verdict.low,
            "gate.high": verdict.high,
            "gate.champion": champion.version if champion is not None else str(BASE),
        },
    )
    client.update_model_version(MODEL, candidate.version.version, verdict.reason)
    return verdict


def _known_verdict(version: "ModelVersion") -> gate.Verdict | None:
    tags = version.tags
    if JUDGED_TAG not in tags:
        return None
    difference, low, high = (float(tags[f"gate.{name}"]) for name in ("difference", "low", "high"))
    passed = tags["gate.passed"] == "true"
    return gate.Verdict(passed, tags["gate.reason"], difference, low, high)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
