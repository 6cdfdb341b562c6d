"""Projections: which update rule an event type has."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from eventstore import Event, EventRegistry

from .errors import RuleDefinitionError
from .layout import Layout
from .record import Json, Values
from .schema import UnifiedSchema, layout_of

Schema = TypeVar("Schema", bound=UnifiedSchema)
SomeEvent = TypeVar("SomeEvent", bound=Event)

Late = Literal["supersede", "apply"]
RuleFunction = Callable[[Any, Any], UnifiedSchema]


class UpdateProcessor(ABC, Generic[SomeEvent, Schema]):
    """An update rule as an object, for rules that carry settings or share code.

    It must be pure: no clock, randomness or I/O, and nothing kept between two calls.
    """

    @abstractmethod
    def process_message(self, event: SomeEvent, current: Schema) -> Schema:
        """The record after the event.

        Args:
            event: what happened.
            current: the record before; immutable.
        """


class Rule(NamedTuple):
    """The update rule of one event type.

    Attributes:
        name: function or class name, as it appears in the audit.
        apply: `(record, event) -> record`.
        late: `supersede` to let a field keep what a later fact asserted, `apply` to overwrite it regardless.
        source: the function or class, for the fingerprint.
    """

    name: str
    apply: RuleFunction
    late: Late
    source: object


class Projection(Generic[Schema]):
    """How a client's events become its record.

        clients = Projection("clients", Client, events, version=1)

        @clients.on(EmailChanged)
        def email_changed(record: Client, event: EmailChanged) -> Client:
            return record.evolve(contact={"email": event.email})

    A rule is pure: no clock, randomness or I/O. A registered event without a rule leaves an audit entry without
    changes.

    Args:
        name: lower-case letters and `_`; part of document ids and topic names.
        schema: what a record is.
        events: the registry of the events it folds.
        version: raise it whenever schema, rules or upcasters change what a record comes to; records are kept apart by
            it.

    Raises:
        RuleDefinitionError: name or version is malformed.
        SchemaDefinitionError: the schema cannot be projected.
    """

    def __init__(self, name: str, schema: type[Schema], events: EventRegistry, *, version: int) -> None:
        if not (name.isascii() and name.replace("_", "a").isalpha() and name.islower() and len(name) <= 40):  # noqa: PLR2004
            raise RuleDefinitionError(f"Projection name {name!r}: 1 to 40 of a-z and '_' were expected.")
        if version < 1:
            raise RuleDefinitionError(f"Projection {name!r}: versions start at 1, not {version}.")
        self.name = name
        self.schema = schema
        self.events = events
        self.version = version
        self.layout: Layout[Schema] = layout_of(schema)
        self.rules: dict[str, Rule] = {}

    @property
    def generation(self) -> str:
        """Name under which records and audit of this version are stored, as `clients.v1`."""
        return self.generation_of(self.version)

    @property
    def generations(self) -> dict[str, int]:
        """The generations that this code knows, its own and all before it, with their versions."""
        return {self.generation_of(version): version for version in range(1, self.version + 1)}

    @property
    def predecessors(self) -> list[str]:
        """The generations before that of this version."""
        return [self.generation_of(version) for version in range(1, self.version)]

    def generation_of(self, version: int) -> str:
        """Name under which records and audit of a version are stored."""
        return f"{self.name}.v{version}"

    def on(self, model: type[Event], *, late: Late = "supersede") -> Callable[[Any], Any]:
        """Decorator that makes a function, or an `UpdateProcessor` object, the rule of an event.

        Args:
            model: a registered event model.
            late: what happens to a field that a later fact asserted already: `supersede` keeps it, `apply` overwrites
                it.

        Raises:
            RuleDefinitionError: the event has a rule already, or what is decorated is neither of the two.
            RegistrationError: the model is not registered.
        """
        event_type = self.events.type_of(model).name

        def decorate(rule: Any) -> Any:
            if event_type in self.rules:
                raise RuleDefinitionError(f"{event_type} has a rule already: {self.rules[event_type].name}.")
            if isinstance(rule, UpdateProcessor):
                process = rule.process_message
                name = type(rule).__name__
                self.rules[event_type] = Rule(name, lambda record, event: process(event, record), late, type(rule))
            elif (
                callable(rule)
                and hasattr(rule, "__name__")
                and not (isinstance(rule, type) or iscoroutinefunction(rule))
            ):
                self.rules[event_type] = Rule(rule.__name__, rule, late, rule)
            else:
                raise RuleDefinitionError(f"{event_type}: a function or an UpdateProcessor object was expected.")
            return rule

        return decorate

    def build(self, client_id: str, values: Values) -> Schema:
        """The record with these values, as its model.

        Raises:
            InvalidClientIdError: the text is no id of the schema.
            pydantic.ValidationError: they do not fit the schema.
        """
        return self.layout.build(client_id, values)

    def contents(self, record: UnifiedSchema) -> dict[str, Json]:
        """A record by sub-schema as JSON, as topic and queries show it."""
        return self.layout.contents(record)
