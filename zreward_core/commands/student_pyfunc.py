"""The student as an MLflow model, for `mlflow models serve` and `mlflow.pyfunc.load_model`.

MLflow stores this file's source with each version (models from code); nothing is pickled. Input
columns: ``prompt``, and ``image``, an encoded image file in base64.
"""

import json
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR
from mlflow.pyfunc import PythonModel

from zreward_core.config import UserError
from zreward_core.store import check_loaded


class Student(PythonModel):
    """Scores images for prompts."""

    def load_context(self, context: Any) -> None:
        """Load the student after comparing the version's files with the registry."""
        from zreward_core import RewardModel
        from zreward_core.models.requests import RequestScorer

        folder = Path(context.artifacts["student"])
        check_loaded(folder.parents[1])
        self.scorer = RequestScorer(RewardModel.from_pretrained(folder))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """For each row of a DataFrame: dimension to mean, std, mass and probs over the levels.

        No type hints: MLflow would derive the signature from them.

        Raises:
            Refused: HTTP 413 or 400 with the row and the reason; 500 if the model's scores are not
                finite.
        """
        from zreward_core.models.requests import RequestTooLarge
        from zreward_core.schemas import NotFinite

        try:
            return self.scorer.score(list(model_input["prompt"]), list(model_input["image"]))
        except RequestTooLarge as error:
            raise Refused(str(error), 413) from None
        except NotFinite as error:  # the fault of the model, not of the request
            raise Refused(str(error), 500) from None
        except UserError as error:
            raise Refused(str(error), 400) from None


class Refused(MlflowException):
    """A request that is not answered; MLflow has no error code for HTTP 413."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason, error_code=BAD_REQUEST if status < 500 else INTERNAL_ERROR)
        self.reason, self.status = reason, status

    def get_http_status_code(self) -> int:
        return self.status

    def serialize_as_json(self) -> str:
        """The answer; without the repr of the data that MLflow puts before the message."""
        return json.dumps({"error_code": self.error_code, "message": self.reason})


set_model(Student())
