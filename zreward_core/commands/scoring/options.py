"""Options of `zreward score` that depend on what is scored."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from zreward_core.commands.scoring.score_file import check_output
from zreward_core.commands.scoring.sources import FORMS, is_many, require_exist
from zreward_core.config import UserError, writable


def require_options(
    sources: Sequence[Path],
    model: str | None,
    prompt: str | None,
    output: Path | None,
    prompt_column: str | None = None,
) -> str:
    """The model; all that is missing is named at once, with a command that would do.

    Raises:
        UserError: an option or a source is missing, the prompt is empty or there are two, or the
            output cannot be written.
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
        require_exist(sources)
        names = [writable(str(path)) for path in sources[:3]]
        words = [*names, "--model", model or "data/train_risd/student"]
        if prompt is not None or not many:
            words += ["--prompt", "a red circle" if prompt is None else prompt]
        if many:
            words += ["--output", str(output or "scores.parquet")]
        raise UserError(
            f"{' '.join(names)}: give {' and '.join(missing)}, for example: zreward score"
            f" {shlex.join(words)}. Many images are scored from {FORMS}"
        )
    if prompt is not None and not prompt.strip():
        raise UserError("--prompt is empty: give the text that the images were made for")
    if prompt is not None and prompt_column is not None:
        raise UserError(
            f"give either --prompt, one for all images, or --prompt-column {prompt_column}"
        )
    if output is not None:
        check_output(output, ".parquet", sources)
    assert model is not None
    return model
