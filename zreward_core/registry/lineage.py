"""Lineage of a student: stored with its version and compared with the current files."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from zreward_core.config import UserError
from zreward_core.dvc import LOCK, Lock, Md5s, locked_params, md5s, overlap, read_lock
from zreward_core.registry.dvc_hashes import available, file_md5, paths_md5
from zreward_core.schemas import COMPARISONS, ITEMS, OPINIONS, RATINGS, read_json, write_json

logger = logging.getLogger(__name__)
RATINGS_FILE = Path("data/ingest/ratings.parquet")
COMPARISONS_FILE = Path("data/ingest/comparisons.parquet")
OPINIONS_FILE = Path("data/ingest/opinions.parquet")
ITEMS_FILE = Path("data/validate/items.parquet")
AUDIT_FILE = Path("data/validate/audit.json")
SOURCES, ROWS = "sources.json", "rows.parquet"
UNUSED = "unused"
"""Use of an annotation behind no item or pair: its annotator was excluded, or it was dropped."""


def upstream(lock: Lock, path: str) -> list[str]:
    """Stages behind a path, breadth first from the one that produced it."""
    makers = {out: stage for stage, entry in lock.items() for out in md5s(entry, "outs")}
    found: list[str] = []
    queue = [path]
    while queue:
        wanted = queue.pop(0)
        for out, stage in makers.items():
            if overlap(out, wanted) and stage not in found:
                found.append(stage)
                queue += md5s(lock[stage], "deps")
    return found


def capture(student: Path, target: Path) -> str | None:
    """Write a student's lineage into a folder that is stored with its version.

    The folder gets ``dvc.lock`` (the stages behind the student), ``sources.json`` and
    ``rows.parquet`` (the annotations behind it); they are empty if dvc.lock does not match the
    student's files.

    Returns:
        The stage that produced the student, or None if dvc.lock does not match its files.
    """
    lock = read_lock()
    chain = upstream(lock, str(student))
    target.mkdir(parents=True, exist_ok=True)
    if not chain or not _is_current(lock[chain[0]]):
        logger.warning(
            "%s differs from %s: the version is registered without lineage; run `dvc repro` or"
            " `dvc commit` before `zreward promote`",
            student,
            LOCK,
        )
        chain = []
    (target / LOCK.name).write_text(
        yaml.safe_dump({"schema": "2.0", "stages": {stage: lock[stage] for stage in chain}})
    )
    needed = {"ingest", "validate"}
    known = needed <= set(chain) and all(_is_current(lock[stage]) for stage in needed)
    rows = annotation_rows() if known else pd.DataFrame({"row_ref": [], "use": []}, dtype=str)
    rows.to_parquet(target / ROWS, index=False, compression="zstd")
    write_json(source_files(rows), target / SOURCES)
    return chain[0] if chain else None


def annotation_rows() -> pd.DataFrame:
    """row_ref and use (train, validation, test or unused) of every judgement in data/ingest."""
    items = pd.read_parquet(ITEMS_FILE, columns=["item_id", "dimension", "split"])
    assert set(items) <= set(ITEMS.names) and set(RATINGS.names) >= {"item_id", "row_ref"}
    audited = read_json(AUDIT_FILE)["annotators"]
    excluded = {name for name, figures in audited.items() if not figures["included"]}
    columns = ["item_id", "dimension", "annotator_id", "row_ref"]
    ratings = pd.read_parquet(RATINGS_FILE, columns=columns).merge(items, "left")
    ratings.loc[ratings["annotator_id"].isin(excluded), "split"] = None
    tables = [ratings]
    if OPINIONS_FILE.is_file():
        opinions = pd.read_parquet(OPINIONS_FILE, columns=["item_id", "dimension", "row_ref"])
        tables.append(opinions.merge(items, "left"))
    if COMPARISONS_FILE.is_file():
        assert "item_a" in COMPARISONS.names and "row_ref" in OPINIONS.names
        columns = ["item_a", "dimension", "row_ref"]
        compared = pd.read_parquet(COMPARISONS_FILE, columns=columns)
        tables.append(compared.rename(columns={"item_a": "item_id"}).merge(items, "left"))
    rows = pd.concat([table[["row_ref", "split"]] for table in tables if len(table)])
    rows = rows.assign(use=rows["split"].fillna(UNUSED).astype(str))
    return rows[["row_ref", "use"]].sort_values("row_ref", ignore_index=True)


def source_files(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Name, md5 and number of annotations of each source file."""
    files = rows["row_ref"].astype(str).str.partition("#")[0] if len(rows) else pd.Series(dtype=str)
    return [
        {"file": name, "md5": file_md5(Path(name)), "rows": int(count)}
        for name, count in files.value_counts().sort_index().items()
        if Path(str(name)).is_file()
    ]


def walk(folder: Path, student: str) -> dict[str, Any]:
    """Stages and sources behind a version, from the folder that ``capture`` wrote.

    Returns:
        {"stages": [{"stage", "deps", "outs", "params", "matches"}], "sources": [{"file", "md5",
        "rows"}]}, the student's stage first; ``matches``: the content of every dep and out still
        exists in the workspace or in DVC's cache.
    """
    lock = read_lock(folder)
    every: Md5s = {}
    for entry in lock.values():
        every |= md5s(entry, "deps") | md5s(entry, "outs")
    exists = available(every)
    stages = []
    for name in upstream(lock, student):
        deps, outs = md5s(lock[name], "deps"), md5s(lock[name], "outs")
        stages.append(
            {
                "stage": name,
                "deps": deps,
                "outs": outs,
                "params": locked_params(lock[name]),
                "matches": all(exists[path] for path in deps | outs),
            }
        )
    return {"stages": stages, "sources": read_json(folder / SOURCES)}


def use_of_row(folder: Path, row_ref: str) -> str | None:
    """A version's use of an annotation: train, validation, test, unused; None if not ingested."""
    rows = pd.read_parquet(folder / ROWS, filters=[("row_ref", "==", row_ref)])
    return None if rows.empty else str(rows["use"].iloc[0])


def known_rows() -> Iterable[str]:
    """Row references of the currently ingested annotations.

    Raises:
        UserError: `ingest` has not run.
    """
    if not RATINGS_FILE.is_file():
        raise UserError(f"{RATINGS_FILE} not found: run `zreward ingest`")
    return pd.read_parquet(RATINGS_FILE, columns=["row_ref"])["row_ref"]


def _is_current(entry: Mapping[str, Any]) -> bool:
    outs = md5s(entry, "outs")
    return paths_md5(outs) == outs
