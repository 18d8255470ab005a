"""The student as an MLflow model: what `mlflow models serve` and `mlflow.pyfunc.load_model` run.

MLflow keeps this file's source with each version (models from code); nothing is pickled. Input
columns: ``prompt``, and ``image``, the image's file in base64.
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
from zreward_core.store import check_manifest

MAX_ROWS = 256
MAX_BASE64 = 64_000_000
"""Characters; an image that needs more is refused before it is decoded."""


class Student(PythonModel):
    """Scores images for prompts; every file is checked against its hash when it is loaded."""

    def load_context(self, context: Any) -> None:
        """Check the files and load them."""
        from zreward_core import RewardModel

        folder = Path(context.artifacts["student"])
        check_manifest(folder, Path(context.artifacts["lineage"]) / "manifest.json")
        self.model = RewardModel.from_pretrained(folder)

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Dimension to mean, std, mass and probs over the levels, for each row of a DataFrame.

        Without type hints, since MLflow would read the signature from them.

        Raises:
            MlflowException: a row can't be scored (HTTP 400); names the row and the reason.
        """
        if not 1 <= len(model_input) <= MAX_ROWS:
            raise _bad(f"{len(model_input)} rows: send from 1 to {MAX_ROWS}")
        prompts = [_text(value, row, "prompt") for row, value in enumerate(model_input["prompt"])]
        images = [_image(value, row) for row, value in enumerate(model_input["image"])]
        try:
            return self.model.score(prompts, images).rows()
        except UserError as error:
            raise _bad(str(error)) from None


def _image(value: object, row: int) -> Any:
    text = _text(value, row, "image")
    if not text:
        raise _bad(f"row {row}: image is empty; send the image's file in base64")
    if len(text) > MAX_BASE64:
        raise _bad(f"row {row}: image is too large, more than {MAX_BASE64} characters of base64")
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
