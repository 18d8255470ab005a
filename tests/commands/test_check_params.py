"""params.yaml is checked as a whole before the first stage runs."""

import re
import shutil
from pathlib import Path

import pytest

from zreward_core import cli
from zreward_core.commands import check_params as module
from zreward_core.commands.check_params import CHECKED, check_params
from zreward_core.config import StageConfig, UserError

ROOT = Path(__file__).parents[2]
PARAMS = (ROOT / "params.yaml").read_text()


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    return tmp_path


def write(old: str, new: str) -> None:
    assert old in PARAMS
    Path("params.yaml").write_text(PARAMS.replace(old, new, 1))


@pytest.mark.parametrize("command", ["world", "repro"])
def test_the_first_command_names_the_faults_of_later_stages(command: str) -> None:
    write("train_opd:", "train_odp: {}\ntrain_opd:")
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("num_traces: 1\n  temp", "num_traces: 0\n  temp"))
    with pytest.raises(UserError) as caught:
        cli.app([command], standalone_mode=False)
    message = str(caught.value)
    assert "unknown key 'train_odp'; did you mean 'train_opd'?" in message
    assert "params.yaml: 'predict.num_traces': Input should be greater than" in message
    assert not Path("data").exists() and not CHECKED.exists()


def test_valid_params_are_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copyfile(ROOT / "dvc.yaml", "dvc.yaml")
    check_params(cli.STAGES)
    monkeypatch.setattr(module, "check_sections", lambda *_: pytest.fail("checked again"))
    check_params(cli.STAGES)
    write("num_resamples: 2000", "num_resamples: 2001")
    with pytest.raises(pytest.fail.Exception):
        check_params(cli.STAGES)


@pytest.mark.parametrize(("every", "steps"), [(0, 60), (61, 60)])
def test_best_weights_that_are_never_measured_stop_the_first_command(
    every: int, steps: int
) -> None:
    settings = {"keep": "best", "validate_every": every, "steps": steps}
    Path("over.yaml").write_text(f"train_gdso: {settings}\n")
    with pytest.raises(UserError, match=rf"'train_gdso': keep is best, .* not {every}"):
        check_params(cli.STAGES, Path("over.yaml"))


def test_an_overlay_is_part_of_the_params() -> None:
    Path("over.yaml").write_text("finetune_generator: {size: [0, 32]}\n")
    with pytest.raises(UserError, match=r"with over\.yaml\): 'finetune_generator\.size\.0'"):
        check_params(cli.STAGES, Path("over.yaml"))


def test_a_project_may_track_sections_of_its_own() -> None:
    write("predict:", "mine: {a: 1}\npredict:")
    with pytest.raises(UserError, match="unknown key 'mine'"):
        check_params(cli.STAGES)
    Path("dvc.yaml").write_text("stages:\n  mine: {cmd: echo, params: [mine.a]}\n")
    check_params(cli.STAGES)


def test_a_missing_or_mistyped_section_of_a_standalone_profile_is_named() -> None:
    shutil.copyfile(ROOT / "dvc.yaml", "dvc.yaml")
    text = (ROOT / "params/paper.yaml").read_text().replace("\nlabel:", "\nlable:")
    Path("over.yaml").write_text(text.replace("\nworld: {}", ""))
    with pytest.raises(UserError) as caught:
        check_params(cli.STAGES, Path("over.yaml"))
    message = str(caught.value)
    assert "unknown key 'lable'; did you mean 'label'?" in message
    assert "'world', which dvc.yaml tracks, is missing; add it" in message


def test_the_launch_file_of_a_profile_is_checked_in_place_of_that_of_the_demo() -> None:
    Path("launch.yaml").write_text("stages: {evaluate_gsb: gpus}\n")
    own = Path("own.yaml")
    own.write_text("stages: {label: gpus}\n")
    with pytest.raises(UserError, match=r"^own\.yaml: 'stages\.label' names the launcher"):
        check_params(cli.STAGES, launch_file=own)
    own.write_text("stages: {label: local}\n")
    check_params(cli.STAGES, launch_file=own)


