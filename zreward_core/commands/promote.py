"""promote, rollback and adopt: set the champion in MLflow and in data/champion.yaml."""

import hashlib
import logging
import math
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import SafetensorError

from zreward_core.commands import gate
from zreward_core.config import UserError
from zreward_core.dvc import read_lock
from zreward_core.manifest import hub_snapshot
from zreward_core.registry.champion_file import choice, write_choice
from zreward_core.registry.lineage import capture
from zreward_core.registry.sync import find_run
from zreward_core.registry.tracker import DIRTY_TAG, git_revision
from zreward_core.registry.versions import (
    DEMOTED_TAG,
    all_versions,
    champion_of,
    demote,
    past_champions,
    register,
    registry,
    set_champion,
    stand_in_run,
    tag_version,
    version_of,
)
from zreward_core.runtime.outputs import require_finite_weights
from zreward_core.schemas import NotFinite, tree_hash, write_json
from zreward_core.store import ALIAS, MODEL, SCHEME, SHA256_TAG, fetch

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

logger = logging.getLogger(__name__)
TRAINED, BASE = Path("data/train_risd/student"), Path("data/base_vlm/student")
IN_USE = Path("data/champion/student")
REPORT = Path("reports/promotion.json")
CODE = Path(__file__).with_name("student_pyfunc.py")
JUDGED_TAG = "gate.judged"
"""Tag with a hash of the gate's inputs; the same inputs are not evaluated twice."""
PASSED = {"true": True, "false": False}


class Candidate(NamedTuple):
    """The registered version of a student of the workspace."""

    version: "ModelVersion"
    sha256: str


def promote(force: bool = False, reason: str = "", stages: Sequence[str] = ()) -> dict[str, Any]:
    """Register the trained student, compare it with the champion, move the alias if it passes.

    Args:
        force: promote it even if the gate blocks it.
        reason: reason for ``force``, stored as a tag of the version.
        stages: their names, see ``gate.score_items``.

    Returns:
        {"version", "champion_version", "passed", "promoted", "changed", "reason", "difference",
        "low", "high", "margin", "summary"}, also written to reports/promotion.json.
        ``promoted``: the trained student is champion; ``changed``: the alias or data/champion.yaml
        changed.

    Raises:
        UserError: there is no trained student, ``force`` without a reason, invalid params, or
            the store fails.
        NotFinite: a weight or a score of the student is NaN or infinite; ``force`` does not help.
    """
    if force and not reason.strip():
        raise UserError("--force needs --reason TEXT, which is stored with the version")
    if not TRAINED.is_dir():
        raise UserError(f"{TRAINED} not found: run `dvc repro evaluate` first")
    config = gate.Config.load("promote")
    with registry() as client:
        return _promote(client, config, force, reason, stages)


