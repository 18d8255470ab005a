"""The asset `promotion`, between `evaluate` and `champion`, which runs `zreward promote`."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    Failure,
    MaterializeResult,
    MetadataValue,
    asset,
)

from pipelines.commands import links_to, run
from pipelines.dvc_state import outs_version
from pipelines.metadata import MLFLOW_UI, MLFLOW_VIEW, link
from pipelines.tables import interval_text, markdown_table, read
from pipelines.versions import (
    CHAMPION,
    CODE_VERSION,
    DATA_VERSION,
    INPUT_POINTER,
    INPUT_VERSION,
    PROMOTION,
    USER_PROVIDED,
    Recorded,
)
from zreward_core.dvc import Lock

RECORD = Path("reports/promotion.json")
JUDGED = ("train_risd", "evaluate")
"""Stages that it reads: the candidate, and its evaluation."""
RECORD_TAG = "zreward/promotion_record"
MODEL = "zreward-student"
"""Name in the registry."""
BLOCKED = 1
"""Exit code of `zreward promote` if the gate blocks."""


def promotion_asset(root: Path) -> AssetsDefinition:
    """The asset; materializes even if the gate blocks, then its check stops downstream assets."""

    @asset(
        key=PROMOTION,
        deps=list(JUDGED),
        group_name="reward",
        description=(
            "Registers the trained student, compares it with the current champion on the test "
            "pairs, and moves the alias `champion` if it passes. Writes data/champion.yaml."
        ),
        kinds={"mlflow"},
    )
    def promotion(context: AssetExecutionContext) -> Iterator[Any]:
        code, output = run(
            ["promote", "--json"], root, links_to(context.run.run_id), context.log.info
        )
        if code not in (0, BLOCKED):
            raise Failure(f"zreward promote ended with exit code {code}:\n{output[-2000:]}")
        yield MaterializeResult(metadata=promotion_metadata(root), tags=promotion_tags(root))

    return promotion


def promotion_tags(root: Path) -> dict[str, str]:
    """Version tags: md5s of data/champion.yaml and of the promotion's record."""
    return {
        DATA_VERSION: hashlib.md5((root / CHAMPION).read_bytes()).hexdigest(),
        USER_PROVIDED: "true",
        RECORD_TAG: hashlib.md5((root / RECORD).read_bytes()).hexdigest(),
    }


def tags_with_inputs(
    root: Path, lock: Lock, recorded: Mapping[AssetKey, Recorded]
) -> dict[str, str]:
    """Version tags, with input versions, of a promotion outside Dagster.

    Its inputs are those of dvc.lock, unless they were made after the promotion.
    """
    tags = promotion_tags(root) | {CODE_VERSION: "outside"}
    judged_at = (root / RECORD).stat().st_mtime_ns
    for name in JUDGED:
        folder = root / "data" / name
        version = recorded[AssetKey(name)].version if AssetKey(name) in recorded else None
        if name in lock and folder.is_dir() and folder.stat().st_mtime_ns <= judged_at:
            version = outs_version(lock[name])
        tags[f"{INPUT_VERSION}/{name}"] = version or "INITIAL"
        tags[f"{INPUT_POINTER}/{name}"] = "NULL"
    return tags


def promotion_metadata(root: Path) -> dict[str, Any]:
    """Results of the gate, and data/champion.yaml."""
    record = read(root / RECORD) or {}
    shown = ("version", "champion_version", "passed", "promoted", "reason")
    rows = [[key.replace("_", " "), record.get(key)] for key in (*shown, "margin")]
    bounds = [record[key] for key in ("difference", "low", "high") if record.get(key) is not None]
    if len(bounds) == 3:
        rows.append(["HPA difference [95 % interval]", interval_text(*bounds, sign="+")])
    metadata: dict[str, Any] = {"gate": MetadataValue.md(markdown_table(["", ""], rows))}
    if len(bounds) == 3:
        metadata["difference_to_opponent"] = MetadataValue.float(round(bounds[0], 4))
    if (server := os.environ.get(MLFLOW_UI)) and "version" in record:
        address = f"{server}/#/models/{MODEL}/versions/{record['version']}{MLFLOW_VIEW}"
        metadata["MLflow model"] = link(f"version {record['version']}", address)
    champion = (root / CHAMPION).read_text(encoding="utf-8")
    return metadata | {"champion.yaml": MetadataValue.md(f"```yaml\n{champion}\n```")}
