"""DVC and Dagster agree on what is stale, whichever ran the stages, on a tiny graph."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dagster import AssetKey, DagsterInstance

from tests.pipelines import tiny
from tests.pipelines.tiny import (
    assert_agreement,
    dvc,
    execute,
    how,
    materialize,
    set_param,
    sync,
)
from zreward_core.dvc import read_lock


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tiny.make(tmp_path / "project")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    (tmp_path / "dagster").mkdir()
    with DagsterInstance.local_temp(
        str(tmp_path / "dagster"), overrides={"telemetry": {"enabled": False}}
    ) as made:
        yield made


def test_materialize_all_then_dvc_has_nothing_to_do(root: Path, instance: DagsterInstance) -> None:
    materialize(instance, root)
    assert {how(instance, stage) for stage in tiny.STAGES} == {"run"}
    assert assert_agreement(instance, root) == set()
    assert "Running stage" not in dvc(root, "repro")
    assert sync(instance, root) == []  # the run itself has reported everything


def test_repro_in_a_shell_is_shown(root: Path, instance: DagsterInstance) -> None:
    dvc(root, "repro")
    sync(instance, root)
    assert assert_agreement(instance, root) == set()
    assert "outside" in how(instance, "last")
    assert sync(instance, root) == []


def test_changes_are_stale_in_both_until_taken_back(root: Path, instance: DagsterInstance) -> None:
    dvc(root, "repro")
    sync(instance, root)
    code = root / "code/left.py"
    kept = code.read_text()
    code.write_text(kept + "\n# another")
    sync(instance, root)
    assert assert_agreement(instance, root) == {"left", "last"}
    set_param(root, "first", "right", 2)
    sync(instance, root)
    assert assert_agreement(instance, root) == set(tiny.STAGES)
    code.write_text(kept)
    set_param(root, "first", "right", 1)
    (root / "data/right.txt").unlink()
    sync(instance, root)
    assert assert_agreement(instance, root) == {"right", "last"}
    dvc(root, "checkout")
    sync(instance, root)
    assert assert_agreement(instance, root) == set()


def test_part_of_an_out_changed(root: Path, instance: DagsterInstance) -> None:
    materialize(instance, root)
    set_param(root, "first", "right", 2)
    dvc(root, "repro", "first")
    sync(instance, root)
    assert assert_agreement(instance, root) == {"right", "last"}  # left reads the other file


def test_older_revision_is_shown_again(root: Path, instance: DagsterInstance) -> None:
    materialize(instance, root)
    older = read_lock(root)
    kept = {name: (root / name).read_bytes() for name in ("dvc.lock", "params.yaml")}
    set_param(root, "right", None, 3)
    materialize(instance, root)
    assert assert_agreement(instance, root) == set()
    for name, content in kept.items():
        (root / name).write_bytes(content)
    sync(instance, root)
    assert assert_agreement(instance, root) == {"right", "last"}  # their files are the newer ones
    dvc(root, "checkout")
    sync(instance, root)
    assert assert_agreement(instance, root) == set()
    assert read_lock(root) == older


def test_restored_from_the_cache_is_not_shown_as_run(root: Path, instance: DagsterInstance) -> None:
    materialize(instance, root)
    set_param(root, "right", None, 2)
    materialize(instance, root, "right")
    assert how(instance, "right") == "run"
    set_param(root, "right", None, 1)
    materialize(instance, root, "right")
    assert how(instance, "right").startswith("restored")
    materialize(instance, root, "right")
    assert how(instance, "right").startswith("already")


def test_one_stage_runs_alone_or_names_what_is_stale_above(
    root: Path, instance: DagsterInstance
) -> None:
    materialize(instance, root)
    set_param(root, "right", None, 2)
    materialize(instance, root, "right")
    sync(instance, root)
    assert assert_agreement(instance, root) == {"last"}
    set_param(root, "first", "left", 5)
    result = materialize(instance, root, "last", raise_on_error=False)
    assert not result.success
    failure = result.failure_data_for_node("last")
    assert failure is not None and failure.error is not None
    message = failure.user_failure_data.description if failure.user_failure_data else ""
    assert "upstream stages are stale: first" in message and "left" in message
    assert not (root / "data/last.txt").read_text().startswith("LEFT 5")


def act_param(root: Path, instance: DagsterInstance, draw: random.Random) -> None:
    section, key = draw.choice([("first", "left"), ("first", "right"), ("right", None)])
    set_param(root, section, key, draw.randint(1, 3))


def act_code(root: Path, instance: DagsterInstance, draw: random.Random) -> None:
    stage = draw.choice(tiny.STAGES)
    (root / f"code/{stage}.py").write_text(tiny.CODE[stage] + f"\n# {draw.randint(0, 1)}")


def act_remove(root: Path, instance: DagsterInstance, draw: random.Random) -> None:
    shutil.rmtree(root / "data/first", ignore_errors=True)


def act_spoil(root: Path, instance: DagsterInstance, draw: random.Random) -> None:
    path = root / "data/left.txt"
    if path.exists():
        path.unlink()  # it may be a link into the cache
        path.write_text("spoiled")


def act_shell(root: Path, instance: DagsterInstance, draw: random.Random) -> None:
    dvc(root, "repro", *draw.choice([(), (draw.choice(tiny.STAGES),)]))


def act_single(root: Path, instance: DagsterInstance, draw: random.Random) -> None:
    execute(root, "dvc", "repro", "--single-item", draw.choice(tiny.STAGES))


def act_dagster(root: Path, instance: DagsterInstance, draw: random.Random) -> None:
    chosen = draw.choice([(), (draw.choice(tiny.STAGES),)])
    materialize(instance, root, *chosen, raise_on_error=False)


def act_revision(root: Path, instance: DagsterInstance, draw: random.Random) -> None:
    """Keep this revision, or go back to one that was kept."""
    kept = root / "kept"
    names = ("dvc.lock", "params.yaml")
    if kept.exists():
        for name in names:
            shutil.copy(kept / name, root / name)
        execute(root, "dvc", "checkout", "--force")
    elif (root / "dvc.lock").exists():
        kept.mkdir()
        for name in names:
            shutil.copy(root / name, kept / name)


ACTIONS: tuple[Callable[[Path, DagsterInstance, random.Random], None], ...] = (
    act_param, act_param, act_code, act_remove, act_spoil,
    act_shell, act_single, act_dagster, act_dagster, act_revision,
)  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_sequences(root: Path, instance: DagsterInstance, seed: int) -> None:
    draw = random.Random(seed)
    done = []
    for _ in range(12):
        action = draw.choice(ACTIONS)
        done.append(action.__name__)
        action(root, instance, draw)
        sync(instance, root)
        try:
            assert_agreement(instance, root)
        except AssertionError as error:
            raise AssertionError(f"after {done}") from error
    materialize(instance, root)
    assert assert_agreement(instance, root) == set(), done
    event = instance.get_latest_materialization_event(AssetKey("last"))
    assert event is not None
