"""An asset per stage of dvc.yaml, which runs `zreward repro --single-item STAGE`."""

import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    AssetSpec,
    BetaWarning,
    CodeReferencesMetadataValue,
    Failure,
    LocalFileCodeReference,
    MaterializeResult,
    asset,
)

from pipelines.commands import links_to, run
from pipelines.dvc_state import Changes, DvcBusyError, busy_with, read_status
from pipelines.metadata import describe
from pipelines.versions import (
    PROMOTION,
    inputs_key,
    made_tags,
    parents,
    read_recorded,
    report_inputs,
)
from zreward_core.dvc import RESTORED, Graph, Stage, ancestors, closure, own_inputs, read_lock

KINDS = {"models": "pytorch", "reward": "pytorch", "generator": "pytorch", "annotations": "parquet"}
"""Group to the kind shown beside `dvc`."""
POOL = "gpu"
HIDDEN = "dagster/auto_created_stub_asset"
"""Metadata key of assets that the graph's page leaves out, unless its settings show stub assets."""


def stage_asset(graph: Graph, name: str, root: Path) -> AssetsDefinition:
    """The asset of a stage."""
    stage = graph[name]

    @asset(
        key=AssetKey(name),
        deps=parents(graph, name),
        group_name=stage.group,
        description=stage.description,
        kinds=_kinds(stage),
        metadata=_code_link(root / stage.code if stage.code else root / "dvc.yaml"),
        pool=POOL if stage.gpu else None,
        output_required=False,
    )
    def body(context: AssetExecutionContext) -> Iterator[Any]:
        fail_if_stale_upstream(graph, name, status_when_free(name, root, context.log.info))
        how = run_stage(context, name, root)
        lock = read_lock(root)
        _, event = report_inputs(graph, name, lock, {})
        yield event
        promoted = read_recorded(context.instance, PROMOTION).version is not None
        yield MaterializeResult(
            metadata=describe(root, stage, lock, how),
            tags=made_tags(graph, name, lock, promoted),
        )

    return body


def inputs_asset(graph: Graph, name: str) -> AssetSpec:
    """The external asset for a stage's inputs that no stage produces."""
    listed = "\n".join(f"- `{path}`" for path in own_inputs(graph, name))
    params = ", ".join(f"`{param}`" for param in graph[name].params) or "none"
    return AssetSpec(
        inputs_key(name),
        group_name="inputs",
        description=f"Inputs of {name} that no stage produces.\n\nparams: {params}\n\n{listed}",
        kinds={"git"},
        metadata={HIDDEN: True},
    )


def status_when_free(name: str, root: Path, log: Callable[[str], object]) -> Changes:
    """`dvc status` of a stage and its upstream; waits until the workspace is free and logs why."""
    logged = ""
    while True:
        holder = busy_with(root)
        if not holder:
            try:
                return read_status(root, name)
            except DvcBusyError:
                holder = "a stage that has just started"
        if holder != logged:
            log(f"waiting for {holder}")
            logged = holder
        time.sleep(0.5)


def fail_if_stale_upstream(graph: Graph, name: str, changes: Changes) -> None:
    """Fail if an upstream stage is stale, since this stage would run on outdated inputs.

    Raises:
        Failure: lists the stale stages with DVC's reasons.
    """
    upstream = ancestors(graph, name)
    stale = [stage for stage in closure(graph, changes) if stage in upstream]
    if stale:
        reasons = "; ".join(
            f"{stage} ({', '.join(changes[stage])})" if stage in changes else stage
            for stage in stale
        )
        raise Failure(
            f"{name} cannot run alone because upstream stages are stale: {reasons}. "
            f"Materialize them first, or together with {name}.",
            allow_retries=False,
        )


def run_stage(context: AssetExecutionContext, name: str, root: Path) -> str:
    """Run one stage through DVC.

    Returns:
        How its outs were produced, see ``how_made``.

    Raises:
        Failure: the stage failed.
    """
    code, output = run(
        ["repro", "--single-item", name], root, links_to(context.run.run_id), context.log.info
    )
    if code != 0:
        tail = "\n".join(output.splitlines()[-12:])
        raise Failure(f"stage {name} ended with exit code {code}:\n{tail}")
    return how_made(name, output)


def how_made(name: str, output: str) -> str:
    """How DVC brought a stage up to date, from its output."""
    if f"Running stage '{name}'" in output:
        return "run"
    if f"{RESTORED}: {name}" in output:
        return RESTORED
    return "already up to date, not run"


def _kinds(stage: Stage) -> set[str]:
    return {"dvc", KINDS.get(stage.group, "python")}


def _code_link(path: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BetaWarning)
        reference = LocalFileCodeReference(file_path=str(path), line_number=1, label=path.name)
        references = CodeReferencesMetadataValue(code_references=[reference])
    return {"dagster/code_references": references}
