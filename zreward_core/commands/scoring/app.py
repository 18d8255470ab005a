"""Commands that use a reward model, in the command line. No heavy imports."""

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from zreward_core.config import UserError, writable

app = typer.Typer()
"""Its commands are those of `zreward`; the context's object has the names of the stages."""


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


ScoresArgument = Annotated[Path, typer.Argument(help="File of `zreward score`.")]
ByOption = Annotated[str, typer.Option(help="overall, or a dimension.")]
BoundOption = Annotated[
    float | None,
    typer.Option(
        "--lower-bound", min=0, callback=_finite, help="Use mean - K std instead of the mean."
    ),
]


@app.command()
def score(
    context: typer.Context,
    sources: Annotated[
        list[Path],
        typer.Argument(help="Images; or one table, folder, image shards or WebDataset archives."),
    ],
    model: Annotated[
        str | None, typer.Option(help="Folder of a reward model, models:/NAME@ALIAS, or hub id.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="The prompt of all images.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Parquet file to write; a killed run is resumed.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the table's paths, or of shards.")
    ] = None,
    image_column: Annotated[str | None, typer.Option(help="Column of paths or bytes.")] = None,
    prompt_column: Annotated[str | None, typer.Option(help="Column of prompts.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a forward pass.")] = 64,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list (without --output).")
    ] = False,
) -> None:
    """Score images: print the scores of a few, write those of many to --output.

    Without --output it exits with 2 if an image cannot be read, after scoring the others. With it,
    such an image has a reason in the column error.
    """
    from zreward_core.commands.scoring.options import require_options

    model = require_options(sources, model, prompt, output, prompt_column)
    if output is None:
        from zreward_core.commands.score import score_files, shown

        results = score_files(sources, model, str(prompt), dtype, device)
        typer.echo(json.dumps(results) if as_json else "\n".join(shown(results)))
        faults = [result["error"] for result in results if "error" in result]
        if faults:
            raise UserError("\n".join(faults))
        return
    from zreward_core.runtime.interrupts import resumable
    from zreward_core.runtime.launch import launch

    options = {
        **{"--model": model, "--prompt": prompt, "--output": output, "--images": images},
        **{"--image-column": image_column, "--prompt-column": prompt_column},
        **{"--device": device, "--dtype": dtype, "--batch-size": batch_size},
    }
    given = [f"{name}={value}" for name, value in options.items() if value is not None]
    arguments = [*given, "--", *(str(path) for path in sources)]

    def run() -> None:
        from zreward_core.commands.scoring.rows import Columns
        from zreward_core.commands.scoring.run import score_source

        columns = Columns(image_column, prompt_column, prompt)
        result = score_source(sources, model, output, columns, images, device, dtype, batch_size)
        if result is not None:
            typer.echo("\n".join(result.lines()))

    with resumable("score", f"finished parts are kept in {writable(str(output))}.parts"):
        launch("score", arguments, context.obj, run)


@app.command()
def rank(
    scores: ScoresArgument,
    output: Annotated[Path, typer.Option(help="Parquet file with the best rows, and their rank.")],
    top: Annotated[int, typer.Option(min=1, help="Images to keep of each prompt.")] = 1,
    by: ByOption = "overall",
    lower_bound: BoundOption = None,
) -> None:
    """Keep the best images of each prompt (best of n)."""
    from zreward_core.commands.scoring.selection import rank_scores

    typer.echo("\n".join(rank_scores(scores, output, top, by, lower_bound)))


@app.command("filter")
def filter_scores(
    scores: ScoresArgument,
    output: Annotated[Path, typer.Option(help="Parquet file with the rows that are kept.")],
    threshold: Annotated[
        float | None, typer.Option(callback=_finite, help="Keep rows with at least this value.")
    ] = None,
    quantile: Annotated[
        float | None, typer.Option(min=0, max=1, help="Drop this share of the rows, the lowest.")
    ] = None,
    dropped: Annotated[
        Path | None, typer.Option(help="List of dropped rows; OUTPUT.dropped.parquet by default.")
    ] = None,
    by: ByOption = "overall",
    lower_bound: BoundOption = None,
) -> None:
    """Keep the rows above a threshold or quantile, and list the others with the reason."""
    from zreward_core.commands.scoring.selection import filter_scores

    lines = filter_scores(scores, output, threshold, quantile, dropped, by, lower_bound)
    typer.echo("\n".join(lines))


@app.command()
def compare(
    sources: Annotated[
        list[Path], typer.Argument(help="Two or more files of `zreward score`, or folders.")
    ],
    output: Annotated[Path, typer.Option(help="HTML page to write.")] = Path("comparison.html"),
    model: Annotated[str | None, typer.Option(help="Reward model that scores the folders.")] = None,
    examples: Annotated[int, typer.Option(min=0, help="Best and worst prompts to show.")] = 6,
) -> None:
    """Compare generators or checkpoints on the same prompts: differences, win rates, examples."""
    from zreward_core.commands.scoring.compare import compare_sources

    typer.echo("\n".join(compare_sources(sources, output, model, examples)))


@app.command()
def benchmark(
    name: Annotated[str, typer.Argument(help="The set; docs/benchmarks.md lists them.")],
    folder: Annotated[Path, typer.Argument(help="Its files, as published.")],
    model: Annotated[
        str | None, typer.Option(help="Folder of a reward model, models:/NAME@ALIAS, or hub id.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="A .json or .parquet file for the result of each pair.")
    ] = None,
) -> None:
    """Compare a model with people on a public set, under each published rule for ties and order."""
    from zreward_core.commands.benchmark.run import run_benchmark

    typer.echo("\n".join(run_benchmark(name, folder, model, output).lines()))


@app.command()
def serve(
    model: Annotated[
        str, typer.Argument(help="Folder of a reward model, models:/NAME@ALIAS, or hub id.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5001,
    token: Annotated[
        str | None,
        typer.Option(envvar="ZREWARD_TOKEN", help="Token that requests must have."),
    ] = None,
    pickle: Annotated[
        bool, typer.Option("--pickle", help="Answer verl-omni and flow_grpo, which send pickles.")
    ] = False,
    max_waiting: Annotated[
        int, typer.Option(min=256, help="Images that may wait; more are answered with 429.")
    ] = 2048,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a forward pass.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
) -> None:
    """Serve a model over HTTP: JSON, forms and the protocols of RL trainers; /docs has a form."""
    from zreward_core.commands.serving.serve import serve

    serve(
        model,
        host,
        port,
        token=token,
        with_pickle=pickle,
        max_waiting=max_waiting,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
    )
