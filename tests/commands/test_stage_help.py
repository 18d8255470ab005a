"""`zreward STAGE --help`."""

import importlib
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zreward_core.cli import STAGES, app
from zreward_core.commands.stage_help import inputs_of, stage_help
from zreward_core.dvc import overlap, read_graph, read_stages

ROOT = Path(__file__).parents[2]
GRAPH = read_graph(ROOT)


def help_of(stage: str, root: Path) -> str:
    kept = os.getcwd()
    try:
        done = CliRunner().invoke(app, ["--root", str(root), stage, "--help"])
    finally:
        os.chdir(kept)
    assert done.exit_code == 0, done.output
    return done.output


def data_deps(deps: tuple[str, ...]) -> list[str]:
    return [dep for dep in deps if dep.startswith("data/")]


@pytest.mark.parametrize(
    ("stage", "shown"),
    [
        ("annotate", ["export", "data/candidates/items.parquet", "num_annotators = 12"]),
        ("champion", ["data/champion.yaml", "Writes: data/champion", "required"]),
        ("train_opd", ["data/train_gdso/teacher", "Writes: data/train_opd", "group_size = 4"]),
    ],
)
def test_the_help_of_a_stage_lists_files_and_params(
    stage: str, shown: list[str], tmp_path: Path
) -> None:
    for root in (ROOT, tmp_path):  # a project, and a folder that is none
        output = help_of(stage, root)
        for text in [*shown, f"in the section {stage} of params.yaml", "seed = required"]:
            assert text in output, output


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_names_what_it_reads_and_writes(stage: str, tmp_path: Path) -> None:
    module = importlib.import_module(f"zreward_core.stages.{stage}")
    reads, writes = stage_help(module, tmp_path).split("\nParams, ")[0].split("\nWrites: ")
    assert writes.startswith(f"data/{stage}")
    assert reads.startswith("Reads: data/") or stage == "world", reads


@pytest.mark.parametrize("stage", ["champion", "finetune_generator", "label", "train_risd"])
def test_inputs_of_a_module_are_its_deps(stage: str) -> None:
    module = importlib.import_module(f"zreward_core.stages.{stage}")
    assert inputs_of(module) == sorted(data_deps(GRAPH[stage].deps))


@pytest.mark.parametrize("stage", sorted({*STAGES} - {*GRAPH} - {"predict", "trace_faithfulness"}))
def test_inputs_of_a_compared_method_are_deps_of_its_cells(stage: str) -> None:
    """A cell links its deps and nothing else, so a stage that reads more fails there."""
    module = importlib.import_module(f"zreward_core.stages.{stage}")
    deps = read_stages(ROOT / "benchmarks/stages.yaml")[stage]["deps"]
    linked = [f"data/{dep.partition('data/')[2]}" for dep in deps if "data/" in dep]
    for path in inputs_of(module):
        assert any(overlap(path, dep) for dep in linked), (path, linked)
    assert {"data/candidates/images"} < {*inputs_of(module)}
