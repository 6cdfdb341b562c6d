from typing import Any, Self

import pytest
from pydantic import Field, field_validator, model_validator

from eventstore import SAFE_INTEGER, Event, EventRegistry
from projections import (
    ROOT,
    Projection,
    RuleDefinitionError,
    SubSchema,
    UnifiedSchema,
    UpdateProcessor,
    empty_record,
    fold,
)
from tests.support.clients import Client, Contacted, ContactRemoved, Graded, PersonId, Scored, Visited, clients, fact
from tests.support.projecting import recorded


class Threshold(UpdateProcessor[Scored, Client]):
    """A rule with a setting."""

    def __init__(self, gold: float) -> None:
        self.gold = gold

    def process_message(self, event: Scored, current: Client) -> Client:
        """Grade by score."""
        return current.evolve(segment="gold" if event.score >= self.gold else "standard")


def test_an_update_processor_is_a_rule() -> None:
    """It is named after its class in the audit."""
    projection = Projection("clients", Client, clients.events, version=1)
    projection.on(Scored)(Threshold(gold=10))
    result = fold(projection, empty_record("1"), recorded("1", Scored(score=10)))
    assert result.record.values == {ROOT: {"segment": "gold"}}
    assert result.audit[0].rule == "Threshold"


async def asynchronous(record: Client, event: Event) -> Client:
    return record


@pytest.mark.parametrize("rule", [Threshold, asynchronous, "contacted", None, 5])
def test_what_is_no_rule_is_refused(rule: Any) -> None:
    """A class instead of its object, a coroutine function, or no function at all."""
    projection = Projection("clients", Client, clients.events, version=1)
    with pytest.raises(RuleDefinitionError, match=r"client\.scored: a function or an UpdateProcessor object"):
        projection.on(Scored)(rule)


def test_an_event_has_one_rule() -> None:
    """Defect 11: rules are chosen by event type, so two for one type are refused instead of tried in turn."""
    with pytest.raises(RuleDefinitionError, match=r"client\.contacted has a rule already: contacted"):
        clients.on(Contacted)(lambda record, event: record)


@pytest.mark.parametrize(("name", "version"), [("", 1), ("Clients", 1), ("cli ents", 1), ("a" * 41, 1), ("clients", 0)])
def test_a_projection_needs_a_plain_name_and_a_version(name: str, version: int) -> None:
    """Both become parts of document ids."""
    with pytest.raises(RuleDefinitionError):
        Projection(name, Client, clients.events, version=version)


class StrictEvent(Event):
    """Its validator fails in its own way."""

    value: int = 0

    @field_validator("value")
    @classmethod
    def _raises(cls, value: int) -> int:
        if value == 13:
            raise KeyError("a validator with a bug")
        return value


class Deep(SubSchema):
    keys: dict[str, int] = Field(default_factory=dict)


class Picky(UnifiedSchema):
    id: PersonId
    deep: Deep | None = None
    limited: str = Field(default="", max_length=3)
    whatever: Any = None


WRONG: dict[str, Any] = {"keys": "secret"}

registry = EventRegistry()
registry.register("a.strict")(StrictEvent)


def raising(error: Exception) -> Any:
    def rule(record: Picky, event: StrictEvent) -> Picky:
        raise error

    return rule


def failing_rules() -> list[tuple[str, str, Any]]:
    return [
        ("rule_raised", "rule", raising(KeyError("secret"))),
        ("rule_raised", "rule", raising(RecursionError("secret"))),
        ("rule_returned_other", "<lambda>", lambda record, event: None),
        ("rule_returned_other", "<lambda>", lambda record, event: record.model_dump()),
        ("client_id_changed", "<lambda>", lambda record, event: Picky(id=PersonId(number="2"))),
        ("invalid_evolution", "deep.nope", lambda record, event: record.evolve(deep={"nope": "secret"})),
        ("invalid_record", "limited", lambda record, event: record.evolve(limited="secret")),
        ("invalid_record", "deep.keys", lambda record, event: record.evolve(deep={"keys": {"secret": "secret"}})),
        ("invalid_record", "(whole)", lambda record, event: record.model_copy(update={"nope": "secret"})),
        ("invalid_record", "limited", lambda record, event: record.model_copy(update={"limited": "secret"})),
        ("invalid_record", "deep", lambda record, event: record.model_copy(update={"deep": "secret"})),
        (
            "invalid_record",
            "deep.keys",
            lambda r, e: r.model_copy(update={"deep": Deep.model_construct(**WRONG)}),
        ),
        ("invalid_value", "whatever", lambda record, event: record.evolve(whatever=SAFE_INTEGER + 1)),
        ("invalid_value", "whatever", lambda record, event: record.evolve(whatever=float("nan"))),
        ("invalid_value", "whatever", lambda record, event: record.evolve(whatever={"secret": float("inf")})),
        ("invalid_value", "(whole)", lambda record, event: record.evolve(whatever=object())),
    ]


