"""The definitions of the project in the current folder: `dagster dev -m pipelines.definitions`."""

from pathlib import Path

from dagster import Definitions, definitions, in_process_executor

from pipelines.checks import CHECKS, check_definition
from pipelines.dvc_assets import inputs_asset, stage_asset
from pipelines.jobs import jobs
from pipelines.promotion import JUDGED, promotion_asset
from pipelines.sensors import champion_moved, dvc_sync
from zreward_core.dvc import read_graph


def build_definitions(root: Path) -> Definitions:
    """Assets, checks, jobs and sensors for a project's dvc.yaml."""
    graph = read_graph(root)
    promotes = {"champion", *JUDGED} <= set(graph)
    names = {*graph, "promotion"} if promotes else set(graph)
    return Definitions(
        assets=[
            *(stage_asset(graph, name, root) for name in graph),
            *([promotion_asset(root)] if promotes else []),
            *(inputs_asset(graph, name) for name in graph),
        ],
        asset_checks=[check_definition(check, root) for check in CHECKS if check.asset in names],
        sensors=[dvc_sync(graph, root), *([champion_moved(graph, root)] if promotes else [])],
        jobs=jobs(graph),
        executor=in_process_executor,  # one stage at a time: DVC locks the workspace
    )


@definitions
def defs() -> Definitions:
    """Entry point for Dagster."""
    return build_definitions(Path.cwd())
