"""Jobs: the whole chain, and the part that a new champion sets off."""

from typing import Any

from dagster import AssetKey, AssetSelection, define_asset_job

from pipelines.graph import Graph, closure


def jobs(graph: Graph) -> list[Any]:
    """`everything`, and `generator` where the graph has a champion."""
    found = [define_asset_job("everything", AssetSelection.all(), description="The whole chain.")]
    if "champion" in graph:
        below = [AssetKey(stage) for stage in closure(graph, ["champion"])]
        found.append(
            define_asset_job(
                "generator",
                AssetSelection.assets(*below),
                description="The champion, the generator tuned on its reward, and the comparison.",
            )
        )
    return found
