"""Requests to the served student, through MLflow's scoring server: an answer, or 400 or 413."""

import base64
import json
import math
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.pyfunc import scoring_server
from mlflow.types import ColSpec, Schema

from tests.fuzz.effort import tries
from tests.fuzz.images import damaged, files
from tests.fuzz.mutations import VALUES, mutated_bytes
from zreward_core.commands import student_pyfunc
from zreward_core.models.prompts import PromptRefused

pytestmark = pytest.mark.filterwarnings("ignore")
IMAGE = files().map(lambda content: base64.b64encode(content).decode())
BROKEN = damaged.map(lambda content: base64.b64encode(content).decode())
CELLS = st.one_of(IMAGE, BROKEN, st.text(max_size=20), VALUES)
ROWS = st.lists(st.fixed_dictionaries({"prompt": CELLS, "image": CELLS}), max_size=3)
GOOD = IMAGE.map(
    lambda image: as_json({"dataframe_records": [{"prompt": "a", "image": image}]}).encode()
)
ORIENTS = st.sampled_from(["dataframe_records", "inputs", "instances"])


@pytest.fixture(scope="module")
def served(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("served")
    mlflow.pyfunc.save_model(
        folder / "model",
        python_model=student_pyfunc.__file__,
        artifacts={"student": str(student)},
        signature=ModelSignature(Schema([ColSpec("string", "prompt"), ColSpec("string", "image")])),
        pip_requirements=["mlflow"],
    )
    with pytest.MonkeyPatch.context() as patch:  # the model is not registered
        patch.setattr("zreward_core.store.check_loaded", lambda folder: None)
        return mlflow.pyfunc.load_model(str(folder / "model"))


def ask(served: Any, body: str) -> tuple[int, str]:
    schema = served.metadata.get_input_schema()
    try:
        answer = scoring_server.invocations(body, "application/json", served, schema)
    except MlflowException as error:
        return error.get_http_status_code(), error.message
    return answer.status, answer.response


def check(served: Any, body: str) -> None:
    status, text = ask(served, body)
    assert status in (200, 400, 413), (status, text)
    if status == 200:
        for row in json.loads(text)["predictions"]:
            for one in row.values():
                assert all(
                    math.isfinite(value) for value in [one["mean"], one["std"], *one["probs"]]
                )


def as_json(value: Any) -> str:
    return json.dumps(value, default=str, skipkeys=True)


def test_a_good_request_is_answered(served: Any) -> None:
    from tests.commands.test_serving import IMAGE as PNG

    status, text = ask(served, as_json({"dataframe_records": [{"prompt": "a", "image": PNG}]}))
    assert status == 200 and set(json.loads(text)["predictions"][0]) == {"form", "charm"}


def test_a_model_that_diverged_is_the_fault_of_the_server(served: Any) -> None:
    from tests.commands.test_serving import IMAGE as PNG

    network = served.unwrap_python_model().scorer.model.backbone.network
    weight = network.model.lm_head.weight
    kept = weight.clone()
    body = as_json({"dataframe_records": [{"prompt": "a", "image": PNG}]})
    try:
        weight.fill_(float("inf"))
        status, text = ask(served, body)
        assert status == 500 and "is not finite" in text and "train the model again" in text
        assert "Traceback" not in text and 'File "' not in text
    finally:
        weight.copy_(kept)
    assert ask(served, body)[0] == 200


def test_prompts_that_a_model_cannot_take_are_named_by_row(served: Any) -> None:
    from tests.commands.test_serving import IMAGE as PNG

    scorer = served.unwrap_python_model().scorer
    refused = {"red " * 3000: "positions for", "\ud800": "is not Unicode text", " ": "is empty"}
    for bad, reason in refused.items():
        messages = set()
        for score in (
            lambda prompts: scorer.score(prompts, [PNG] * 2),
            lambda prompts: scorer.model.score(prompts, [np.zeros((9, 9, 3), dtype=np.uint8)] * 2),
        ):
            with pytest.raises(PromptRefused, match=rf"^row 1: the prompt .*{reason}") as caught:
                score(["a", bad])
            messages.add(str(caught.value))
        assert len(messages) == 1


@tries(60)
@given(ORIENTS, ROWS)
def test_rows(served: Any, orient: str, rows: list[dict[str, Any]]) -> None:
    check(served, as_json({orient: rows}))


@tries(70)
@given(GOOD.flatmap(mutated_bytes))
def test_damaged_json(served: Any, body: bytes) -> None:
    check(served, body.decode("utf-8", "replace"))


@tries(70)
@given(st.dictionaries(ORIENTS | st.text(max_size=5), VALUES, max_size=2))
def test_any_json(served: Any, content: dict[str, Any]) -> None:
    check(served, as_json(content))
