"""Options of `zreward score` that depend on what is scored."""

from collections.abc import Sequence
from pathlib import Path

from zreward_core.commands.scoring.score_file import check_output
from zreward_core.commands.scoring.sources import FORMS, is_many
from zreward_core.config import UserError, writable


def require_options(
    sources: Sequence[Path], model: str | None, prompt: str | None, output: Path | None
) -> str:
    """The model; all that is missing is named at once, with a command that would do.

    Raises:
        UserError: an option is missing, or the output cannot be written.
    """
    many = output is not None or any(is_many(path) for path in sources)
    missing = []
    if model is None:
        missing.append("--model (folder of a reward model, such as data/train_risd/student)")
    if many and output is None:
        missing.append("--output (Parquet file for the scores)")
    if not many and prompt is None:
        missing.append("--prompt (the prompt of the images)")
    if missing:
        names = " ".join(writable(str(path)) for path in sources[:3])
        rest = "--output scores.parquet" if many else "--prompt 'a red circle'"
        raise UserError(
            f"{names}: give {' and '.join(missing)}, for example: zreward score {names}"
            f" --model {model or 'data/train_risd/student'} {rest}. Many images are scored from"
            f" {FORMS}"
        )
    if output is not None:
        check_output(output, ".parquet", sources)
    assert model is not None
    return model
