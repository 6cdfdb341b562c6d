"""Deliveries through session queues, on SQLite and on Service Bus: the same as over HTTP, whatever happens between."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import orjson
import pytest

from eventstore import ContentionError, RecordedEvent, StoreUnavailableError
from functions_app import Delivered, Fact, PayloadKey, Receiver, Runtime
from functions_app.intake import Trace
from functions_app.queue_intake import patience
from integrations import QueuedMessage, ServiceBusSessionQueues, SqliteSessionQueues, open_deliveries
from tests.support import accounts
from tests.support.flow import Clock, Flow, listening, now, open_flow, serving
from tests.support.queues import (
    QUEUES,
    Interposed,
    also,
    by_header,
    consuming,
    direct,
    domain,
    first,
    keyless,
    look_briefly,
    message,
    note,
    noted,
    queue_namespace,
    take_all,
)
from tests.support.waiting import PATIENCE, wait_until
from tests.wire.servicebus import Broker, fast_polling, leaked_sockets_ignored

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class World(NamedTuple):
    runtime: Runtime
    pass_time: Callable[[float], None]
    take_away: Callable[[], None]  # the queues are out of reach from now on


@pytest.fixture(scope="module", name="running")
def _running() -> Iterator[Broker]:
    with fast_polling(), Broker(queue_namespace(*QUEUES, deliveries=2)) as broker:
        yield broker


@contextmanager
def on_sqlite(directory: Path) -> Iterator[World]:
    clock = Clock()
    database = open_deliveries(directory)

    def pass_time(seconds: float) -> None:
        clock.ahead += timedelta(seconds=seconds)

    with (
        closing(database),
        closing(open_flow(directory, domain, queues=SqliteSessionQueues(database, clock=clock))) as it,
    ):
        yield World(it, pass_time, database.close)


@contextmanager
def on_the_bus(directory: Path, broker: Broker) -> Iterator[World]:
    with leaked_sockets_ignored(), ExitStack() as stack:
        broker.reset()

        def take_away() -> None:
            broker.stop()
            stack.callback(broker.start)

        queues = stack.enter_context(closing(ServiceBusSessionQueues(broker.connection_string)))
        runtime = stack.enter_context(closing(open_flow(directory, domain, queues=queues)))
        yield World(runtime, broker.advance, take_away)


@pytest.fixture(params=["sqlite", pytest.param("servicebus", marks=pytest.mark.servicebus_wire)])
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    look_briefly(monkeypatch)
    opened = (
        on_sqlite(tmp_path) if request.param == "sqlite" else on_the_bus(tmp_path, request.getfixturevalue("running"))
    )
    with opened as world:
        yield world


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[World]:
    """For what does not depend on the queue."""
    with on_sqlite(tmp_path) as world:
        yield world


@pytest.fixture
def local(quick: World) -> Runtime:
    return quick.runtime


@pytest.fixture
def runtime(world: World) -> Runtime:
    return world.runtime


@pytest.fixture
def flow(runtime: Runtime) -> Iterator[Flow]:
    with serving(runtime) as served:
        yield served


def stored(runtime: Runtime, number: int = 1) -> list[RecordedEvent]:
    return list(runtime.backend.events.read(f"ES.{number}"))


def rejections(runtime: Runtime) -> list[tuple[str, str]]:
    return [(each.source, each.code) for each in runtime.backend.rejections.open()]


def is_empty(runtime: Runtime, receiver: Receiver) -> bool:
    session = runtime.backend.queues.next_session(receiver.queue_name, wait=0)
    if session is not None:
        session.close()
    return session is None


class TestQueueFirst:
    def test_a_request_is_answered_when_it_is_in_the_queue(self, flow: Flow) -> None:
        """202 tells what it will become; it becomes that when its message is taken."""
        answer = flow.post("first", note(1, "a", "k1"))
        assert answer.status_code == 202
        assert answer.json() == {
            "queued": True,
            "events": [{"client_id": "ES.1", "event_id": "first:k1", "event_type": "account.noted"}],
        }
        assert stored(flow.runtime) == []
        take_all(flow.runtime, first)
        assert [(each.event_id, each.data["note"]) for each in stored(flow.runtime)] == [("first:k1", "a")]

    def test_requests_are_checked_before(self, flow: Flow) -> None:
        """Bad input gets its answer at once and puts nothing into the queue."""
        assert flow.post("first", {"number": 7}).status_code == 422
        assert flow.post("first", note(1, "a")).status_code == 400
        assert flow.send("first", b"{}", {"Content-Type": "application/json"}).status_code == 401
        assert is_empty(flow.runtime, first)

    def test_a_repeat_is_one_event(self, flow: Flow) -> None:
        """Within the queue's window it is dropped; another way it may come is known to the event store."""
        for _ in range(2):
            assert flow.post("first", note(1, "a", "k1")).status_code == 202
        session = flow.runtime.backend.queues.next_session(first.queue_name, wait=0)
        assert session is not None
        with closing(session):
            queued = session.receive()
            assert queued is not None
            for _ in range(2):
                flow.runtime.queue_intake.take(first, queued, lambda _: False)
            session.complete(queued)
            assert session.receive() is None
        assert noted(flow.runtime, 1) == ["a"]

    def test_a_key_with_other_content_is_not_dropped(self, flow: Flow) -> None:
        """It comes through the queue and is kept as a rejection, as it cannot be an event."""
        for text in ("a", "b"):
            assert flow.post("first", note(1, text, "k1")).status_code == 202
            take_all(flow.runtime, first)
        assert noted(flow.runtime, 1) == ["a"]
        assert rejections(flow.runtime) == [("first", "event_id_reused")]

    def test_a_batch_tells_each_item(self, flow: Flow) -> None:
        """What is right goes into the queue, in order; what is wrong is told."""
        items = [note(1, "a", "k1"), {"number": 7}, note(2, "b", "k2"), note(1, "c", "k3")]
        answer = flow.post("first", items)
        assert answer.status_code == 207
        assert [(each["status"], each.get("queued")) for each in answer.json()["results"]] == [
            (202, True),
            (422, None),
            (202, True),
            (202, True),
        ]
        take_all(flow.runtime, first)
        assert (noted(flow.runtime, 1), noted(flow.runtime, 2)) == (["a", "c"], ["b"])

    def test_without_a_key_each_request_is_an_event(self, flow: Flow) -> None:
        """And its message remains that event, however often it is taken."""
        answers = [flow.post("keyless", note(1, "a")) for _ in range(2)]
        session = flow.runtime.backend.queues.next_session(keyless.queue_name, wait=0)
        assert session is not None
        with closing(session):
            queued = session.receive()
            assert queued is not None
            for _ in range(3):
                flow.runtime.queue_intake.take(keyless, queued, lambda _: False)
        take_all(flow.runtime, keyless)
        told = [event["event_id"] for answer in answers for event in answer.json()["events"]]
        assert [each.event_id for each in stored(flow.runtime)] == told

    def test_a_key_of_a_header_survives(self, flow: Flow) -> None:
        """So do correlation id and trace context, and the time of receipt is that of the queue."""
        headers = {"X-Delivery": "d1", "X-Correlation-Id": "request-9", "traceparent": TRACEPARENT}
        before = now() - timedelta(seconds=1)
        assert flow.post("by_header", [note(1, "a"), note(1, "b")], headers).status_code == 207
        take_all(flow.runtime, by_header)
        events = stored(flow.runtime)
        assert [each.event_id for each in events] == ["by_header:d1-0", "by_header:d1-1"]
        assert {(each.correlation_id, each.traceparent) for each in events} == {("request-9", TRACEPARENT)}
        assert all(before <= datetime.fromisoformat(each.occurred_at) <= now() for each in events)

    def test_what_does_not_fit_a_message_is_refused(self, flow: Flow) -> None:
        """At once, with 413, instead of when nobody listens any more."""
        answer = flow.post("first", note(1, "x" * 250 * 1024, "k1"))
        assert (answer.status_code, answer.json()["code"]) == (413, "message_too_large")

    def test_a_queue_out_of_reach_is_told(self, world: World, flow: Flow) -> None:
        """503 with the time after which a retry makes sense; nothing is claimed to be queued."""
        world.take_away()
        answer = flow.post("first", note(1, "a", "k1"))
        assert (answer.status_code, answer.json()["code"]) == (503, "queue_unavailable")
        assert int(answer.headers["Retry-After"]) >= 1

    def test_others_need_no_queue(self, world: World, flow: Flow) -> None:
        """A receiver with `also`, or without any, stores its requests at once, queue or not."""
        world.take_away()
        for source in ("also", "direct"):
            assert flow.post(source, note(1, source, "k1")).json()["events"][0]["duplicate"] is False
        assert noted(flow.runtime, 1) == ["also", "direct"]


