"""The command line: one command per stage, and further commands."""

import gc
import importlib
import json
import os
import pkgutil
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from zreward_core import __version__, stages
from zreward_core.commands.announcement import announce_if_slow
from zreward_core.commands.people import app as people
from zreward_core.commands.plan import app as planning
from zreward_core.commands.scoring import app as scoring
from zreward_core.config import (
    PARAMS_FILE,
    UserError,
    merged_params,
    require_project,
    writable,
)
from zreward_core.extras import extras_named
from zreward_core.runtime.faults import disk_fault
from zreward_core.runtime.interrupts import resumable
from zreward_core.runtime.tracking import tracked
from zreward_core.runtime.worker import USER_FAULT, owns_run, report_user_error

STAGES = tuple(
    sorted(m.name for m in pkgutil.iter_modules(stages.__path__) if not m.name.startswith("_"))
)
"""The modules of zreward_core.stages: the pipeline (dvc.yaml) and the compared methods."""

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
ParamsOption = Annotated[
    Path | None, typer.Option(help="A YAML file merged over params.yaml.", dir_okay=False)
]


KEPT = "what it has finished is kept"
ANYWHERE = (
    *("init", "score", "rank", "filter", "compare", "benchmark", "serve"),
    *("annotate", *STAGES),
)
"""Commands that need no project, and those that refuse another folder when they read its files."""


def _print_version(given: bool) -> None:
    if given:
        typer.echo(f"zreward {__version__}")
        raise typer.Exit


