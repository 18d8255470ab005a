"""The tiny bases that the demo ships: made by several seeds, each judged by the whole pipeline.

    python benchmarks/bases.py make 17      pretrain the three bases with a seed: an hour
    python benchmarks/bases.py chain 17     run the pipeline on them: half an hour
    python benchmarks/bases.py table        write docs/runs/bases.json and print it
    python benchmarks/bases.py ship 17      copy them to data/bases and set params.yaml

Two seeds can be made side by side: a seed is one process, of one thread with OMP_NUM_THREADS=1.

The seeds were written down before the first run. The base that ships is the one whose student has
the median HPA on the validation prompts; the test prompts choose nothing.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from ruamel.yaml import YAML
from safetensors.torch import load_file, save_file
from settings import judged

from zreward_core.commands.claims import OVER_BASES, SHIPPED_BASES
from zreward_core.config import PARAMS_FILE, read_yaml
from zreward_core.evaluation.summary import MODELS
from zreward_core.launch_file import LAUNCH_FILE
from zreward_core.runtime.workspace import WORKSPACES, make_workspace
from zreward_core.schemas import read_json, tree_hash, write_json

SEEDS = (17, 18, 19)
HERE = Path(__file__).resolve().parent
ROLES = ("teacher", "student", "generator")


def make(seed: int) -> None:
    """Pretrain the bases with a seed by the profile full, and round them to bfloat16."""
    overlay = {"base_vlm": {"seed": seed}, "base_generator": {"seed": seed}}
    root = make_workspace("full", overlay, f"full_{seed}")
    (root / LAUNCH_FILE).unlink()  # one process, so that seeds can be made side by side
    run(root, "repro", "base_vlm", "base_generator")
    made = HERE / "bases" / str(seed)
    shutil.rmtree(made, ignore_errors=True)
    sources = {
        "teacher": root / "data/base_vlm/teacher",
        "student": root / "data/base_vlm/student",
        "generator": root / "data/base_generator/generator",
    }
    for role, source in sources.items():
        round_checkpoint(source, made / role)
    shutil.copyfile(root / "data/base_generator/history.jsonl", made / "generator/history.jsonl")
    params = read_yaml(root / PARAMS_FILE)
    recipe = {
        "world_seed": params["seed"],
        "seed": seed,
        "commit": commit(),
        "params": {name: params[name] for name in ("world", "base_vlm", "base_generator")},
        "metrics": read_json(root / "data/base_vlm/metrics.json"),
        "sha256": {role: tree_hash(made / role) for role in ROLES},
    }
    write_json(recipe, made / "recipe.json")


def round_checkpoint(source: Path, target: Path) -> None:
    """Copy a model folder with its weights in bfloat16, without its card."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("zreward.json"))
    for path in target.rglob("*.safetensors"):
        weights = {name: tensor.bfloat16() for name, tensor in load_file(path).items()}
        save_file(weights, path, {"format": "pt"})


def chain(seed: int) -> None:
    """Run the pipeline on the bases of a seed, in a workspace of its own."""
    made = HERE / "bases" / str(seed)
    overlay: dict[str, Any] = {
        "base_vlm": {role: source(made / role) for role in ("teacher", "student")},
        "base_generator": source(made / "generator"),
    }
    root = make_workspace(None, overlay, f"on_{seed}")
    run(root, "repro", "evaluate")
    run(root, "promote", allowed=(0, 1))
    run(root, "repro", "dvc.yaml")
    validation = {"predict": {"judged_splits": ["validation"]}}
    (root / "validation.yaml").write_text(yaml.safe_dump(validation))
    run(root, "predict", "--params", "validation.yaml")


def source(folder: Path) -> dict[str, str]:
    """Settings of a base in a local folder."""
    return {"path": str(folder), "sha256": tree_hash(folder)}


def table() -> None:
    """Write the figures of all seeds that have run, and name the median one."""
    rows = [figures(seed) for seed in SEEDS if (WORKSPACES / f"on_{seed}").is_dir()]
    write_json(rows, OVER_BASES)
    frame = pd.DataFrame(rows).set_index("seed")
    print(frame.T.to_string(float_format="%.3f"))
    middle = frame["validation"].sort_values().index[(len(frame) - 1) // 2]
    print(f"median student on the validation prompts: seed {middle}")


def figures(seed: int) -> dict[str, float]:
    """What one seed's pipeline measured: HPA on test, the student's on validation, GSB."""
    root = WORKSPACES / f"on_{seed}"
    models = read_json(root / "data/evaluate/metrics.json")["models"]
    tuned = read_json(root / "data/evaluate_gsb/gsb.json")["overall"]
    validation = judged(root)
    row: dict[str, float] = {
        "seed": seed,
        "validation": validation["hpa"],
        "validation_alignment": validation["hpa_alignment"],
    }
    for model in MODELS:
        row[model] = models[model]["overall"]["hpa"]
        row[f"{model}_alignment"] = models[model]["alignment"]["hpa"]
    return {key: round(value, 4) for key, value in (row | {"gsb": tuned["gsb"]}).items()}


def ship(seed: int) -> None:
    """Copy the bases of a seed to data/bases and name their sha256 in params.yaml."""
    made = HERE / "bases" / str(seed)
    shutil.rmtree(SHIPPED_BASES, ignore_errors=True)
    shutil.copytree(made, SHIPPED_BASES)
    yaml_file = YAML()
    yaml_file.width, yaml_file.preserve_quotes = 1000, True
    yaml_file.indent(mapping=2, sequence=4, offset=2)
    params = yaml_file.load(PARAMS_FILE)
    for role, section in sections(params).items():
        section.update(source(SHIPPED_BASES / role))
    with PARAMS_FILE.open("w") as stream:
        yaml_file.dump(params, stream)


def sections(params: dict[str, Any]) -> dict[str, Any]:
    """The settings of each base in params.yaml."""
    vlm = params["base_vlm"]
    return {
        "teacher": vlm["teacher"],
        "student": vlm["student"],
        "generator": params["base_generator"],
    }


def run(root: Path, *arguments: str, allowed: tuple[int, ...] = (0,)) -> None:
    """Run a zreward command in a workspace."""
    zreward = str(Path(sys.executable).with_name("zreward"))
    code = subprocess.run([zreward, "--root", str(root), *arguments]).returncode
    if code not in allowed:
        sys.exit(code)


def commit() -> str:
    """The commit of the code."""
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    globals()[sys.argv[1]](*(int(argument) for argument in sys.argv[2:]))
