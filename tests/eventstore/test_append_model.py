"""Appending compared with a model that fits on a page: any calls, in any order, with any repeats."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from eventstore import (
    ANY,
    EventData,
    EventIdReusedError,
    ExpectedVersion,
    SqliteEventStore,
    WrongExpectedVersionError,
    open_events,
)
from tests.support.events import email, is_intact

CLIENTS = ("c1", "c2")
CALLS = st.lists(
    st.builds(
        lambda key, variant: email(key, address=f"{variant}@x.example"), st.integers(0, 9), st.sampled_from("aab")
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda event: event.event_id,
)


class Appending(RuleBasedStateMachine):
    """The store and a model: for each client a list of (event id, address)."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        self.database = open_events(Path(self.directory.name))
        self.store = SqliteEventStore(self.database)
        self.model: dict[str, list[tuple[str, str]]] = {client_id: [] for client_id in CLIENTS}

    @rule(client_id=st.sampled_from(CLIENTS), events=CALLS, expected=st.just(ANY) | st.integers(0, 6))
    def append(self, client_id: str, events: list[EventData], expected: ExpectedVersion) -> None:
        stream = self.model[client_id]
        known = dict(stream)
        asked = [(event.event_id, event.data["email"]) for event in events]
        reused = any(known.get(event_id, address) != address for event_id, address in asked)
        fresh = [(event_id, address) for event_id, address in asked if event_id not in known]
        wrong = bool(fresh) and expected is not ANY and expected != len(stream)
        if reused:
            with pytest.raises(EventIdReusedError):
                self.store.append(client_id, events, expected_version=expected)
        elif wrong:
            with pytest.raises(WrongExpectedVersionError) as caught:
                self.store.append(client_id, events, expected_version=expected)
            assert caught.value.actual == len(stream)
        else:
            appended = self.store.append(client_id, events, expected_version=expected)
            assert appended.duplicates == {event_id for event_id, _ in asked if event_id in known}
            stream += fresh
            versions = {event_id: number for number, (event_id, _) in enumerate(stream, start=1)}
            assert [event.version for event in appended.events] == [versions[event_id] for event_id, _ in asked]

    @rule()
    def reopen(self) -> None:
        self.database.close()
        self.database = open_events(Path(self.directory.name))
        self.store = SqliteEventStore(self.database)

    @invariant()
    def streams_are_those_of_the_model(self) -> None:
        for client_id, expected in self.model.items():
            stream = list(self.store.read(client_id))
            assert [(event.event_id, event.data["email"]) for event in stream] == expected
            assert is_intact(stream)
            assert self.store.head(client_id).version == len(expected)

    def teardown(self) -> None:
        self.database.close()
        self.directory.cleanup()


TestAppending = Appending.TestCase
TestAppending.settings = settings(max_examples=30, stateful_step_count=20, deadline=None, derandomize=True)
TestAppending.__doc__ = "Whatever is appended, repeated or reused, streams hold what the model says and stay intact."
