"""lineage: from a registered version to its annotations, and from an annotation to versions."""

from collections.abc import Iterator
from typing import Any

from zreward_core.config import UserError
from zreward_core.registry.lineage import known_rows, use_of_row, walk
from zreward_core.registry.versions import all_versions, champion_of
from zreward_core.store import ALIAS, MODEL, SCHEME, checked, connect, find_version, store_errors

KEPT = "artifacts/lineage"


def lineage_of_model(uri: str | None) -> dict[str, Any]:
    """Run, revision, stages and source files behind a version.

    Args:
        uri: URI of the version; None: the champion.

    Returns:
        {"model", "version", "run_id", "git_revision", "stages": [{"stage", "deps", "outs",
        "params", "matches"}], "sources": [{"file", "md5", "rows"}]}.

    Raises:
        UserError: there is no such version.
    """
    client = connect(create=False)
    with store_errors():
        version = find_version(client, uri or f"{SCHEME}{MODEL}@{ALIAS}")
        kept = checked(client, version, KEPT)
    return {
        "model": version.name,
        "version": int(version.version),
        "run_id": version.run_id,
        "git_revision": version.tags.get("git_revision") or None,
        **walk(kept, version.tags.get("source", "")),
    }


def lineage_of_row(row_ref: str, uri: str | None = None) -> dict[str, Any]:
    """Versions that an annotation went into.

    Args:
        row_ref: file and row, as in data/ingest/ratings.parquet.
        uri: URI of the only version to check; None: all.

    Returns:
        {"row_ref", "versions": [{"version", "use", "champion"}]}; use is train, validation, test
        or unused.

    Raises:
        UserError: neither a version nor data/ingest has an annotation with this reference.
    """
    client = connect(create=False)
    with store_errors():
        champion = champion_of(client)
        versions = [find_version(client, uri)] if uri else all_versions(client)
        folders = [checked(client, version, KEPT) for version in versions]
    used = []
    for version, folder in zip(versions, folders, strict=True):
        use = use_of_row(folder, row_ref)
        if use is not None:
            is_champion = champion is not None and champion.version == version.version
            used.append({"version": int(version.version), "use": use, "champion": is_champion})
    if not used and row_ref not in set(known_rows()):
        raise UserError(
            f"no annotation {row_ref!r}: give the row_ref of a row of data/ingest/ratings.parquet"
        )
    return {"row_ref": row_ref, "versions": used}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """Lines of text for either result."""
    if "row_ref" in result:
        yield result["row_ref"]
        for one in result["versions"]:
            yield f"  version {one['version']}: {one['use']}{' (champion)' * one['champion']}"
        if not result["versions"]:
            yield "  used by no version"
        return
    yield (
        f"{result['model']} version {result['version']}, run {result['run_id']}, git"
        f" {result['git_revision'] or 'unknown'}"
    )
    for stage in result["stages"]:
        yield f"  {stage['stage']:<20} {'unchanged' if stage['matches'] else 'CHANGED since'}"
        for path, md5 in stage["outs"].items():
            yield f"    {md5:<36} {path}"
    for source in result["sources"]:
        yield f"  {source['md5']:<36} {source['file']}, {source['rows']} rows"
