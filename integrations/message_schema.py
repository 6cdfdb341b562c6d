"""JSON Schema of what the topic carries, for those who write subscribers. Pure."""

from typing import Any

from projections import ROOT, Projection

from .messages import EVENT_TYPE

_TEXT = {"type": "string"}
_NUMBER = {"type": "integer"}


def message_schema(projection: Projection[Any]) -> dict[str, Any]:
    """JSON Schema of the body of a topic message; subscribers ignore properties that they do not know."""
    record = projection.schema.model_json_schema(mode="serialization")
    fields, layout = record["properties"], projection.layout
    changed: dict[str, Any] = {name: {"anyOf": [fields[name], {"type": "null"}]} for name in layout.sub_schemas}
    if layout.root:
        changed[ROOT] = {"type": "object", "properties": {name: fields[name] for name in layout.root}}
    change = {
        "type": "object",
        "properties": {"sub_schema": _TEXT, "field": _TEXT, "old": {}, "new": {}},
        "required": ["field", "sub_schema"],
    }
    data = {
        "type": "object",
        "properties": {
            "client_id": _TEXT,
            "seq": _NUMBER,
            "previous_seq": _NUMBER,
            "version": _NUMBER,
            "changed": {"type": "object", "properties": changed},
            "changes": {"type": "array", "items": change},
            "truncated": {"const": True},
        },
        "required": ["client_id", "previous_seq", "seq", "version"],
    }
    names = ("id", "source", "subject", "time")
    fixed = {"specversion": "1.0", "type": EVENT_TYPE, "datacontenttype": "application/json"}
    return {
        "$defs": record.get("$defs", {}),
        "type": "object",
        "properties": {
            **dict.fromkeys((*names, "correlationid", "traceparent"), _TEXT),
            **{name: {"const": value} for name, value in fixed.items()},
            "data": data,
        },
        "required": sorted([*names, *fixed, "data"]),
    }
