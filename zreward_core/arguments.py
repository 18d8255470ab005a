"""Numbers that callers of the Python API pass; those of params.yaml are checked by its Configs."""

import math
import numbers
import operator
from typing import Any

from zreward_core.config import UserError


def whole_number(name: str, value: Any, least: int | None = 1) -> int:
    """A whole number, of Python, NumPy or torch.

    Args:
        name: of the argument, for the message.
        least: lowest value; any if None.

    Raises:
        UserError: it is something else, or lower.
    """
    try:
        found = operator.index(value)
    except (TypeError, RuntimeError):  # torch's, of a tensor of several numbers
        found = None
    if isinstance(value, bool) or found is None or (least is not None and found < least):
        bound = "" if least is None else f" of at least {least}"
        raise UserError(f"{name} is {value!r}: pass a whole number{bound}")
    return found


def finite_number(name: str, value: Any) -> float:
    """A finite number, of Python or NumPy.

    Raises:
        UserError: it is something else.
    """
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not math.isfinite(value):
        raise UserError(f"{name} is {value!r}: pass a finite number")
    return float(value)
