"""The commands of docs/serving.md run, and its options and paths are those of the server."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from starlette.routing import Route

from tests.commands.serving import REPOSITORY, png, running_server, tiny_model
from zreward_core.cli import app
from zreward_core.commands.serving.app import scoring_app, server_app
from zreward_core.commands.serving.metrics import ServerMetrics
from zreward_core.models.requests import RequestScorer

TEXT = (REPOSITORY / "docs/serving.md").read_text()
USAGE, REQUESTS = re.findall(r"^```\n(.+?)^```$", TEXT, re.MULTILINE | re.DOTALL)
ADDRESS = "http://127.0.0.1:5001"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running_server(server_app(RequestScorer(tiny_model()), with_pickle=True)) as (found, _):
        yield found


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_requests(address: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.png").write_bytes(png())
    commands = REQUESTS.replace("\\\n", "").splitlines()
    assert len(commands) == 2
    for command, number in zip(commands, (2, 1), strict=True):
        done = subprocess.run(
            ["bash", "-c", command.replace(ADDRESS, address)],
            cwd=tmp_path, capture_output=True, check=True,
        )  # fmt: skip
        results = json.loads(done.stdout)["results"]
        assert [one["error"] for one in results] == [None] * number
        assert set(results[0]["dimensions"]["realism"]) == {"mean", "std", "mass", "probs"}


def test_the_options_and_their_defaults() -> None:
    options = {
        option: parameter
        for parameter in typer.main.get_command(app).commands["serve"].params  # type: ignore[attr-defined]
        for option in parameter.opts
    }
    named = dict(re.findall(r"\[(--[\w-]+)(?: (\S+))?\]", USAGE))
    assert set(named) == {option for option in options if option.startswith("--")}
    for option, value in named.items():
        if value and not value.isupper():
            assert str(options[option].default) == value, option


def test_the_paths() -> None:
    served = scoring_app(RequestScorer(tiny_model()), ServerMetrics(), 256, with_pickle=True)
    routes = {route.path: route.methods for route in served.routes if isinstance(route, Route)}
    rows = re.findall(r"^\| (`(?:GET|POST).+?) \|", TEXT, re.MULTILINE)
    assert len(rows) == 5
    for part in "; ".join(rows).split("; "):
        (method,) = re.findall("GET|POST", part)
        for path in re.findall(r"(/[\w/]*)`", part):
            assert method in routes[path], path
