"""Fingerprints of the code that projects: to notice a change that needs a new version, and one that may unpark clients.

The structure covers what decides which values a record can have: schema, event models, upcasters, rule names. The code
covers in addition the modules in which rules and upcasters are written, without comments and layout.
"""

import ast
import inspect
import sys
from hashlib import sha256
from typing import Any

from eventstore import canonical_json

from .rules import Projection


def structure_fingerprint(projection: Projection[Any]) -> str:
    """Hash of schema, event models, upcasters and rule names of a projection."""
    return _hash(_structure(projection))


def code_fingerprint(projection: Projection[Any]) -> str:
    """Hash of the structure and of the modules that hold rules, events and upcasters."""
    sources = [rule.source for rule in projection.rules.values()]
    for event_type in projection.events:
        sources += [event_type.model, *event_type.upcasters.values()]
    modules = sorted({str(getattr(source, "__module__", "")) for source in sources})
    return _hash([_structure(projection), [[name, _module_code(name)] for name in modules]])


def _structure(projection: Projection[Any]) -> Any:
    return {
        "schema": projection.schema.model_json_schema(),
        "events": [
            [event_type.name, event_type.version, event_type.model.model_json_schema(), _upcasters(event_type)]
            for event_type in projection.events
        ],
        "rules": sorted([event_type, rule.name, rule.late] for event_type, rule in projection.rules.items()),
    }


def _upcasters(event_type: Any) -> list[Any]:
    return [[version, step.__code__.co_code.hex()] for version, step in sorted(event_type.upcasters.items())]


def _module_code(name: str) -> str:
    module = sys.modules.get(name)
    try:
        source = inspect.getsource(module) if module is not None else ""
    except (OSError, TypeError):  # typed into a console, or shipped without source: only the structure counts
        return ""
    return ast.dump(ast.parse(source))


def _hash(value: Any) -> str:
    return sha256(canonical_json(value)).hexdigest()[:32]
