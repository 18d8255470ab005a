"""Mutated rubrics: a usable rubric, or a UserError that names the file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given

from tests.fuzz.effort import tries
from tests.fuzz.mutations import mutated
from zreward_core.config import UserError
from zreward_core.rubric import RUBRIC_FILE, Rubric, load_rubric

RUBRIC = yaml.safe_load((Path(__file__).parents[2] / "data/rubric.yaml").read_text())
SHORT = RUBRIC | {
    "levels": RUBRIC["levels"][:3],
    "labels": RUBRIC["labels"][:3],
    "dimensions": [
        d | {"patterns": d["patterns"][:1], "levels": dict.fromkeys((1.0, 2.0), "x")}
        for d in RUBRIC["dimensions"][:2]
    ],
}


@pytest.fixture(scope="module", autouse=True)
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("rubric"))
        Path("data").mkdir()
        yield


@tries(250)
@given(mutated(SHORT))
def test_mutated_rubrics(content: dict[str, Any]) -> None:
    RUBRIC_FILE.write_bytes(yaml.dump(content).encode("utf-8", "surrogatepass"))
    try:
        rubric = load_rubric()
    except UserError as error:
        str(error).encode()
        assert str(RUBRIC_FILE) in str(error)
        return
    levels = np.asarray(rubric.levels)
    assert np.isfinite(levels).all() and (np.diff(levels.astype(np.float32)) > 0).all()
    assert np.isfinite(levels.astype(np.float32) ** 2).all()
    assert rubric.histogram(rubric.levels) == pytest.approx(1 / len(levels))
    assert rubric.histogram([levels.mean()]) @ levels == pytest.approx(levels.mean(), abs=1e-6)
    assert Rubric.model_validate_json(rubric.model_dump_json()).sha256 == rubric.sha256
