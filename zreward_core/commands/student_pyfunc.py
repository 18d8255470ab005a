"""The student as an MLflow model, for `mlflow models serve` and `mlflow.pyfunc.load_model`.

MLflow stores this file's source with each version (models from code); nothing is pickled. Input
columns: ``prompt``, and ``image``, an encoded image file in base64.
"""

import base64
import binascii
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.pyfunc import PythonModel

from zreward_core.config import UserError
from zreward_core.images import decode
from zreward_core.store import check_loaded

MAX_ROWS = 256
MAX_BASE64 = 64_000_000
"""Characters of base64; longer ones are rejected before decoding."""


class Student(PythonModel):
    """Scores images for prompts."""

    def load_context(self, context: Any) -> None:
        """Load the student after comparing the version's files with the registry."""
        from zreward_core import RewardModel

        folder = Path(context.artifacts["student"])
        check_loaded(folder.parents[1])
        self.model = RewardModel.from_pretrained(folder)

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """For each row of a DataFrame: dimension to mean, std, mass and probs over the levels.

        No type hints: MLflow would derive the signature from them.

        Raises:
            MlflowException: HTTP 400 with the row and the reason.
        """
        if not 1 <= len(model_input) <= MAX_ROWS:
            raise _bad(f"{len(model_input)} rows: send between 1 and {MAX_ROWS}")
        prompts = [_text(value, row, "prompt") for row, value in enumerate(model_input["prompt"])]
        images = [_image(value, row) for row, value in enumerate(model_input["image"])]
        try:
            return self.model.score(prompts, images).rows()
        except UserError as error:
            raise _bad(str(error)) from None


def _image(value: object, row: int) -> Any:
    text = _text(value, row, "image")
    if not text:
        raise _bad(f"row {row}: image is empty; send an encoded image file in base64")
    if len(text) > MAX_BASE64:
        raise _bad(f"row {row}: image is too large: more than {MAX_BASE64} characters of base64")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad(f"row {row}: image is not valid base64 ({error})") from None
    try:
        return decode(content, f"row {row}: image")
    except UserError as error:
        raise _bad(str(error)) from None


def _text(value: object, row: int, column: str) -> str:
    if not isinstance(value, str):
        raise _bad(f"row {row}: {column} must be a string, not {type(value).__name__}")
    return value


def _bad(reason: str) -> MlflowException:
    return MlflowException(reason, error_code=BAD_REQUEST)


set_model(Student())
