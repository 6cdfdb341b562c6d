"""Events as documents of Cosmos DB, told from what else somebody may have put among them.

Anybody who may write the container can add a document, in the portal say. An event stands at the place of its version:
that number, with twelve digits, is its document's id. What stands elsewhere is foreign and no part of any stream. What
stands at the place of an event and lacks something was one, and is damaged.
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

from .client_id import check_client_id
from .errors import InvalidClientIdError
from .events import RecordedEvent
from .ports import ForeignDocument

_TYPES: dict[str, tuple[type, ...]] = {
    "version": (int,),
    "schema_version": (int,),
    "correlation_id": (str, type(None)),
    "traceparent": (str, type(None)),
    "data": (dict,),
}
_SHAPES = frozenset(product(*(_TYPES.get(name, (str,)) for name in RecordedEvent._fields)))


def place_of(version: int) -> str:
    """Id of the document of an event."""
    return f"{version:012}"


def event_document(event: RecordedEvent) -> dict[str, Any]:
    """The document of an event."""
    return {"id": place_of(event.version), **event._asdict()}


def event_in(document: Mapping[str, Any]) -> RecordedEvent | None:
    """The event that a document of the events container is; None if it is none."""
    values = [document.get(name) for name in RecordedEvent._fields]
    if tuple(map(type, values)) in _SHAPES and stands_at(document) and is_client_id(values[0]):
        return RecordedEvent._make(values)
    return None


def foreign_in(document: Mapping[str, Any]) -> ForeignDocument:
    """What can be said of a document that is no event."""
    client_id = document.get("client_id")
    return ForeignDocument(client_id if is_client_id(client_id) else None, str(document["id"]))


def stands_at(document: Mapping[str, Any]) -> int:
    """The version at whose place a document stands; 0 if it stands at the place of no event."""
    version = document.get("version")
    return version if type(version) is int and version > 0 and document["id"] == place_of(version) else 0


def is_client_id(value: Any) -> bool:
    """Whether a value is the text of a client id."""
    try:
        return isinstance(value, str) and check_client_id(value) == value
    except InvalidClientIdError:
        return False
