"""The command `zreward plan`."""

import json
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def plan(
    profile: Annotated[
        str | None, typer.Option(help="Name of params/NAME.yaml; params.yaml if not given.")
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="Number of GPUs.")] = 8,
    memory: Annotated[float, typer.Option(min=1, help="Memory of a GPU in GB.")] = 80,
    host_memory: Annotated[
        float | None, typer.Option(min=1, help="Memory of a machine in GB, GPUs excluded.")
    ] = None,
    tflops: Annotated[
        float, typer.Option(min=0.01, help="Sustained TFLOP/s of a GPU in bfloat16.")
    ] = 300,
    bandwidth: Annotated[
        float, typer.Option(min=0.01, help="Sustained TB/s of a GPU's memory.")
    ] = 2,
    trace_tokens: Annotated[int, typer.Option(min=1, help="Mean tokens of a trace.")] = 750,
    stage: Annotated[
        list[str] | None,
        typer.Option(help="Plan this stage, such as train_opd, in place of the pipeline's."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List memory, tokens, disk and hours of each stage with real models; nothing is downloaded."""
    from zreward_core.commands.plan import run as planning
    from zreward_core.commands.plan.rows import Machine

    machine = Machine(
        *(gpus, memory * 1e9, tflops * 1e12, bandwidth * 1e12, trace_tokens),
        host_memory=None if host_memory is None else host_memory * 1e9,
    )
    made = planning.make_plan(
        profile, machine, lambda name: typer.echo(name, err=True), stage or ()
    )
    shown = json.dumps(planning.record(made)) if as_json else planning.table(made)
    typer.echo(shown)