def test_the_launcher_of_a_later_stage_is_checked() -> None:
    Path("launch.yaml").write_text("stages: {evaluate_gsb: gpus}\n")
    with pytest.raises(UserError, match=r"launch\.yaml: 'stages\.evaluate_gsb' names the launcher"):
        check_params(cli.STAGES)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("data/drops/a.txt", "prompt_files: {annotation: [data/drops/a.txt]}"),
        ("data/drops/images", "folders: [{path: data/drops/images}]"),
    ],
)
def test_files_of_drops_that_no_dep_covers_are_refused(path: str, field: str) -> None:
    write("candidates:\n", f"candidates:\n  {field}\n")
    with pytest.raises(UserError, match=rf"'candidates': {path} is not a dep of this stage"):
        check_params(cli.STAGES)
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("data/drops/", "data/drops/prompts/"))
    check_params(cli.STAGES)


@pytest.mark.parametrize("profile", ["smoke", "paper", "eight_gpus"])
def test_profiles_of_the_project_are_valid_at_commits(profile: str) -> None:
    shutil.copytree(ROOT / "params", "params")
    shutil.copyfile(ROOT / "dvc.yaml", "dvc.yaml")
    file = Path(f"params/{profile}.yaml")
    if profile != "smoke":
        with pytest.raises(UserError) as caught:
            check_params(cli.STAGES, file)
        lines = str(caught.value).splitlines()
        keys = ["base_vlm.teacher", "base_vlm.student", "base_generator"]
        for key, line in zip(keys, lines, strict=True):
            assert line.startswith(f"{file}: '{key}.revision' is 'main', which is not a commit")
            assert "https://huggingface.co/" in line
    file.write_text(file.read_text().replace("revision: main", f"revision: {'0a' * 20}"))
    check_params(cli.STAGES, file)


def test_a_base_that_is_a_local_folder_needs_no_commit() -> None:
    shutil.copyfile(ROOT / "dvc.yaml", "dvc.yaml")
    text = (ROOT / "params/paper.yaml").read_text()
    Path("over.yaml").write_text(re.sub(r"hub_id: [^,}]+", "hub_id: checkpoint", text))
    with pytest.raises(UserError, match="not a commit"):
        check_params(cli.STAGES, Path("over.yaml"))
    Path("checkpoint").mkdir()
    check_params(cli.STAGES, Path("over.yaml"))


@pytest.mark.parametrize(
    ("section", "text", "key"),
    [
        ("train_risd", "learning_rate: 1e10", "learning_rate"),
        ("train_risd", "learning_rate: .nan", "learning_rate"),
        ("train_risd", "learning_rate: 0", "learning_rate"),
        ("train_risd", "learning_rate: '1e-3'", "learning_rate"),
        ("train_risd", "steps: true", "steps"),
        ("train_risd", "dtype: float12", "dtype"),
        ("train_risd", "checkpoint_every: 0", "checkpoint_every"),
        ("train_risd", "mass_weight: -1", "mass_weight"),
        ("train_risd", "max_grad_norm: .inf", "max_grad_norm"),
        ("train_risd", "lora: {rank: 0, alpha: 1}", "lora.rank"),
        ("train_gdso", "temperature: 0", "temperature"),
        ("train_gdso", "thorough: {alignment: -1}", "thorough.alignment"),
        ("train_gdso", "seed: -1", "seed"),
        ("label", "temperature: 1e-9", "temperature"),
        ("label", "max_items: 0", "max_items"),
        ("finetune_generator", "weights: {alignment: 0}", "finetune_generator"),
        ("finetune_generator", "ema_decay: 1", "ema_decay"),
        ("base_generator", "{tiny: {width: 130, num_heads: 4}}", "tiny"),
        ("base_generator", "{tiny: {}, flow: {clean_shares: {realism: 1}}}", "realism"),
        ("validate", "min_agreement: .nan", "min_agreement"),
        ("world", "clean_share: 1.1", "clean_share"),
    ],
)
def test_numbers_are_finite_and_in_range(section: str, text: str, key: str) -> None:
    text = text if text.startswith("{") else f"{{{text}}}"
    Path("params.yaml").write_text(f"seed: 1\n{section}: {text}\n")
    config: type[StageConfig] = __import__(
        f"zreward_core.stages.{section}", fromlist=["Config"]
    ).Config
    with pytest.raises(UserError, match=rf"params\.yaml: '{section}.*{key.split('.')[-1]}|{key}'"):
        config.load(section)


def test_greedy_decoding_is_a_temperature() -> None:
    from zreward_core.stages.label import Config

    Path("params.yaml").write_text("seed: 1\nlabel: {temperature: 0}\n")
    assert Config.load("label").temperature == 0
