"""What went wrong in the system before this one, shown not to go wrong here."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest
from azure.functions.servicebus import ServiceBusMessage
from pydantic import SecretStr

from eventstore import SqliteDatabase
from integrations import (
    Deliverer,
    DeliveryResult,
    Integration,
    OAuth2Password,
    RESTIntegration,
    SqliteTopic,
    open_deliveries,
    read_announcement,
    topic_message,
)
from projections import OutboxEntry
from tests.integrations.world import Clock, TargetDouble, World, mail
from tests.support.rest_target import Fault, RestTarget


def entry(client_id: str, seq: int) -> OutboxEntry:
    at = "2026-01-31T12:00:00.000000Z"
    return OutboxEntry(client_id, "clients", 1, seq, seq - 1, seq, at, {"contact": {"email": "a@x"}}, ())


def crm(target: RestTarget) -> RESTIntegration:
    return RESTIntegration(
        target.url, create="POST /contacts", update="PUT /contacts/{remote}", retract="DELETE /contacts/{remote}"
    )


def test_messages_have_a_session_and_an_id_of_their_own() -> None:
    """Defect 14: a topic message carries the client as session, and the same id whenever it is sent again."""
    first, again = (topic_message(entry("c1", 1), source="/x") for _ in range(2))
    assert first.session_id == "c1"
    assert first.message_id == again.message_id
    assert first.message_id != topic_message(entry("c1", 2), source="/x").message_id


def test_a_log_entry_does_not_replace_the_one_before(rest: RestTarget, database: SqliteDatabase, clock: Clock) -> None:
    """Defect 15: each delivery of a client stays in the log, oldest to newest."""
    world = World(database, clock, strategy=crm(rest))
    for email in ("a@x", "b@x", "c@x"):
        world.announce("c1", email)
        world.deliverer.deliver("c1", "crm")
    assert [orjson.loads(each.body)["email"] for each in world.log()] == ["a@x", "b@x", "c@x"]


def test_clients_handled_at_once_do_not_mix(rest: RestTarget, database: SqliteDatabase, clock: Clock) -> None:
    """Defect 16: one strategy serves many clients at once, and each log holds its own client only."""
    world = World(database, clock, strategy=crm(rest))
    clients = [f"c{number}" for number in range(32)]
    for client_id in clients:
        world.announce(client_id, f"{client_id}@x")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda client_id: world.deliverer.deliver(client_id, "crm"), clients))
    world.deliverer.deliver_due()
    for client_id in clients:
        (logged,) = world.log(client_id)
        assert orjson.loads(logged.body) == {"email": f"{client_id}@x"}
        assert orjson.loads(logged.answer) == {"id": world.state(client_id).remote, "email": f"{client_id}@x"}


def test_an_empty_answer_is_an_answer(database: SqliteDatabase, clock: Clock) -> None:
    """Defect 17: a success without a body is not called again."""
    with RestTarget(empty_answers=True) as target:
        world = World(database, clock, strategy=crm(target))
        world.announce("c1", "a@x")
        assert world.deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED
        assert world.deliverer.deliver("c1", "crm") is DeliveryResult.IDLE
        assert len(target.requests) == 1


def test_a_call_that_fails_for_good_is_in_the_log(rest: RestTarget, database: SqliteDatabase, clock: Clock) -> None:
    """Defect 17: a refusal leaves an entry with what was sent and what was answered."""
    world = World(database, clock, strategy=crm(rest))
    world.announce("c1", "a@x")
    rest.script(Fault(status=422, body=b"no such domain"))
    world.deliverer.deliver("c1", "crm")
    (logged,) = world.log()
    assert (logged.verdict, logged.status, logged.body, logged.answer) == (
        "failed",
        422,
        '{"email":"a@x"}',
        "no such domain",
    )


def test_the_message_of_the_functions_host_can_be_read() -> None:
    """Defect 18: what the host passes to a function is understood."""
    sent = topic_message(entry("c1", 3), source="/x")
    passed = ServiceBusMessage(
        body=sent.body,
        message_id=sent.message_id,
        session_id=sent.session_id,
        application_properties=dict(sent.properties),
        user_properties=dict(sent.properties),
    )
    assert read_announcement(passed.get_body())[:2] == ("c1", 3)


def test_credentials_stay_out_of_addresses_and_answers_in_the_log(database: SqliteDatabase, clock: Clock) -> None:
    """Defect 19: the token is asked for without secrets in the URL, and what the usual processor gives is logged."""
    with RestTarget(users={"ana": "canary-password"}) as target:
        auth = OAuth2Password(target.token_url, "ana", SecretStr("canary-password"))
        strategy = RESTIntegration(target.url, create="POST /contacts", auth=auth)
        world = World(database, clock, strategy=strategy)
        world.announce("c1", "a@x")
        assert world.deliverer.deliver("c1", "crm") is DeliveryResult.DELIVERED
        assert "canary" not in target.token_requests[0].path
    (logged,) = world.log()
    assert (logged.request, logged.answer) == ("POST /contacts", '{"id":"1","email":"a@x"}')


def test_topics_are_independent(tmp_path: Path) -> None:
    """Defect 23: a second topic in the same process has its own messages."""
    first, second = (open_deliveries(tmp_path / name) for name in ("first", "second"))
    topics = [SqliteTopic(first), SqliteTopic(second)]
    for topic in topics:
        topic.subscribe("all", ["contact"])
    topics[0].send([topic_message(entry("c1", 1), source="/x")])
    assert [len(topic.receive("all", limit=10)) for topic in topics] == [1, 0]
    first.close()
    second.close()


def test_a_repeat_of_an_accepted_send_makes_no_copy(database: SqliteDatabase) -> None:
    """Defect 23: sending again what had been accepted does not arrive twice."""
    topic = SqliteTopic(database)
    topic.subscribe("all", ["contact"])
    for _ in range(2):
        topic.send([topic_message(entry("c1", 1), source="/x")])
    assert len(topic.receive("all", limit=10)) == 1


@pytest.mark.parametrize("trouble", [Fault(status=503), Fault(status=429, headers={"Retry-After": "600"})])
def test_a_retry_blocks_nobody_else(rest: RestTarget, database: SqliteDatabase, clock: Clock, trouble: Fault) -> None:
    """Defect 23: while one integration waits for its target, another one delivers."""
    world = World(database, clock, strategy=crm(rest))
    other = Integration(name="mailing", cares_about=("contact",), mapping=mail, strategy=TargetDouble())
    deliverer: Deliverer = world.another_deliverer(integrations=[world.integration, other])
    world.announce("c1", "a@x")
    world.store.raise_wanted("c1", {"mailing": 1}, at=clock.text)
    rest.script(trouble)
    results = deliverer.deliver_due()
    assert results == {"crm": {DeliveryResult.RETRYING: 1}, "mailing": {DeliveryResult.DELIVERED: 1}}
