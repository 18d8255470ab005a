"""DVC's own commands in a repository, as docs/dagster.md has them."""

import json
import re
import subprocess
from pathlib import Path

import yaml

from tests.pipelines import tiny

DOCS = tiny.PROJECT / "docs/dagster.md"
RESULTS = """
import json, pathlib, yaml
from PIL import Image
folder = pathlib.Path("data/results")
folder.mkdir(exist_ok=True)
left = yaml.safe_load(open("params.yaml"))["first"]["left"]
(folder / "summary.json").write_text(json.dumps({"student": {"hpa": left / 10}}))
Image.new("RGB", (8, 8)).save(folder / "hpa.png")
"""


def add_results(root: Path) -> None:
    """A stage with metrics and a plot, declared as those of the project."""
    (root / "code/results.py").write_text(RESULTS)
    graph = yaml.safe_load((root / "dvc.yaml").read_text())
    graph["stages"]["results"] = {
        "cmd": "python code/results.py", "deps": ["code/results.py", "data/last.txt"],
        "params": ["first.left"], "outs": ["data/results"],
    }  # fmt: skip
    graph["metrics"], graph["plots"] = ["data/results/summary.json"], ["data/results/hpa.png"]
    (root / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))


def recipe() -> str:
    """The commands that make a workspace a git repository, without the change of the folder."""
    (block,) = re.findall(r"```\n(cd [^`]+git init [^`]+)```", DOCS.read_text())
    return "git config --global user.name a; git config --global user.email a@b.c\n" + "".join(
        line for line in block.splitlines(True) if not line.startswith("cd ")
    )


def test_metrics_plots_and_experiments_of_a_workspace(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    root = tiny.make(tmp_path / "project")
    add_results(root)
    tiny.dvc(root, "repro")
    done = tiny.execute(root, "bash", "-e", "-c", recipe())
    assert done.returncode == 0, done.stdout + done.stderr
    tracked = tiny.execute(root, "git", "ls-files").stdout.split()
    assert "dvc.lock" in tracked and not [name for name in tracked if name.startswith("data/")]

    assert json.loads(tiny.dvc(root, "metrics", "show", "--json"))[""]["data"]
    tiny.set_param(root, "first", "left", 2)
    tiny.dvc(root, "repro")
    subprocess.run(["git", "commit", "-qam", "run"], cwd=root, check=True)
    change = json.loads(tiny.dvc(root, "metrics", "diff", "HEAD~1", "--json"))
    assert change["data/results/summary.json"]["student.hpa"] == {"old": 0.1, "new": 0.2,
                                                                  "diff": 0.1}  # fmt: skip
    tiny.dvc(root, "plots", "show")
    assert "hpa.png" in (root / "dvc_plots/index.html").read_text()

    tiny.dvc(root, "exp", "run", "-S", "first.left=3", "--name", "three")
    assert json.loads((root / "data/results/summary.json").read_text())["student"]["hpa"] == 0.3
    shown = tiny.dvc(root, "exp", "show", "--csv")
    assert re.search(r"\nthree,.*,0\.3,", shown), shown
    assert tiny.dvc(root, "status", "dvc.yaml").strip().endswith("up to date.")
