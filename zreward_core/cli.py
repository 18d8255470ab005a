"""The command line: one word a stage, `score`, `summary` and `workspace`."""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from zreward_core.config import UserError, read_params

STAGES = (
    "world",
    "base_vlm",
    "base_generator",
    "candidates",
    "annotate",
    "ingest",
    "validate",
    "train_gdso",
    "label",
    "train_risd",
    "evaluate",
    "champion",
    "finetune_generator",
    "evaluate_gsb",
)
"""The stages in the order of dvc.yaml; each is a module of zreward_core.stages."""

LOOK_NEXT = {
    "world/contact_sheet.png": "the world and its defects",
    "evaluate/examples.png": "pictures with distributions and traces",
    "evaluate/hpa.png": "every model by dimension, with intervals",
    "evaluate/reliability.png": "whether the scores mean what they say",
    "finetune_generator/contact_sheet.png": "samples before and after tuning",
    "evaluate_gsb/contact_sheet.png": "the pairs that were judged blind",
}
"""Pictures a person should look at after a run."""

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
ParamsOption = Annotated[
    Path | None, typer.Option(help="A YAML file laid over params.yaml.", dir_okay=False)
]


@app.callback()
def root_folder(
    root: Annotated[Path, typer.Option(help="Project root; paths are relative to it.")] = Path("."),
) -> None:
    """Turn annotators' rubric scores into a reward model and a better generator."""
    if not root.is_dir():
        raise UserError(f"--root {root} is not a folder")
    os.chdir(root)


def _add_stage(name: str) -> None:
    def command(params: ParamsOption = None) -> None:
        module = importlib.import_module(f"zreward_core.stages.{name}")
        module.run(module.Config.load(name, params))

    help_text = f"Run the stage {name}."
    app.command(name=name, help=help_text)(command)


for _stage in STAGES:
    _add_stage(_stage)


@app.command()
def score(
    images: Annotated[list[Path], typer.Argument(help="Pictures to score.")],
    model: Annotated[str, typer.Option(help="Folder of a reward model.")],
    prompt: Annotated[str, typer.Option(help="The prompt the pictures were made for.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Score pictures for a prompt."""
    from zreward_core import RewardModel
    from zreward_core.images import decode

    pixels = []
    for path in images:
        if not path.is_file():
            raise UserError(f"{path} not found")
        pixels.append(decode(path.read_bytes(), str(path)))
    rows = RewardModel.from_pretrained(model).score([prompt] * len(pixels), pixels).rows()
    if as_json:
        listed = [
            {"image": str(path), "dimensions": row} for path, row in zip(images, rows, strict=True)
        ]
        typer.echo(json.dumps(listed))
        return
    for path, row in zip(images, rows, strict=True):
        typer.echo(str(path))
        for name, value in row.items():
            typer.echo(f"  {name:<14} {value['mean']:.2f} ± {value['std']:.2f}")


@app.command()
def workspace(profile: Annotated[str, typer.Argument(help="A file params/NAME.yaml.")]) -> None:
    """Make or refresh the workspace of a profile and print its folder."""
    from zreward_core.runtime.workspace import make_workspace

    typer.echo(make_workspace(profile))


@app.command()
def summary() -> None:
    """Print the results of the last run and where to look next."""
    from rich.console import Console

    from zreward_core.evaluation.claims import judge_claims
    from zreward_core.evaluation.summary import summary_table
    from zreward_core.schemas import read_json

    metrics = read_json(Path("data/evaluate/metrics.json"))
    tuning = read_json(Path("data/finetune_generator/metrics.json"))
    gsb = read_json(Path("data/evaluate_gsb/gsb.json"))
    console = Console()
    claims = judge_claims(metrics, tuning, gsb) if read_params().get("claims", True) else []
    console.print(summary_table(metrics, gsb, claims))
    console.print("Where to look next, in", Path("data").resolve())
    for name, what in LOOK_NEXT.items():
        console.print(f"  {name:<44} {what}", highlight=False)


def main() -> None:
    """Entry point: a user's fault ends with exit code 2 and one message, no traceback."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # no notes on missing kernels
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    try:
        app()
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
