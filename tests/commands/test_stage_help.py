"""`zreward STAGE --help`."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zreward_core.cli import app

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("stage", "shown"),
    [
        ("annotate", ["export", "data/candidates/items.parquet", "num_annotators = 12"]),
        ("champion", ["data/champion.yaml", "Writes: data/champion", "required"]),
    ],
)
def test_the_help_of_a_stage_lists_files_and_params(stage: str, shown: list[str]) -> None:
    kept = os.getcwd()
    try:
        done = CliRunner().invoke(app, ["--root", str(ROOT), stage, "--help"])
    finally:
        os.chdir(kept)
    assert done.exit_code == 0, done.output
    for text in [*shown, f"in the section {stage} of params.yaml", "seed = required"]:
        assert text in done.output, done.output
