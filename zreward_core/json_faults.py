"""Why JSON is not valid, and what to do about it."""

import json


def explain(error: json.JSONDecodeError, remedy: str) -> str:
    """Line, column, cause and remedy.

    Args:
        error: of ``json.loads``.
        remedy: what helps if the cause is not a comma too many.
    """
    comma = extra_comma(error)
    if comma is None:
        return f"at line {error.lineno} column {error.colno} ({error.msg}); {remedy}"
    line = error.doc.count("\n", 0, comma) + 1
    column = comma - error.doc.rfind("\n", 0, comma)
    return f"at line {line} column {column} (a comma too many); remove the comma"


def extra_comma(error: json.JSONDecodeError) -> int | None:
    """Place of the comma, if the cause is one too many, such as one before a closing bracket."""
    text, place = error.doc, error.pos
    before = text[:place].rstrip()
    if text[place : place + 1] == ",":
        is_first = before[-1:] in ("", "[", "{", ",")
        return place if is_first or not text[place + 1 :].strip() else None
    return len(before) - 1 if text[place : place + 1] in ("]", "}") and before[-1:] == "," else None
