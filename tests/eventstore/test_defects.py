"""Defects that a system of this kind was seen to have; each has a test that it is not here."""

import string
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from pydantic import ValidationError

from eventstore import (
    ANY,
    ClientId,
    Event,
    EventRegistry,
    EventStoreError,
    InvalidClientIdError,
    InvalidPayloadError,
    SqliteEventStore,
    open_events,
)
from tests.support.events import PersonId, email, emails


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteEventStore]:
    database = open_events(tmp_path)
    yield SqliteEventStore(database)
    database.close()


def test_a_quote_in_an_id_finds_its_client_only(store: SqliteEventStore) -> None:
    """Defect 7: an id with a quote breaks the query or widens it to all clients."""
    tricky = str(PersonId(document_type="CC", number="' OR '1'='1"))
    store.append("CC.7", emails(1), expected_version=ANY)
    assert list(store.read(tricky)) == []
    store.append(tricky, emails(2), expected_version=ANY)
    assert [event.event_id for event in store.read(tricky)] == ["crm:2"]
    with pytest.raises(InvalidClientIdError):
        next(store.read("CC.' OR '1'='1"), None)


def test_separators_in_values_neither_break_nor_merge_ids() -> None:
    """Defect 8: a value containing the separator cannot be read back; different ids collide into one string."""
    values = ["a", "a.b", ".", "..", "~", "~2E", "a~2Eb", "-", "_", "/", " "]
    ids = [PersonId(document_type=kind, number=number) for kind, number in product(values, values)]
    texts = [str(each) for each in ids]
    assert len(set(texts)) == len(ids)
    assert [PersonId.parse(text) for text in texts] == ids


def test_parsing_leaves_the_class_alone() -> None:
    """Defect 9: parsing an id changes the id class itself for the whole process."""

    class TaxId(ClientId):
        country: str
        number: int

    before = (TaxId.part_names, dict(TaxId.model_fields), TaxId.model_json_schema(), PersonId.part_names)
    TaxId.parse("CO.900")
    with pytest.raises(InvalidClientIdError):
        TaxId.parse("CO")
    assert (TaxId.part_names, dict(TaxId.model_fields), TaxId.model_json_schema(), PersonId.part_names) == before
    assert str(TaxId(country="CO", number=1)) == "CO.1"


def test_an_id_has_parts() -> None:
    """Defect 10: an id without parts is accepted."""
    with pytest.raises(InvalidClientIdError):
        type("Nobody", (ClientId,), {})
    with pytest.raises(InvalidClientIdError):
        PersonId.parse("")
    with pytest.raises(ValidationError):
        PersonId.model_validate({})
    with pytest.raises(ValidationError):
        PersonId(document_type="", number="")


def test_an_event_is_what_its_name_says() -> None:
    """Defect 11: the first model that validates wins, and a bad field becomes "no rule found" with the payload."""
    registry = EventRegistry()

    @registry.register("client.married")
    class Married(Event):
        name: str

    @registry.register("client.divorced")
    class Divorced(Event):
        name: str

    assert type(registry.decode("client.married", 1, {"name": "n"})) is Married
    assert type(registry.decode("client.divorced", 1, {"name": "n"})) is Divorced
    with pytest.raises(InvalidPayloadError) as caught:
        registry.decode("client.divorced", 1, {"name": ["secret"]})
    assert caught.value.problems == (("name", "string type"),)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("client_id", ["", "a b", "x" * 97])
@pytest.mark.parametrize("keys", [[], [1, 1], range(101)])
def test_bad_input_is_an_error_of_this_package(store: SqliteEventStore, client_id: str, keys: list[int]) -> None:
    """Defect 20: invalid input becomes HTTP 500; here every refusal is a class that an edge can tell apart."""
    for wrong_client, wrong_keys in ((client_id, [1]), ("c1", keys)):
        with pytest.raises(EventStoreError) as caught:
            store.append(wrong_client, emails(*wrong_keys), expected_version=ANY)
        assert type(caught.value) is not EventStoreError
    assert list(store.feed("all", after=None, limit=1).events) == []


SPEAK = """
import sys
from tests.support.events import PersonId
for text in sys.argv[1:]:
    PersonId.parse(text)
print(str(PersonId(document_type="CC", number="10.20 ~ñ")))
"""


def test_one_client_has_one_text_whatever_happened_before() -> None:
    """Defect 21: the session id of one client depends on what the process has parsed before."""
    texts = set()
    for parsed_before in ([], ["CC.1"], ["a~2Eb.~C3~B1", "CC.10~2E20"]):
        command = [sys.executable, "-c", SPEAK, *parsed_before]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True, cwd=Path(__file__).parents[2]
        )
        texts.add(done.stdout.strip())
    assert texts == {"CC.10~2E20~20~7E~C3~B1"}
    assert set(texts.pop()) <= set(string.ascii_letters + string.digits + ".~-_")


def test_one_bad_call_does_not_drop_the_rest(store: SqliteEventStore) -> None:
    """Defect 22: one failed send drops the rest of a pulled batch."""
    store.append("c1", [email(3, address="first@x.example")], expected_version=ANY)
    refused = []
    for number in range(6):
        try:
            store.append("c1", emails(number), expected_version=ANY)
        except EventStoreError:
            refused.append(number)
    assert refused == [3]
    assert {event.event_id for event in store.read("c1")} == {f"crm:{number}" for number in range(6)}