class TestTaking:
    def test_messages_of_others_are_taken_like_requests(self, runtime: Runtime) -> None:
        """In the order of their session; a repeat after the queue forgot it changes nothing."""
        send = runtime.backend.queues.send
        send(also.queue_name, [message(note(1, "a", "k1")), message(note(1, "b", "k2"))])
        take_all(runtime, also)
        send(also.queue_name, [message(note(1, "a", "k1"), message_id="again")])
        take_all(runtime, also)
        assert noted(runtime, 1) == ["a", "b"]
        assert runtime.intake.accept(also, Delivered(note(1, "a", "k1")))[0].duplicate

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b"", "empty_body"),
            (b"\xff no JSON", "malformed_json"),
            (b'{"number":"1","number":"2"}', "malformed_json"),
            (orjson.dumps({"number": 1}), "invalid_payload"),
            (orjson.dumps(note(1, "raise", "k1")), "processor_raised"),
            (orjson.dumps(note(1, "a")), "event_key_missing"),
            (orjson.dumps([note(1, "a", "k1")]), "invalid_payload"),
        ],
    )
    def test_an_invalid_message_becomes_a_rejection(self, local: Runtime, body: bytes, code: str) -> None:
        """One, however often it comes; the next message of its session is taken."""
        bad, good = message(body, message_id="bad"), message(note(1, "good", "k2"))
        local.backend.queues.send(also.queue_name, [bad, good])
        queued = QueuedMessage(bad, now(), 1, "lock")
        local.queue_intake.take(also, queued, lambda _: False)
        take_all(local, also)
        assert rejections(local) == [("also", code)]
        assert noted(local, 1) == ["good"]

    def test_a_rejection_can_be_replayed(self, local: Runtime) -> None:
        """Under the key it came with, as soon as what was wrong is mended."""
        local.backend.queues.send(also.queue_name, [message(note(1, "raise", None), event_key="k7")])
        take_all(local, also)
        [kept] = local.backend.rejections.open()
        assert (kept.key, kept.code) == ("k7", "processor_raised")
        told = Fact(accounts.AccountId(country="ES", number="1"), accounts.Noted(note="mended"))
        mended = replace(domain, receivers=[replace(also, process=lambda _: [told])])
        Runtime(mended, local.settings, local.backend).replay(kept.number)
        assert [(each.event_id, each.data["note"]) for each in stored(local)] == [("also:k7", "mended")]

    def test_a_message_without_any_identity_is_refused(self, local: Runtime) -> None:
        """A source without keys is recognised by its message id; without one a repeat could not be told apart."""
        queued = QueuedMessage(message(note(1, "a"))._replace(message_id=""), now(), 1, "lock")
        local.queue_intake.take(keyless, queued, lambda _: False)
        assert rejections(local) == [("keyless", "event_key_missing")]
        named = queued._replace(message=queued.message._replace(message_id="m-1"))
        for _ in range(2):
            local.queue_intake.take(keyless, named, lambda _: False)
        assert [each.event_id for each in stored(local)] == ["keyless:m-1"]

    def test_a_message_over_the_limit_is_refused(self, local: Runtime) -> None:
        """The receiver's own limit counts for messages, too."""
        small = Receiver(
            name="small", payload=also.payload, process=also.process, key=also.key, max_bytes=20, queue="also"
        )
        local.queue_intake.take(small, QueuedMessage(message(note(1, "a", "k")), now(), 1, "l"), lambda _: False)
        assert rejections(local) == [("small", "body_too_large")]

    def test_an_outage_is_waited_for(self, local: Runtime) -> None:
        """Longer each time; when the store is back, the message is taken."""
        errors = iter([StoreUnavailableError("busy"), ContentionError("ES.1", 8), StoreUnavailableError("busy")])
        paused: list[float] = []

        def pause(seconds: float) -> bool:
            paused.append(seconds)
            return True

        def out_of_order(_: str) -> None:
            if (error := next(errors, None)) is not None:
                raise error

        interposed = _on(local, out_of_order)
        queued = QueuedMessage(message(note(1, "a", "k1")), now(), 1, "lock")
        interposed.queue_intake.take(also, queued, pause)
        assert paused == [1.0, 1.0, 2.0]
        assert noted(local, 1) == ["a"]

    def test_patience_ends(self, local: Runtime) -> None:
        """Then the error goes to whoever holds the message, who hands it back."""

        def down(_: str) -> None:
            raise StoreUnavailableError("down", retry_after=3600)

        queued = QueuedMessage(message(note(1, "a", "k1")), now(), 1, "lock")
        waited: list[float] = []
        pause = patience(20, waited.append)
        assert pause(15)
        with pytest.raises(StoreUnavailableError):
            _on(local, down).queue_intake.take(also, queued, lambda _: pause(25))
        assert waited == [15]


