"""Fingerprints of the code that projects: to notice a change that needs a new version, and one that may unpark clients.

The structure covers what decides which values a record can have: schema, event models, upcasters, rule names. The code
covers in addition the modules in which schema, events, rules and upcasters are written. Comments, layout and
descriptions count in neither; nor do modules that those modules import.
"""

import inspect
import sys
from hashlib import sha256
from io import StringIO
from textwrap import dedent
from tokenize import COMMENT, INDENT, NEWLINE, NL, TokenError, generate_tokens, tok_name
from typing import Any

from eventstore import canonical_json

from .rules import Projection


def structure_fingerprint(projection: Projection[Any]) -> str:
    """Hash of schema, event models, upcasters and rule names of a projection."""
    return _hash(_structure(projection))


def code_fingerprint(projection: Projection[Any]) -> str:
    """Hash of the structure and of the modules that hold schema, rules, events and upcasters."""
    sources: list[object] = [projection.schema, *(sub.model for sub in projection.layout.sub_schemas.values())]
    sources += [rule.source for rule in projection.rules.values()]
    for event_type in projection.events:
        sources += [event_type.model, *event_type.upcasters.values()]
    modules = sorted({str(getattr(source, "__module__", "")) for source in sources})
    return _hash([_structure(projection), [[name, _code(sys.modules.get(name))] for name in modules]])


def _structure(projection: Projection[Any]) -> Any:
    return {
        "schema": _shape(projection.schema.model_json_schema()),
        "one value": sorted(name for name, sub in projection.layout.sub_schemas.items() if sub.one_value),
        "events": [
            [event_type.name, event_type.version, _shape(event_type.model.model_json_schema()), _upcasters(event_type)]
            for event_type in sorted(projection.events)
        ],
        "rules": sorted([event_type, rule.name, rule.late] for event_type, rule in projection.rules.items()),
    }


def _upcasters(event_type: Any) -> list[Any]:
    return [[version, _code(step)] for version, step in sorted(event_type.upcasters.items())]


def _shape(schema: Any) -> Any:
    """A JSON schema without what is only said about it; a property may bear such a name, but is no text."""
    if isinstance(schema, dict):
        return {
            key: _shape(inner)
            for key, inner in schema.items()
            if not (key in {"title", "description"} and isinstance(inner, str))
        }
    return [_shape(inner) for inner in schema] if isinstance(schema, list) else schema


def _code(source: Any) -> list[list[str]]:
    """The tokens of the source text, so that comments and layout do not count."""
    # Not its syntax tree: before Python 3.13 two threads that make one at the same time trip over each other.
    try:
        lines = StringIO(dedent(inspect.getsource(source))).readline
        return [
            [tok_name[token.type], "" if token.type in {INDENT, NEWLINE} else token.string]
            for token in generate_tokens(lines)
            if token.type not in {COMMENT, NL}
        ]
    except (OSError, TypeError, SyntaxError, TokenError):  # typed into a console, or shipped without source
        return [["NAME", str(getattr(source, "__qualname__", ""))]]


def _hash(value: Any) -> str:
    return sha256(canonical_json(value)).hexdigest()[:32]
