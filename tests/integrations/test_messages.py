"""Topic messages: CloudEvents, the same bytes for the same announcement."""

import orjson
import pytest

from integrations import MESSAGE_LIMIT, Announcement, InvalidMessageError, read_announcement, topic_message
from projections import ABSENT, FieldChange, OutboxEntry

SOURCE = "/client-flow/clients"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def entry(**changed: object) -> OutboxEntry:
    base = OutboxEntry(
        client_id="CC.1",
        projection="clients",
        projection_version=1,
        seq=7,
        previous_seq=6,
        version=9,
        recorded_at="2026-01-31T12:00:00.000000Z",
        contents={"contact": {"email": "b@x"}, "root": {"segment": "gold"}, "consent": None},
        changes=(
            FieldChange("contact", "email", "a@x", "b@x"),
            FieldChange("root", "segment", ABSENT, "gold"),
            FieldChange("consent", "*", {"ok": True}, ABSENT),
            FieldChange("contact", "name", None, "Ana"),
        ),
        correlation_id="request-1",
        traceparent=TRACE,
    )
    return base._replace(**changed)  # type: ignore[arg-type]  # fields by name


def test_a_message_is_a_cloud_event() -> None:
    """Required attributes, extensions and data stand where CloudEvents 1.0 wants them."""
    message = topic_message(entry(), source=SOURCE)
    assert orjson.loads(message.body) == {
        "specversion": "1.0",
        "id": message.message_id,
        "source": SOURCE,
        "type": "client-flow.record.changed",
        "subject": "CC.1",
        "time": "2026-01-31T12:00:00.000000Z",
        "datacontenttype": "application/json",
        "correlationid": "request-1",
        "traceparent": TRACE,
        "data": {
            "client_id": "CC.1",
            "seq": 7,
            "previous_seq": 6,
            "version": 9,
            "changed": {"contact": {"email": "b@x"}, "root": {"segment": "gold"}, "consent": None},
            "changes": [
                {"sub_schema": "contact", "field": "email", "old": "a@x", "new": "b@x"},
                {"sub_schema": "root", "field": "segment", "new": "gold"},
                {"sub_schema": "consent", "field": "*", "old": {"ok": True}},
                {"sub_schema": "contact", "field": "name", "old": None, "new": "Ana"},
            ],
        },
    }


def test_the_envelope_serves_brokers() -> None:
    """The client is the session, and each changed sub-schema is a property to filter on."""
    message = topic_message(entry(), source=SOURCE)
    assert message.session_id == "CC.1"
    assert message.correlation_id == "request-1"
    assert message.properties == {"consent": True, "contact": True, "root": True}
    assert len(message.message_id) == 32


def test_extensions_are_left_out_if_unknown() -> None:
    """An event without trace or correlation gives a message without them, not with nulls."""
    event = orjson.loads(topic_message(entry(correlation_id=None, traceparent=None), source=SOURCE).body)
    assert "correlationid" not in event
    assert "traceparent" not in event


def test_the_same_announcement_gives_the_same_message() -> None:
    """A repeat is the same to the byte, whatever order the contents have."""
    shuffled = dict(reversed(entry().contents.items()))
    assert topic_message(entry(), source=SOURCE) == topic_message(entry(contents=shuffled), source=SOURCE)


@pytest.mark.parametrize("changed", [{"seq": 8}, {"client_id": "CC.2"}, {"projection": "companies"}])
def test_other_announcements_have_other_ids(changed: dict[str, object]) -> None:
    """Client, seq and projection tell announcements apart."""
    ids = {topic_message(each, source=SOURCE).message_id for each in (entry(), entry(**changed))}
    assert len(ids) == 2


def test_a_message_over_the_limit_says_so() -> None:
    """Contents and changes are left out, marked; the filters still work."""
    large = entry(contents={"contact": {"note": "x" * MESSAGE_LIMIT}})
    message = topic_message(large, source=SOURCE)
    assert len(message.body) < 1000
    assert orjson.loads(message.body)["data"] == {
        "client_id": "CC.1",
        "seq": 7,
        "previous_seq": 6,
        "version": 9,
        "truncated": True,
    }
    assert message.properties == {"contact": True}


def test_the_limit_counts_bytes() -> None:
    """A body of exactly the limit goes whole, one byte more does not."""
    size = len(topic_message(entry(), source=SOURCE).body)
    assert b"changed" in topic_message(entry(), source=SOURCE, limit=size).body
    assert b"truncated" in topic_message(entry(), source=SOURCE, limit=size - 1).body


def test_an_announcement_is_read_back() -> None:
    """Who is only rung learns client, seq and version, and in which trace."""
    told = entry()
    announced = Announcement("CC.1", 7, 9, told.traceparent)
    assert read_announcement(topic_message(told, source=SOURCE).body) == announced
    untraced = topic_message(told._replace(traceparent=None), source=SOURCE)
    assert read_announcement(untraced.body) == announced._replace(traceparent=None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"type": "other", "data": {"client_id": "c1", "seq": 1, "version": 1}}',
        b'{"type": "client-flow.record.changed"}',
        b'{"type": "client-flow.record.changed", "data": {"client_id": "c1", "seq": true, "version": 1}}',
        b'{"type": "client-flow.record.changed", "data": {"client_id": "canary value", "seq": 1, "version": 1}}',
    ],
)
def test_a_foreign_message_is_refused(body: bytes) -> None:
    """Anything else on the topic is an error that does not repeat what it found."""
    with pytest.raises(InvalidMessageError) as raised:
        read_announcement(body)
    assert "canary" not in str(raised.value)
