"""Dependencies of an installation without extras, and of each extra; version and citation."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import zreward_core
from zreward_core.config import UserError
from zreward_core.dvc import program
from zreward_core.extras import EXTRAS, extras_named

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WITHOUT_EXTRAS = f"""
import sys
for module in {[module for modules in EXTRAS.values() for module in modules]}:
    sys.modules[module] = None  # its import raises ModuleNotFoundError
"""


def python(code: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS + code, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_extras_list_the_modules_of_pyproject() -> None:
    names = {
        extra: {requirement.partition(">")[0].partition("[")[0] for requirement in requirements}
        for extra, requirements in PROJECT["optional-dependencies"].items()
    }
    for extra, modules in EXTRAS.items():
        assert set(modules) == {name.replace("-", "_") for name in names[extra] - {"zreward"}}


def test_scoring_and_serving_need_no_extra() -> None:
    done = python(
        "import importlib, pkgutil\n"
        "from zreward_core import models\n"
        "for module in pkgutil.iter_modules(models.__path__, 'zreward_core.models.'):\n"
        "    importlib.import_module(module.name)\n"
        "import zreward_core.commands.score, zreward_core.commands.serving.serve\n"
        "import zreward_core.commands.serving.app, zreward_core.commands.init\n"
        "from zreward_core.commands import scoring\n"
        "for module in pkgutil.iter_modules(scoring.__path__, 'zreward_core.commands.scoring.'):\n"
        "    importlib.import_module(module.name)\n"
    )
    assert done.returncode == 0, done.stderr


NEED_EXTRAS = {
    "a stage": ["ingest"],
    "a stage that trains": ["train_risd"],
    "repro": ["repro"],
    "run": ["run", "smoke"],
    "workspace": ["workspace", "smoke"],
    "promote": ["promote"],
    "doctor": ["doctor"],
    "ui": ["ui"],
    "a registered version": ["serve", "models:/zreward-student@champion"],
}


@pytest.mark.parametrize("case", NEED_EXTRAS)
def test_a_command_that_lacks_its_extra_names_it(case: str, tmp_path: Path) -> None:
    (tmp_path / "params").mkdir()
    for name in ("params.yaml", "params/smoke.yaml", "dvc.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    code = f"sys.path.insert(0, {str(ROOT)!r})\nfrom zreward_core.cli import main\nmain()"
    done = python(code, *NEED_EXTRAS[case], cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: this needs ") and done.stderr.count("\n") == 1
    assert "pip install 'zreward[pipeline]'" in done.stderr


def test_a_missing_program_of_an_extra_is_named_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UserError, match=r"this needs dvc.*zreward\[pipeline\]"), extras_named():
        program("dvc")
    with pytest.raises(ModuleNotFoundError), extras_named():
        program("nope")


def test_another_missing_module_is_not_blamed_on_the_user() -> None:
    done = python("from zreward_core.extras import extras_named\nwith extras_named(): import nope")
    assert done.returncode == 1 and "No module named 'nope'" in done.stderr


def test_the_docker_context_has_what_the_image_copies() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY ")]
    sources = {source for copy in copies for source in copy if not copy[0].startswith("--from")}
    sent = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    included = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    needed = {"zreward_core", "constraints.txt", *included["targets"]["wheel"]["force-include"]}
    for path in needed:
        assert any(f"{path}/".startswith(f"{source}/") for source in sources), path
        assert any(f"{path}/".startswith(f"{one}/") for one in sent), path
    assert all((ROOT / source).exists() for source in sources)


def test_version() -> None:
    done = python("from zreward_core.cli import main\nmain()", "--version")
    assert done.stdout == f"zreward {zreward_core.__version__}\n"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == zreward_core.__version__
    assert citation["license"] == PROJECT["license"]


def test_completion_offers_the_commands() -> None:
    variables = "import os; os.environ.update(_ZREWARD_COMPLETE='complete_bash', "
    variables += "COMP_WORDS='zreward se', COMP_CWORD='1')\n"
    main = "sys.argv = ['zreward']\nfrom zreward_core.cli import main\nmain()"
    assert python(variables + main).stdout.split() == ["serve"]