def _on(runtime: Runtime, before: Callable[[str], None], after: Callable[[str], None] = lambda _: None) -> Runtime:
    """The same application on a store that does something around each append."""
    events: Any = Interposed(runtime.backend.events, before, after)
    return Runtime(runtime.domain, runtime.settings, runtime.backend._replace(events=events))


class TestDeadLetters:
    def kill(self, runtime: Runtime, document: Any, number: int = 1) -> None:
        """Send a message and hand it back until it is dead."""
        queues = runtime.backend.queues
        queues.send(also.queue_name, [message(document, session_id=f"ES.{number}")])
        session = queues.next_session(also.queue_name, wait=0)
        assert session is not None
        with closing(session):
            while (queued := session.receive()) is not None:
                session.abandon(queued)

    def test_the_sweep_takes_them_in_their_order(self, flow: Flow) -> None:
        """Newer messages may have gone before; nothing is lost, and what was invalid is a rejection."""
        runtime = flow.runtime
        for number, document in enumerate([note(1, "a", "k1"), {"number": 1}, note(1, "b", "k2")], 1):
            self.kill(runtime, document, 1 if number != 2 else 9)
        runtime.backend.queues.send(also.queue_name, [message(note(1, "new", "k3"))])
        take_all(runtime, also)
        assert flow.fire("sweep").status_code == 202
        wait_until("the dead letters are taken", lambda: len(noted(runtime, 1)) == 3 and rejections(runtime) != [])
        assert [text for text in noted(runtime, 1) if text != "new"] == ["a", "b"]
        assert rejections(runtime) == [("also", "invalid_payload")]

    def test_the_time_of_receipt_survives(self, world: World) -> None:
        """A fact without a time of its own is as old as its request, so that it does not win over a newer one."""
        runtime, queues = world.runtime, world.runtime.backend.queues
        received = datetime(2026, 5, 1, 12, tzinfo=UTC)
        early = Runtime(runtime.domain, runtime.settings, runtime.backend, clock=lambda: received)
        early.queue_intake.send(first, [Delivered(note(1, "old", "k1"))], Trace())
        session = queues.next_session(first.queue_name, wait=0)
        assert session is not None
        with closing(session):
            while (queued := session.receive()) is not None:
                session.abandon(queued)
        runtime.intake.accept(direct, Delivered(note(1, "new", "k2")))
        runtime.drain_queues()
        assert noted(runtime, 1) == ["new", "old"]
        assert stored(runtime)[1].occurred_at == "2026-05-01T12:00:00.000000Z"
        runtime.sweep()
        assert runtime.reader.current("ES.1").model.model_dump()["notes"] == {"last": "new"}

    @pytest.mark.parametrize("nonsense", ["yesterday", "2026-05-01T12:00:00", ""])
    def test_a_time_of_receipt_that_is_none(self, local: Runtime, nonsense: str) -> None:
        """Then it is that of the queue."""
        sent = message(note(1, "a", "k1"), received_at=nonsense)
        noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
        local.queue_intake.take(also, QueuedMessage(sent, noon, 1, "lock"), lambda _: False)
        assert stored(local)[0].occurred_at == "2026-05-01T12:00:00.000000Z"

    def test_one_client_does_not_hold_up_the_others(self, quick: World) -> None:
        """The contended client's messages stay, in their order; the others are taken."""
        runtime = quick.runtime
        for number, key in ((1, "k1"), (1, "k2"), (2, "k3")):
            self.kill(runtime, note(number, key, key), number)
        lost = [ContentionError("ES.1", 8)]

        def contended(client_id: str) -> None:
            if client_id == "ES.1" and lost:
                raise lost.pop()

        _on(runtime, contended).drain_queues()
        assert (noted(runtime, 1), noted(runtime, 2)) == ([], ["k3"])
        quick.pass_time(120)
        runtime.drain_queues()
        assert noted(runtime, 1) == ["k1", "k2"]

    def test_an_outage_leaves_them_where_they_are(self, world: World) -> None:
        """Queue and store may both be away; the sweep goes on with its other work and finds them later."""
        runtime = world.runtime
        self.kill(runtime, note(1, "a", "k1"))

        def down(_: str) -> None:
            raise StoreUnavailableError("down")

        with listening() as heard:
            _on(runtime, down).drain_queues()
        assert "left to the next sweep" in heard.text
        assert "ES.1" not in heard.text
        world.pass_time(120)
        runtime.drain_queues()
        assert noted(runtime, 1) == ["a"]
        world.take_away()
        runtime.drain_queues()

    def test_what_fails_for_good_becomes_a_rejection(self, local: Runtime) -> None:
        """Nobody looks into dead letters, but into rejections; the log has the reference, and no value."""
        self.kill(local, note(1, "a", "k1"))

        def broken(_: str) -> None:
            raise RuntimeError("Canary7")

        with listening() as heard:
            _on(local, broken).drain_queues()
        [kept] = local.backend.rejections.open()
        assert (kept.code, orjson.loads(kept.payload)) == ("append_failed", note(1, "a", "k1"))
        assert kept.problems[0].split("reference ")[1] in heard.text
        assert "Canary7" not in heard.text
        local.replay(kept.number)
        assert noted(local, 1) == ["a"]