@app.callback()
def root_folder(
    context: typer.Context,
    root: Annotated[Path, typer.Option(help="Project root; paths are relative to it.")] = Path("."),
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Turn annotators' rubric scores into a reward model and a better generator."""
    if not root.is_dir():
        raise UserError(f"--root {root} is not a folder")
    os.chdir(root)
    if context.invoked_subcommand not in ANYWHERE and "--help" not in sys.argv:
        require_project()
    context.obj = STAGES
    announce_if_slow(context, STAGES)


def _add_stage(name: str) -> None:
    def command(context: typer.Context, params: ParamsOption = None) -> None:
        if context.invoked_subcommand:
            return
        from zreward_core.commands.check_params import check_params
        from zreward_core.commands.repro import stage_lock
        from zreward_core.commands.stage_times import timed
        from zreward_core.runtime.launch import launch

        merged_params(params)  # outside a project nothing is written
        arguments = ["--params", str(params)] if params else []
        # of all processes and machines, one holds the lock and tracks the run
        lock = stage_lock(name) if owns_run() else nullcontext()
        with resumable(name, KEPT), lock, timed(name, params), tracked(name) as run:
            if owns_run():
                check_params(STAGES, params)
            module = _import_stage(name)
            config = module.Config.load(name, params)
            run.start(config, params)
            launch(name, arguments, STAGES, lambda: module.run(config))

    help_text = f"Stage: {_first_line(name)}"
    if name in GROUPS:  # without a subcommand it still runs the stage
        GROUPS[name].callback(invoke_without_command=True, help=help_text)(command)
        app.add_typer(GROUPS[name], name=name, cls=StageGroup)
    else:
        app.command(name=name, help=help_text, cls=StageCommand)(command)


def _first_line(name: str) -> str:
    """What a stage reads and writes: the first line of its docstring, without its name."""
    with (Path(stages.__path__[0]) / f"{name}.py").open(encoding="utf-8") as file:
        return file.readline().strip().strip('"').partition(": ")[2]


class StageHelp:
    """A command whose --help lists what the stage reads and writes, and its params."""

    def format_help(self, context: Any, formatter: Any) -> None:
        """Print the help; the stage is imported for its params."""
        from zreward_core.commands.stage_help import stage_help

        super().format_help(context, formatter)  # type: ignore[misc]
        typer.echo(stage_help(_import_stage(context.info_name)))


class StageCommand(StageHelp, TyperCommand):
    """The command of a stage."""


class StageGroup(StageHelp, TyperGroup):
    """The command of a stage that has subcommands."""


def _import_stage(name: str) -> ModuleType:
    """The stage's module; without garbage collection, the imports take a fifth less time."""
    gc.disable()
    try:
        return importlib.import_module(f"zreward_core.stages.{name}")
    finally:
        gc.freeze()
        gc.enable()


GROUPS = {"annotate": people.annotate_app}
"""Stages with subcommands."""
app.add_typer(people.gsb_app, name="gsb")
app.add_typer(scoring.app)
app.add_typer(planning.app)

for _stage in STAGES:
    _add_stage(_stage)


@app.command()
def rubric() -> None:
    """Write the annotators' guide to the rubric, with exemplars of every level."""
    from zreward_core.commands.rubric_page import write_rubric_page

    page, number = write_rubric_page()
    typer.echo(f"{page.resolve()} ({number or 'no'} exemplars)")


@app.command()
def audit() -> None:
    """Write the audit of the annotators as a page, with the most disputed images."""
    from zreward_core.commands.audit_page import write_audit_page

    typer.echo(write_audit_page().resolve())  # readers may be outside of --root


@app.command()
def viewer() -> None:
    """Write the page of test and pool items again, from the results of `evaluate`."""
    from zreward_core.commands.viewer import write

    typer.echo(write().resolve())


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def repro(context: typer.Context) -> None:
    """Wait until the workspace is free, then run `dvc repro` with the same arguments."""
    from zreward_core.commands.check_params import check_params
    from zreward_core.commands.repro import repro as run_repro

    if PARAMS_FILE.is_file():  # a DVC workspace may have none
        check_params(STAGES)
    with resumable("repro", "finished stages are kept"):
        sys.exit(run_repro(context.args, lambda line: typer.echo(line, err=True)))


ProfileArgument = Annotated[str, typer.Argument(help="demo, or a name of params/.")]


@app.command()
def run(profile: ProfileArgument = "demo") -> None:
    """Run the whole pipeline: stages, promotion, tracking; then print times and results."""
    from zreward_core.commands.run import run_pipeline

    sys.exit(run_pipeline(profile, STAGES, lambda line: typer.echo(line, err=True)))


FOLLOW = "`zreward repro dvc.yaml` tunes the generator with it"
"""What `rollback` and `adopt` leave to be done."""
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def promote(
    force: Annotated[bool, typer.Option(help="Promote even if the gate blocks.")] = False,
    reason: Annotated[str, typer.Option(help="Reason for --force, stored as a tag.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Register the trained student; make it champion if it passes the gate, else exit with 1."""
    from zreward_core.commands.promote import promote

    result = promote(force, reason, STAGES)
    typer.echo(json.dumps(result) if as_json else result["summary"])
    if not (result["passed"] or result["promoted"]):
        sys.exit(1)


@app.command(hidden=True)
def gate(
    folder: Annotated[Path, typer.Argument(help="Folder of the model.")],
    sha256: Annotated[str, typer.Argument(help="Its hash.")],
    dtype: Annotated[str, typer.Option(help="Torch dtype of its weights.")] = "float32",
) -> None:
    """Score the test items with a model, for `zreward promote`."""
    from zreward_core.commands.gate import compute_scores, read_test_set
    from zreward_core.runtime.launch import launch

    def run() -> None:
        compute_scores(folder, sha256, read_test_set(), dtype)

    launch("gate", [f"--dtype={dtype}", str(folder), sha256], STAGES, run)


@app.command()
def rollback(as_json: JsonOption = False) -> None:
    """Move the alias champion back to the previous champion; no stage is run."""
    from zreward_core.commands.promote import rollback

    result = rollback()
    typer.echo(
        json.dumps(result) if as_json else f"champion is version {result['version']}: {FOLLOW}"
    )


@app.command()
def adopt(as_json: JsonOption = False) -> None:
    """Write data/champion.yaml after the alias was moved by hand in MLflow; no stage is run."""
    from zreward_core.commands.promote import adopt

    result = adopt()
    if result["version"] is None and not as_json:
        raise UserError(
            "no version of the student is champion, nothing was changed: run `zreward promote`"
        )
    typer.echo(
        json.dumps(result) if as_json else f"data/champion.yaml: {result['source']}; {FOLLOW}"
    )


@app.command()
def sync() -> None:
    """Tag the MLflow run behind each stage with the md5s of its outs, from dvc.lock."""
    from zreward_core.registry.sync import describe, sync

    typer.echo(describe(list(sync())))


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the project.")] = Path("."),
) -> None:
    """Write a new project that runs the demo; in an existing one add what is missing."""
    from zreward_core.commands.init import described, init_project

    typer.echo("\n".join(described(folder, init_project(folder))))


@app.command()
def ui(
    profile: ProfileArgument = "demo",
    dagster_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of Dagster.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of MLflow.")] = 5000,
) -> None:
    """Start Dagster, MLflow and the reports of a profile; Ctrl-C stops them."""
    from zreward_core.commands.ui import start_ui

    start_ui(profile, dagster_port, mlflow_port)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Verify cache, registry, locks, model folders and YAML files; exit with 1 if one is wrong."""
    from zreward_core.commands.doctor import describe, examine

    findings = [finding._asdict() for finding in examine()]
    typer.echo(json.dumps(findings) if as_json else describe(findings))
    if findings:
        sys.exit(1)


@app.command()
def lineage(
    model: Annotated[str | None, typer.Argument(help="models:/NAME@ALIAS or /VERSION.")] = None,
    row: Annotated[str, typer.Option(help="List the versions that used this annotation.")] = "",
    as_json: JsonOption = False,
) -> None:
    """List the stages and source files behind a model, and whether they are unchanged."""
    from zreward_core.commands.lineage import lineage_of_model, lineage_of_row, lines

    result = lineage_of_row(row, model) if row else lineage_of_model(model)
    typer.echo(json.dumps(result) if as_json else "\n".join(lines(result)))


@app.command()
def claims(as_json: JsonOption = False) -> None:
    """Check the claims that a run's results must support."""
    from zreward_core.commands.claims import claims_of_run

    rows = claims_of_run()
    lines = [f"{'yes' if row['holds'] else 'NO':<4}{row['name']}: {row['detail']}" for row in rows]
    typer.echo(json.dumps(rows) if as_json else "\n".join(lines))


@app.command()
def workspace(profile: Annotated[str, typer.Argument(help="Name of params/NAME.yaml.")]) -> None:
    """Create or update the workspace of a profile and print its folder."""
    from zreward_core.commands.check_params import check_params
    from zreward_core.runtime.launch_settings import launch_file_of, profile_file
    from zreward_core.runtime.workspace import make_workspace

    folder = make_workspace(profile)
    check_params(STAGES, profile_file(profile), launch_file_of(profile))
    typer.echo(folder)


@app.command()
def summary() -> None:
    """Print the results of the last run and list its images."""
    from zreward_core.commands.claims import print_summary

    print_summary()


def main() -> None:
    """Entry point: exit code 2 and a message, without a traceback, for errors of the user.

    These are a UserError, and an OSError of the disk, of permissions or of names (``DISK``).
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # silences hints at missing kernels
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")  # hides a notice on attention backends
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    if not sys.stderr.isatty():  # in a log file, bars of the libraries; ours become lines
        os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        for argument in sys.argv[1:]:
            if writable(argument) != argument:
                raise UserError(
                    f"the argument {writable(argument)} is not UTF-8: correct it, or rename the"
                    " file that it names"
                )
        with extras_named():
            app()
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        reason = disk_fault(error)
        if reason is None:
            raise
        _fail(f"{reason}: free space, correct the permissions or the name, and run it again")


def _fail(message: str) -> None:
    message = writable(message)
    if not report_user_error(message):
        typer.echo(f"error: {message}", err=True)
    sys.exit(USER_FAULT)