@pytest.mark.parametrize(("code", "path", "rule"), failing_rules())
def test_a_failing_rule_stops_the_fold_at_its_event(code: str, path: str, rule: Any) -> None:
    """What came before is folded; the failure names the place and quotes nothing."""
    projection = Projection("picky", Picky, registry, version=1)
    projection.on(StrictEvent)(lambda record, event: rule(record, event) if event.value else record)
    rules = projection.rules
    rules["a.strict"] = rules["a.strict"]._replace(name=rule.__name__)
    template = recorded("1", Visited(), Visited(), Visited())
    stream = [event._replace(event_type="a.strict", data={"value": i}) for i, event in enumerate(template)]
    result = fold(projection, empty_record("1"), stream)
    assert result.failure is not None
    assert (result.failure.version, result.failure.code) == (2, code)
    assert [problem.split(": ")[0] for problem in result.failure.problems] == [path]
    assert "secret" not in str(result.failure)
    assert (result.record.version, len(result.audit)) == (1, 1)


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("unknown_event_type", {"event_type": "client.unheard_of"}),
        ("unknown_schema_version", {"schema_version": 9}),
        ("invalid_payload", {"data": {"email": ["secret"]}}),
        ("invalid_payload", {"event_type": "a.strict", "data": {"value": 13}}),
        ("unknown_event_type", {"event_type": "flow.event_annulled", "data": {"version": "secret"}}),
    ],
)
def test_an_event_that_cannot_be_read_stops_the_fold(code: str, changes: dict[str, Any]) -> None:
    """Unknown types and versions, payloads that do not fit, validators that raise: all are failures of the event."""
    both = EventRegistry()
    both.register("client.contacted")(Contacted)
    both.register("a.strict")(StrictEvent)
    projection = Projection("clients", Client, both, version=1)
    event = recorded("1", Contacted(email="a"))[0]._replace(**changes)
    failure = fold(projection, empty_record("1"), [event]).failure
    assert failure is not None
    assert (failure.version, failure.code) == (1, code)
    assert "secret" not in str(failure)


def test_running_out_of_memory_is_no_failure_of_the_event() -> None:
    """It has nothing to do with the client and is raised."""
    projection = Projection("clients", Client, clients.events, version=1)
    projection.on(Contacted)(raising(MemoryError()))
    with pytest.raises(MemoryError):
        fold(projection, empty_record("1"), recorded("1", Contacted()))


def test_a_merged_record_has_to_be_valid() -> None:
    """What a late removal leaves behind may be no valid sub-schema; that is a failure, not a broken record."""

    class Pair(SubSchema):
        first: str
        second: str

    class Paired(UnifiedSchema):
        id: PersonId
        pair: Pair | None = None

    projection = Projection("paired", Paired, clients.events, version=1)
    projection.on(Contacted)(lambda record, event: record.evolve(pair={"first": "a", "second": "b"}))
    projection.on(Graded)(lambda record, event: record.evolve(pair={"first": "c"}))
    projection.on(ContactRemoved)(lambda record, event: record.evolve(pair=None))
    stream = recorded(
        "1",
        fact(Contacted(), minute=1),
        fact(Graded(segment=""), minute=3),
        fact(ContactRemoved(), minute=2),
    )
    result = fold(projection, empty_record("1"), stream)
    assert result.failure == (3, "invalid_record", ("pair.second: missing",))
    assert result.record.values == {"pair": {"first": "c", "second": "b"}}


def test_a_validator_that_raises_what_it_should_not_is_a_failure_too() -> None:
    """Only with what a late removal leaves does this one stumble; the client must not stop everybody else."""

    class Pair(SubSchema):
        first: str | None = None
        second: str | None = None

        @model_validator(mode="after")
        def _buggy(self) -> Self:
            return {"ab": self, "cb": self}[f"{self.first}{self.second}"]

    class Paired(UnifiedSchema):
        id: PersonId
        pair: Pair | None = None

    projection = Projection("paired", Paired, clients.events, version=1)
    projection.on(Contacted)(lambda record, event: record.evolve(pair={"first": "a", "second": "b"}))
    projection.on(Graded)(lambda record, event: record.evolve(pair={"first": "c"}))
    projection.on(ContactRemoved)(lambda record, event: record.evolve(pair=None))
    stream = recorded(
        "1",
        fact(Contacted(), minute=1),
        fact(Graded(segment=""), minute=3),
        fact(ContactRemoved(), minute=2),
    )
    assert fold(projection, empty_record("1"), stream).failure == (3, "fold_raised", ("(whole): raised KeyError",))
