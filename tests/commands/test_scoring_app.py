"""The application of `zreward serve FOLDER`; tests/commands/test_serving.py covers the server."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from zreward_core.commands.request_limits import RequestLimits
from zreward_core.commands.scoring_app import scoring_app

ROW = {"prompt": "a", "image": ""}


class Defective:
    """A scorer with a defect of ours."""

    def score(self, prompts: list[object], images: list[object]) -> Any:
        return [None][1]


def test_a_defect_is_answered_with_500_and_without_its_text() -> None:
    app = RequestLimits(scoring_app(Defective()))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="scoring failed"):  # the server logs it
        TestClient(app).post("/invocations", json={"dataframe_records": [ROW]})
    client = TestClient(app, raise_server_exceptions=False)
    answer = client.post("/invocations", json={"dataframe_records": [ROW]})
    assert answer.status_code == 500 and "list index" not in answer.text


def test_the_health_check_needs_no_scoring() -> None:
    client = TestClient(RequestLimits(scoring_app(Defective())))  # type: ignore[arg-type]
    assert client.get("/health").json() == {"status": "ready"}
    assert client.get("/invocations").status_code == 405
