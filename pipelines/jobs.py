"""Jobs: the whole pipeline, and the part downstream of the champion."""

from typing import Any

from dagster import AssetKey, AssetSelection, define_asset_job

from zreward_core.dvc import Graph, closure


def jobs(graph: Graph) -> list[Any]:
    """`everything`, and `generator` if the graph has the stage `champion`."""
    found = [define_asset_job("everything", AssetSelection.all(), description="Whole pipeline.")]
    if "champion" in graph:
        downstream = [AssetKey(stage) for stage in closure(graph, ["champion"])]
        found.append(
            define_asset_job(
                "generator",
                AssetSelection.assets(*downstream),
                description="The champion, the generator tuned on its reward, and the comparison.",
            )
        )
    return found