def _promote(
    client: "MlflowClient", config: gate.Config, force: bool, reason: str, stages: Sequence[str]
) -> dict[str, Any]:
    """The result of ``promote``, on a store that no other process changes."""
    taken_over = _take_over(client)
    candidate = _registered(client, TRAINED, tree_hash(TRAINED))
    champion = champion_of(client)
    number = candidate.version.version
    if champion is not None and champion.version == number:
        verdict = known_verdict(candidate.version) or gate.Verdict(True, "it is the champion")
    elif DEMOTED_TAG in candidate.version.tags and not force:
        demoted = candidate.version.tags[DEMOTED_TAG]
        verdict = gate.Verdict(True, f"{demoted}; `zreward promote --force` promotes it again")
    else:
        verdict = _judged(client, config, candidate, champion, stages)
        if verdict.passed or force:
            set_champion(client, number)
            if force:
                tag_version(client, number, {"gate.forced": reason, "gate.forced_at": _now()})
                verdict = verdict._replace(reason=f"forced: {reason}; {verdict.reason}")
        elif champion is None:
            _promote_base(client)
    current = champion_of(client)
    assert current is not None
    moved = champion is None or current.version != champion.version
    written = _write(current, candidate.sha256)
    result = {
        "version": int(number),
        "champion_version": int(current.version),
        "passed": verdict.passed,
        "promoted": current.version == number,
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
    """The result in one line."""
    if result["promoted"]:
        verdict = "is champion"
    else:
        verdict = f"was not promoted; version {result['champion_version']} remains champion"
    return f"version {result['version']} {verdict}: {result['reason']}"


def rollback() -> dict[str, Any]:
    """Move the alias back to the previous champion.

    Raises:
        UserError: there is none, or its files differ from the registered ones.
    """
    with registry(create=False) as client:
        _take_over(client)
        champions, current = past_champions(client), champion_of(client)
        kept = _numbers(client)
        now = current and str(current.version)
        earlier = [one for one in champions if one in kept and one != now]
        if current is None or not earlier:
            raise UserError(f"{MODEL} has no earlier champion: nothing was changed")
        previous = earlier[-1]
        fetch(f"{SCHEME}{MODEL}/{previous}")  # before the alias moves to it
        before = champions[: len(champions) - champions[::-1].index(previous)]
        set_champion(client, previous, before)
        demote(client, current.version, f"version {current.version} was rolled back on {_now()}")
        return _answer(client, changed=True)


def adopt() -> dict[str, Any]:
    """Write data/champion.yaml after the alias was moved by hand in MLflow.

    Returns:
        {"changed", "version", "source"}; version and source are None if there is no champion.
        ``changed``: the generator's reward is now a different student. If a new student was
        trained, only the form of the file changes, from ``trained`` to the champion's version.

    Raises:
        UserError: there is no store, or the champion was not registered by `zreward promote`.
    """
    with registry(create=False) as client:
        moved = _take_over(client)
        return _answer(client, moved)


def _take_over(client: "MlflowClient") -> bool:
    """Record a champion that was set by hand in MLflow; returns whether there was one.

    A previous champion that was deleted in MLflow cannot be demoted, and need not be.
    """
    champion, champions = champion_of(client), past_champions(client)
    if champion is None or champions[-1:] == [str(champion.version)]:
        return False
    if champions and champions[-1] in _numbers(client):
        moved = f"{ALIAS} was moved by hand from version {champions[-1]} to {champion.version}"
        demote(client, champions[-1], f"{moved} (seen {_now()})")
    set_champion(client, champion.version)
    return True


def _numbers(client: "MlflowClient") -> set[str]:
    """The versions that exist; others of the history were deleted in MLflow."""
    return {str(one.version) for one in all_versions(client)}


def _answer(client: "MlflowClient", changed: bool) -> dict[str, Any]:
    champion = champion_of(client)
    if champion is None:
        return {"changed": False, "version": None, "source": None}
    trained = tree_hash(TRAINED) if TRAINED.is_dir() else None
    sha256 = _sha256(champion)
    written = _write(champion, trained)
    if written and not changed:
        changed = not IN_USE.is_dir() or tree_hash(IN_USE) != sha256
    source = choice(champion.version, sha256, trained)["source"]
    return {"changed": changed, "version": int(champion.version), "source": source}


def _write(champion: "ModelVersion", trained: str | None) -> bool:
    return write_choice(choice(champion.version, _sha256(champion), trained))


def _sha256(version: "ModelVersion") -> str:
    found = version.tags.get(SHA256_TAG)
    if not found:
        raise UserError(
            f"version {version.version} of {MODEL} has no tag {SHA256_TAG}: it was not registered"
            " by `zreward promote`; move the alias to a version that was"
        )
    return found


def _registered(client: "MlflowClient", folder: Path, sha256: str) -> Candidate:
    """The version with a folder's content; registers it if there is none."""
    found = version_of(client, sha256)
    if found is None:
        hub_snapshot(folder)  # refuses a pointer to a branch before anything is created
        with suppress(SafetensorError):  # the gate reports a file that cannot be read
            require_finite_weights(folder, str(folder))
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
            run_id = run.info.run_id if run else stand_in_run(client, f"{folder} has no run")
            found = register(client, folder, CODE, run_id, tags, lineage)
        logger.info("registered %s as version %s of %s", folder, found.version, MODEL)
    return Candidate(found, sha256)


def _promote_base(client: "MlflowClient") -> None:
    """Make the student's own base champion: the reference until a student passes the gate."""
    base = _registered(client, BASE, tree_hash(BASE))
    set_champion(client, base.version.version)


def _judged(
    client: "MlflowClient",
    config: gate.Config,
    candidate: Candidate,
    champion: "ModelVersion | None",
    stages: Sequence[str],
) -> gate.Verdict:
    """The gate's verdict, stored as tags of the version."""
    test = gate.read_test_set()
    rival = _sha256(champion) if champion is not None else tree_hash(BASE)
    inputs = f"{rival} {test.key} {config.model_dump_json()}"
    key = hashlib.sha256(inputs.encode()).hexdigest()[:16]
    known = known_verdict(candidate.version)
    if known is not None and candidate.version.tags.get(JUDGED_TAG) == key:
        return known
    try:
        # Judge the registered files, not the folder they were copied from.
        mine = fetch(f"{SCHEME}{MODEL}/{candidate.version.version}", candidate.sha256)
        scores = gate.score_items(mine, candidate.sha256, test, config.dtype, stages)
        theirs = fetch(f"{SCHEME}{MODEL}/{champion.version}", rival) if champion else BASE
        try:
            other_scores = gate.score_items(theirs, rival, test, config.dtype, stages)
        except NotFinite as error:
            if champion is None:
                raise
            reason = f"the champion is not usable ({error}): replace it by --force --reason TEXT"
            return gate.Verdict(False, reason)
        opponent = f"champion (version {champion.version})" if champion else f"its base ({BASE})"
        verdict = gate.judge(config, test, scores, other_scores, opponent)
    except NotFinite:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = f"a model could not be loaded or run: {type(error).__name__}: {error}"
        return gate.Verdict(False, reason)
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


def known_verdict(version: "ModelVersion") -> gate.Verdict | None:
    """The verdict in a version's tags; None if it was not judged, or a tag is not readable."""
    tags = version.tags
    try:
        figures = [float(tags[f"gate.{name}"]) for name in ("difference", "low", "high")]
        passed = PASSED[tags["gate.passed"]]
        reason = tags["gate.reason"]
    except (KeyError, ValueError):
        return None
    if JUDGED_TAG not in tags or not all(map(math.isfinite, figures)):
        return None
    return gate.Verdict(passed, reason, *figures)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
