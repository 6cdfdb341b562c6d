"""What `provision` creates on Service Bus, as Bicep."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from .bicep import bicep_text
from .bus_entities import BusEntity, sql_of

_API = "2024-01-01"

_HEAD = f"""\
@description('Name of the Service Bus namespace; it takes tier Standard or Premium')
param namespaceName string

resource bus 'Microsoft.ServiceBus/namespaces@{_API}' existing = {{
  name: namespaceName
}}
"""


def bus_bicep(entities: Sequence[BusEntity]) -> str:
    """A Bicep module with the entities in a namespace that exists; it puts out their names, for who assigns roles."""
    return "\n".join([_HEAD, *(part for entity in entities for part in _parts(entity)), _outputs(entities)])


def _outputs(entities: Sequence[BusEntity]) -> str:
    lines = []
    for kind in ("topic", "subscription", "queue"):
        names = ", ".join(bicep_text(entity.name) for entity in entities if entity.kind == kind)
        lines.append(f"output {kind}s array = [{names}]\n")
    return "".join(lines)


def _parts(entity: BusEntity) -> Iterable[str]:
    symbol = _symbol(entity)
    parent = f"topic_{_word(entity.topic)}" if entity.topic else "bus"
    types = {"topic": "topics", "queue": "queues", "subscription": "topics/subscriptions"}
    lines = [f"{_camel(name)}: {_value(value)}" for name, value in {**entity.fixed, **entity.changeable}.items()]
    yield _resource(symbol, types[entity.kind], parent, entity.name, lines)
    # If the service keeps its $Default rule beside these, `provision` finds and replaces it.
    for name in entity.admits:
        # Bicep's correlation filters compare texts only, and ours are booleans.
        filtered = f"sqlFilter: {{ sqlExpression: {bicep_text(sql_of(name))} }}"
        lines = ["filterType: 'SqlFilter'", filtered]
        yield _resource(f"{symbol}_{_word(name)}", "topics/subscriptions/rules", symbol, name, lines)


def _resource(symbol: str, kind: str, parent: str, name: str, properties: Iterable[str]) -> str:
    inner = "".join(f"    {line}\n" for line in properties)
    return (
        f"resource {symbol} 'Microsoft.ServiceBus/namespaces/{kind}@{_API}' = {{\n"
        f"  parent: {parent}\n  name: {bicep_text(name)}\n  properties: {{\n{inner}  }}\n}}\n"
    )


def _symbol(entity: BusEntity) -> str:
    return f"{entity.kind}_{_word(entity.name)}"


def _word(name: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in name)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


_UNITS: Mapping[str, int] = {"D": 86400, "H": 3600, "M": 60}


def _value(value: Any) -> str:
    if isinstance(value, timedelta):
        amount = int(value.total_seconds())
        unit = next(unit for unit, length in _UNITS.items() if amount % length == 0)
        return f"'P{'' if unit == 'D' else 'T'}{amount // _UNITS[unit]}{unit}'"
    return str(value).lower()
