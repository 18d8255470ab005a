"""Commands for people who rate images: `zreward annotate export`, `push`, `pull`; `zreward gsb`."""

from pathlib import Path
from typing import Annotated

import typer

annotate_app = typer.Typer()
"""Subcommands of the stage annotate."""
gsb_app = typer.Typer(help="Blind comparison by human judges.", no_args_is_help=True)
AddressOption = Annotated[
    str, typer.Option(help="Prefix of a file's name where Label Studio serves it.")
]
LOCAL_FILES = "/data/local-files/?d="


@annotate_app.command("export")
def annotate_export(
    folder: Annotated[Path, typer.Argument(help="Folder to write.")] = Path("annotation_project"),
    annotators: Annotated[int, typer.Option(min=1, help="Number of annotators.")] = 6,
    overlap: Annotated[
        int, typer.Option(min=0, help="Annotators per prompt; 0: by split, from annotate.overlap.")
    ] = 0,
    address: AddressOption = LOCAL_FILES,
    single: Annotated[
        bool, typer.Option("--single", help="One image per task, with hotkeys for its levels.")
    ] = False,
) -> None:
    """Write Label Studio tasks for annotators; without --single, a prompt's images side by side."""
    from zreward_core.commands.people.export import export_annotation

    typer.echo(export_annotation(folder, annotators, overlap, address, single))


UrlOption = Annotated[
    str, typer.Option(envvar="LABEL_STUDIO_URL", help="Address of the Label Studio server.")
]
LABEL_STUDIO = "http://127.0.0.1:8080"
ExportArgument = Annotated[
    Path, typer.Argument(help="Folder of `annotate export` or `gsb export`.")
]


@annotate_app.command("push")
def annotate_push(
    folder: ExportArgument = Path("annotation_project"),
    url: UrlOption = LABEL_STUDIO,
    served: Annotated[
        Path | None,
        typer.Option(help="The folder's absolute path where Label Studio runs, if elsewhere."),
    ] = None,
) -> None:
    """Make or update the folder's projects in Label Studio; LABEL_STUDIO_API_KEY is the token."""
    from zreward_core.commands.people.label_studio_client import LabelStudio
    from zreward_core.commands.people.server import push

    typer.echo("\n".join(push(folder, LabelStudio(url), served)))


@annotate_app.command("pull")
def annotate_pull(
    folder: ExportArgument = Path("annotation_project"),
    url: UrlOption = LABEL_STUDIO,
    output: Annotated[
        Path, typer.Option(help="Folder of the exports, to be named under ingest.sources.")
    ] = Path("data/drops/people"),
) -> None:
    """Write the annotations of these projects as exports; LABEL_STUDIO_API_KEY is the token."""
    from zreward_core.commands.people.label_studio_client import LabelStudio
    from zreward_core.commands.people.server import pull

    typer.echo("\n".join(pull(folder, LabelStudio(url), output)))


@gsb_app.command("export")
def gsb_export(
    folder: Annotated[Path, typer.Argument(help="Folder to write.")] = Path("gsb_project"),
    address: AddressOption = LOCAL_FILES,
) -> None:
    """Write the blind pairs of `evaluate_gsb` as a Label Studio project."""
    from zreward_core.commands.people.gsb_export import export_pairs

    typer.echo(export_pairs(folder, address))


@gsb_app.command("import")
def gsb_import(
    export: Annotated[Path, typer.Argument(help="Raw JSON export of that project.")],
    output: Annotated[Path, typer.Option(help="JSON file to write.")] = Path("reports/gsb.json"),
) -> None:
    """Convert the judgements of the blind pairs to gsb.json."""
    from zreward_core.commands.people.gsb_import import import_judgements

    typer.echo(import_judgements(export, output))
