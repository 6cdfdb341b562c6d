"""Keeps secrets out of the delivery log. Pure."""

import re
from collections.abc import Iterable
from typing import Any

import orjson

MASK = "***"
LOG_LIMIT = 2048
"""Characters of a body or an answer that the delivery log keeps."""

_SECRET = r"pass(?:word|wd|phrase)|secret|token|credential|authorization|api[-_]?key|private[-_]?key"  # noqa: S105 - names
_SECRET_NAME = re.compile(_SECRET, re.IGNORECASE)
# What is no whole JSON: `"password": "x"`, `token=x`, `Authorization: Bearer x`.
_SECRET_IN_TEXT = re.compile(
    rf"""((?:{_SECRET})[\w-]*["']?\s*[:=]\s*)(?:"(?:[^"\\]|\\.)*"?|'[^']*'?|(?:(?:bearer|basic)\s+)?[^\s,;&"']+)""",
    re.IGNORECASE,
)


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without the values of fields named like secrets, and without these secrets; cut to `LOG_LIMIT`.

    Args:
        text: JSON or anything else.
        secrets: values that must not show, wherever they stand.
    """
    try:
        shown = orjson.dumps(_masked(orjson.loads(text))).decode()
    except orjson.JSONDecodeError:
        shown = _masked_text(text)
    for secret in filter(None, secrets):
        for spelling in (secret, orjson.dumps(secret).decode()[1:-1]):
            shown = shown.replace(spelling, MASK)
    return shown if len(shown) <= LOG_LIMIT else f"{shown[:LOG_LIMIT]}... ({len(shown)} characters)"


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: MASK if _SECRET_NAME.search(key) else _masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return _masked_text(value) if isinstance(value, str) else value  # a quoted request is JSON inside JSON


def _masked_text(text: str) -> str:
    return _SECRET_IN_TEXT.sub(rf"\g<1>{MASK}", text)