class TestConsumers:
    def test_sessions_go_side_by_side_each_in_its_order(self, runtime: Runtime) -> None:
        """A client whose message hangs holds up no other, and of each client one message is in work at a time."""
        hanging, release = Event(), Event()
        working: set[str] = set()

        def enter(client_id: str) -> None:
            assert client_id not in working
            working.add(client_id)
            if client_id == "ES.0":
                hanging.set()
                assert release.wait(PATIENCE)

        slow = _on(runtime, enter, working.discard)
        messages = [
            message(note(number, step, f"k{number}-{step}"), session_id=f"ES.{number}")
            for step in range(3)
            for number in range(5)
        ]
        runtime.backend.queues.send(also.queue_name, messages)
        with consuming(slow):
            assert hanging.wait(PATIENCE)
            wait_until("the others are done", lambda: all(len(noted(runtime, n)) == 3 for n in range(1, 5)))
            assert noted(runtime, 0) == []
            release.set()
            wait_until("all are done", lambda: len(noted(runtime, 0)) == 3)
        assert all(noted(runtime, number) == [0, 1, 2] for number in range(5))
        assert is_empty(runtime, also)

    def test_stopping_leaves_the_rest_in_the_queue(self, world: World) -> None:
        """The message in work goes back without counting, even in the middle of an outage; the next start takes it."""
        runtime = world.runtime
        tried = Event()

        def down(_: str) -> None:
            tried.set()
            raise StoreUnavailableError("down", retry_after=3600)

        runtime.backend.queues.send(also.queue_name, [message(note(1, "a", "k1")), message(note(1, "b", "k2"))])
        with consuming(_on(runtime, down)) as stop:
            assert tried.wait(PATIENCE)
            stop.set()
        session = runtime.backend.queues.next_session(also.queue_name, wait=0)
        assert session is not None
        with closing(session):
            queued = session.receive()
            assert queued is not None
            assert queued.delivery_count == 1
        with consuming(runtime):
            wait_until("both are taken", lambda: noted(runtime, 1) == ["a", "b"])

    def test_a_message_that_fails_is_tried_again_and_buried(self, local: Runtime) -> None:
        """An error nobody foresaw costs so many tries and holds up nothing for longer; the sweep makes it a rejection."""

        def broken(client_id: str) -> None:
            if client_id == "ES.1":
                raise RuntimeError("Canary7")

        failing = _on(local, broken)
        queues = local.backend.queues
        queues.send(also.queue_name, [message(note(1, "a", "k1")), message(note(2, "b", "k2"), session_id="ES.1")])
        with listening() as heard, consuming(failing):
            wait_until("the next one is taken", lambda: noted(local, 2) == ["b"])
            failing.drain_queues()
        assert "Canary7" not in heard.text
        assert "ES.1" not in heard.text
        assert rejections(local) == [("also", "append_failed")]

    def test_an_outage_longer_than_the_lock(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """The lock is renewed between two tries, so nobody else gets the message meanwhile."""
        monkeypatch.setattr("functions_app.queue_intake._FIRST_PAUSE", 0.001)
        tries: list[str] = []

        def down(client_id: str) -> None:
            tries.append(client_id)
            world.pass_time(40)
            if len(tries) < 4:
                raise StoreUnavailableError("down", retry_after=0.001)

        runtime = world.runtime
        runtime.backend.queues.send(also.queue_name, [message(note(1, "a", "k1"))])
        with consuming(_on(runtime, down)):
            wait_until("it is taken", lambda: noted(runtime, 1) == ["a"])
        assert len(tries) == 4
        assert is_empty(runtime, also)

    def test_a_lost_lock_loses_nothing(self, world: World) -> None:
        """Somebody else gets the message while the first one is still at it: one event, and the queue is empty."""
        runtime = world.runtime
        inside, release = Event(), Event()

        def slow(_: str) -> None:
            inside.set()
            assert release.wait(PATIENCE)

        runtime.backend.queues.send(also.queue_name, [message(note(1, "a", "k1"))])
        with consuming(_on(runtime, lambda _: None, slow)):
            assert inside.wait(PATIENCE)
            world.pass_time(120)
            take_all(runtime, also)
            release.set()
        assert noted(runtime, 1) == ["a"]
        assert is_empty(runtime, also)

    def test_the_host_takes_messages(self, runtime: Runtime) -> None:
        """With its loops running, what was queued over HTTP ends in the record."""
        with serving(runtime, loops=True) as flow:
            assert flow.post("first", note(1, "a", "k1")).status_code == 202
            wait_until("it is in the record", lambda: flow.get("clients/ES.1").status_code == 200)
            assert flow.get("clients/ES.1").json()["record"]["notes"] == {"last": "a"}


def test_a_delivery_about_nobody_needs_no_message(runtime: Runtime) -> None:
    """What gives no event leaves nothing in the queue."""
    silent = Receiver(
        name="first", payload=first.payload, process=lambda _: [], key=PayloadKey("meta.id"), queue="first"
    )
    [queued] = runtime.queue_intake.send(silent, [Delivered(note(1, "a", "k1"))], Trace())
    assert not queued.events  # type: ignore[union-attr]
    assert is_empty(runtime, first)
