"""Verify and heal: whatever somebody does to the stored documents and events is found, named exactly, and mended."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from eventstore import ANY, Event
from projections import (
    Mend,
    OutboxEntry,
    Projector,
    StoredDocument,
    Target,
    Verified,
    Verifier,
    code_fingerprint,
    record_document,
    refold,
)
from tests.support.clients import Contacted, Graded, Moved, Scored, Visited, clients, fact
from tests.support.cosmos import Containers
from tests.support.vandal import CosmosScene, Place, Scene, SqliteScene, each_client, healer, rechain, verifier
from tests.wire.cosmos import CosmosServer

pytestmark = pytest.mark.contract


@pytest.fixture(params=["sqlite", pytest.param("cosmos", marks=pytest.mark.cosmos_wire)])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    if request.param == "sqlite":
        opened = SqliteScene(tmp_path)
        yield opened
        opened.close()
    else:
        with CosmosServer() as server, Containers(server) as containers:
            yield CosmosScene(containers)


def told(scene: Scene, *client_ids: str) -> None:
    """Clients with five events in two announcements, the first of which is published."""
    ids = client_ids or ("1",)
    with ThreadPoolExecutor(16) as pool:  # appends that wait together share a commit
        list(pool.map(lambda client_id: append(scene, client_id, *FIRST), ids))
        catch_up(scene, *ids)
        scene.outbox.delete(entry for client_id in ids for entry in scene.outbox.pending(client_id))
        list(pool.map(lambda client_id: append(scene, client_id, *SECOND), ids))
    catch_up(scene, *ids)


FIRST = (Contacted(email="a@x.example", phone="1"), Moved(street="s", city="c"), Visited())
SECOND = (Graded(segment="gold"), Contacted(email="b@x.example"))


def append(scene: Scene, client_id: str, *facts: Event) -> None:
    scene.events.append(client_id, [fact(each) for each in facts], expected_version=ANY)


def catch_up(scene: Scene, *client_ids: str) -> None:
    targets = {client_id: Target(scene.events.head(client_id).version) for client_id in client_ids}
    Projector(clients, scene.events, scene.store).catch_up_all(targets)


def put(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    """Sets what is at a path."""

    def change(document: dict[str, Any]) -> None:
        inner: Any = document
        for part in path[:-1]:
            inner = inner[part]
        inner[path[-1]] = to

    return change


def drop(name: str) -> Callable[[dict[str, Any]], None]:
    """Removes a field."""
    return lambda document: document.pop(name)


class Damage(NamedTuple):
    """One way to spoil a client.

    Attributes:
        do: spoils it.
        found: kind, number and path of all that is to be reported.
        mended: whether healing leaves nothing.
        written: documents that healing may write, where these are others than those found.
        gone: documents that healing cannot bring back.
    """

    do: Callable[[Scene, str], None]
    found: set[tuple[str, int, str]]
    mended: bool = True
    written: frozenset[tuple[str, int]] = frozenset()
    gone: frozenset[tuple[str, int]] = frozenset()

    def writable(self, client_id: str) -> set[Place]:
        """All that healing a client may write."""
        concerned = {(kind, number) for kind, number, _ in self.found} if self.mended else set()
        return {(client_id, *document) for document in concerned | self.written}


def edit(kind: str, number: int, change: Callable[[dict[str, Any]], None]) -> Callable[[Scene, str], None]:
    return lambda scene, client_id: scene.edit(client_id, kind, number, change)


def swap_events(scene: Scene, client_id: str) -> None:
    first, second = list(scene.events.read(client_id, after=1, until=3))
    # Two events of one id cannot stand side by side.
    scene.edit_event(client_id, 2, put("event_id", to="crm:elsewhere"))
    scene.edit_event(client_id, 3, lambda document: document.update({**first._asdict(), "version": 3}))
    scene.edit_event(client_id, 2, lambda document: document.update({**second._asdict(), "version": 2}))


def exchange_audit(scene: Scene, client_id: str) -> None:
    bodies: list[dict[str, Any]] = []
    for version in (2, 3):
        scene.edit(client_id, "audit", version, lambda document: bodies.append(dict(document)))
    for version, body in zip((3, 2), bodies, strict=True):
        scene.edit(client_id, "audit", version, put("event_hash", to=body["event_hash"]))
        scene.edit(client_id, "audit", version, put("changes", to=body["changes"]))


def remove_all(scene: Scene, client_id: str) -> None:
    for version in range(1, 6):
        scene.remove_event(client_id, version)


def lose_all_but(kind: str) -> Callable[[Scene, str], None]:
    """Removes all events, and all documents but those of a kind."""

    def lose(scene: Scene, client_id: str) -> None:
        remove_all(scene, client_id)
        for owner, each, number in scene.kept():
            if owner == client_id and each not in {"event", kind}:
                scene.remove(client_id, each, number)

    return lose


def cut_and_write_anew(scene: Scene, client_id: str) -> None:
    scene.remove_event(client_id, 5)
    rechain(scene, client_id, 4, put("data", "segment", to="z"))


def cut_and_lose(*lost: tuple[str, int]) -> Callable[[Scene, str], None]:
    """Removes the last event, and documents that know of it."""

    def cut(scene: Scene, client_id: str) -> None:
        scene.remove_event(client_id, 5)
        for kind, number in lost:
            scene.remove(client_id, kind, number)

    return cut


def put_back_and_write_anew(scene: Scene, client_id: str) -> None:
    rechain(scene, client_id, 5, put("data", "email", to="z"))
    older = record_document(refold(clients, scene.events, client_id, until=3).record)
    scene.edit(client_id, "record", 0, lambda document: document.update(older))


def write_anew_but_the_last(scene: Scene, client_id: str) -> None:
    [last] = scene.events.read(client_id, after=4)
    rechain(scene, client_id, 3, put("source", to="z"))
    scene.edit_event(client_id, 5, lambda document: document.update(last._asdict()))


def write_anew_without_last_audit(scene: Scene, client_id: str) -> None:
    rechain(scene, client_id, 5, put("data", "email", to="z"))
    scene.remove(client_id, "audit", 5)


TOLD_AGAIN = frozenset({("announced", 0), ("outbox", 3)})
W = "(whole)"
DAMAGES: dict[str, Damage] = {
    "a value": Damage(
        edit("record", 0, put("values", "contact", "email", to="z")), {("record", 0, "values.contact.email")}
    ),
    "a value too many": Damage(
        edit("record", 0, put("values", "profile", to={"language": "es"})), {("record", 0, "values.profile")}
    ),
    "a value of a name nobody declared": Damage(
        edit("record", 0, put("values", "contact", "ana@x.example", to=1)), {("record", 0, "values.contact.*")}
    ),
    "True for 1": Damage(edit("record", 0, put("annulled", to=[True])), {("record", 0, "annulled")}),
    "provenance": Damage(
        edit("record", 0, put("provenance", "root", "segment", to=["2026-01-01T00:00:00.000000Z", 4])),
        {("record", 0, "provenance.root.segment")},
    ),
    "record's time": Damage(edit("record", 0, put("recorded_at", to="2020")), {("record", 0, "recorded_at")}),
    "record's hash": Damage(edit("record", 0, put("event_hash", to="f" * 64)), {("record", 0, "event_hash")}),
    "record's version too low": Damage(edit("record", 0, put("version", to=4)), {("record", 0, "version")}),
    "record's version too high": Damage(edit("record", 0, put("version", to=9)), {("record", 0, "version")}),
    "record's version no number": Damage(edit("record", 0, put("version", to="5")), {("record", 0, W)}),
    "record of another client": Damage(edit("record", 0, put("client_id", to="2")), {("record", 0, "client_id")}),
    "record with more": Damage(edit("record", 0, put("ana@x.example", to=1)), {("record", 0, "*")}),
    "record without provenance": Damage(
        edit("record", 0, put("provenance", to={})),
        {("record", 0, f"provenance.{name}") for name in ("address", "contact", "root")},
    ),
    "record empty": Damage(edit("record", 0, lambda document: document.clear()), {("record", 0, W)}),
    "record without values": Damage(edit("record", 0, drop("values")), {("record", 0, W)}),
    "record gone": Damage(lambda scene, client_id: scene.remove(client_id, "record", 0), {("record", 0, W)}),
    "audit's value": Damage(
        edit("audit", 5, put("changes", 0, "new", to="z")), {("audit", 5, "changes.contact.email.new")}
    ),
    "audit without a change": Damage(edit("audit", 5, put("changes", to=[])), {("audit", 5, "changes.contact.email")}),
    "audit with a change twice": Damage(
        edit("audit", 5, lambda document: document["changes"].append(document["changes"][0])),
        {("audit", 5, "changes")},
    ),
    "audit says superseded": Damage(
        edit("audit", 5, put("changes", 0, "superseded", to=True)), {("audit", 5, "changes.contact.email.superseded")}
    ),
    "audit exchanged": Damage(
        exchange_audit,
        {("audit", version, path) for version in (2, 3) for path in ("changes.address.*", "event_hash")},
    ),
    "audit of another client": Damage(edit("audit", 2, put("client_id", to="2")), {("audit", 2, "client_id")}),
    "audit's rule": Damage(edit("audit", 3, put("rule", to="nobody")), {("audit", 3, "rule")}),
    "audit's hash": Damage(edit("audit", 2, put("event_hash", to="f" * 64)), {("audit", 2, "event_hash")}),
    "last audit's hash": Damage(edit("audit", 5, put("event_hash", to="f" * 64)), {("audit", 5, "event_hash")}),
    "audit unreadable": Damage(edit("audit", 2, lambda document: document.clear()), set()),
    "audit gone": Damage(lambda scene, client_id: scene.remove(client_id, "audit", 3), {("audit", 3, W)}),
    "last audit gone": Damage(lambda scene, client_id: scene.remove(client_id, "audit", 5), {("audit", 5, W)}),
    "audit too many": Damage(lambda scene, client_id: scene.add_audit(client_id, 5, 6), {("audit", 6, W)}),
    "audit of version 0": Damage(lambda scene, client_id: scene.add_audit(client_id, 5, 0), {("audit", 0, W)}),
    "announced another hash": Damage(
        edit("announced", 0, put("hashes", "contact", to="0" * 32)),
        {("announced", 0, "hashes.contact")},
        written=TOLD_AGAIN,
    ),
    "announced without a hash": Damage(
        edit("announced", 0, lambda document: document["hashes"].pop("contact")),
        {("announced", 0, "hashes.contact")},
        written=TOLD_AGAIN,
    ),
    "announced with a hash too many": Damage(
        edit("announced", 0, put("hashes", "ana@x.example", to="0" * 32)),
        {("announced", 0, "hashes.*")},
        written=TOLD_AGAIN,
    ),
    "announced beyond the events": Damage(edit("announced", 0, put("version", to=99)), {("announced", 0, "version")}),
    "announced stale": Damage(edit("announced", 0, put("seq", to=1)), {("announced", 0, "seq")}, written=TOLD_AGAIN),
    "announced gone": Damage(
        lambda scene, client_id: scene.remove(client_id, "announced", 0), {("announced", 0, W)}, written=TOLD_AGAIN
    ),
    "announced unreadable": Damage(edit("announced", 0, drop("seq")), {("announced", 0, W)}, written=TOLD_AGAIN),
    "outbox's contents": Damage(
        edit("outbox", 2, put("contents", "root", "segment", to="z")), {("outbox", 2, "contents.root.segment")}
    ),
    "outbox of another client": Damage(edit("outbox", 2, put("client_id", to="2")), {("outbox", 2, "client_id")}),
    "outbox tells nothing": Damage(
        edit("outbox", 2, put("contents", to={})),
        {("outbox", 2, W)},
        written=TOLD_AGAIN,
        gone=frozenset({("outbox", 2)}),
    ),
    "outbox's predecessor": Damage(edit("outbox", 2, put("previous_seq", to=0)), {("outbox", 2, "previous_seq")}),
    "outbox unreadable": Damage(
        edit("outbox", 2, drop("contents")), {("outbox", 2, W)}, written=TOLD_AGAIN, gone=frozenset({("outbox", 2)})
    ),
    "event's data": Damage(
        lambda scene, client_id: scene.edit_event(client_id, 2, put("data", "city", to="z")),
        {("event", 2, W)},
        mended=False,
    ),
    "event of another type": Damage(
        lambda scene, client_id: scene.edit_event(client_id, 2, put("event_type", to="client.visited")),
        {("event", 2, W)},
        mended=False,
    ),
    "event's time": Damage(
        lambda scene, client_id: scene.edit_event(client_id, 3, put("occurred_at", to="2020-01-01T00:00:00.000000Z")),
        {("event", 3, W)},
        mended=False,
    ),
    "last event's data": Damage(
        lambda scene, client_id: scene.edit_event(client_id, 5, put("data", "email", to="z")),
        {("event", 5, W)},
        mended=False,
    ),
    "event's hash": Damage(
        lambda scene, client_id: scene.edit_event(client_id, 2, put("hash", to="f" * 64)),
        {("event", 2, W), ("event", 3, W)},
        mended=False,
    ),
    "events swapped": Damage(swap_events, {("event", n, W) for n in (2, 3, 4)}, mended=False),
    "event gone": Damage(lambda scene, client_id: scene.remove_event(client_id, 3), {("event", 3, W)}, mended=False),
    "first event gone": Damage(
        lambda scene, client_id: scene.remove_event(client_id, 1), {("event", 1, W)}, mended=False
    ),
    "tail cut": Damage(lambda scene, client_id: scene.remove_event(client_id, 5), {("event", 5, W)}, mended=False),
    "history written anew": Damage(
        lambda scene, client_id: rechain(scene, client_id, 4, put("data", "segment", to="z")),
        {("event", 4, W), ("event", 5, W)},
        mended=False,
    ),
    "history written anew, its last audit entry gone": Damage(
        write_anew_without_last_audit, {("event", 5, W)}, mended=False
    ),
    "tail cut, the rest written anew": Damage(cut_and_write_anew, {("event", 4, W), ("event", 5, W)}, mended=False),
    "history written anew, but for the last event": Damage(
        write_anew_but_the_last, {("event", n, W) for n in (3, 4, 5)}, mended=False
    ),
    "tail cut, record gone": Damage(cut_and_lose(("record", 0)), {("event", 5, W)}, mended=False),
    "tail cut, record and audit gone": Damage(
        cut_and_lose(("record", 0), *(("audit", version) for version in range(1, 6))), {("event", 5, W)}, mended=False
    ),
    "history written anew, record put back": Damage(put_back_and_write_anew, {("event", 5, W)}, mended=False),
    "no events left": Damage(remove_all, {("event", 1, W)}, mended=False),
    "no events left, only what was announced": Damage(lose_all_but("announced"), {("event", 1, W)}, mended=False),
    "no events left, only an announcement": Damage(lose_all_but("outbox"), {("event", 1, W)}, mended=False),
    "no events left, only an audit entry": Damage(lose_all_but("audit"), {("event", 1, W)}, mended=False),
}
DAMAGES["audit unreadable"] = DAMAGES["audit unreadable"]._replace(
    found={
        ("audit", 2, name)
        for name in (
            "changes", "client_id", "event_hash", "event_id", "event_type", "note", "occurred_at", "recorded_at",
            "rule", "source", "version",
        )
    }
)  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named_and_mended(scene: Scene, name: str) -> None:
    """Exactly the fields concerned are reported; healing writes those documents and no other, and leaves nothing."""
    damage = DAMAGES[name]
    told(scene)
    whole = scene.kept()
    assert verifier(scene).verify("1").differences == ()

    damage.do(scene, "1")
    spoilt = scene.kept()
    found = verifier(scene).verify("1").differences
    assert {each.place for each in found} == damage.found
    assert scene.kept() == spoilt, "verifying wrote something"

    healed = healer(scene).heal("1")
    assert {each.place for each in healed.found} == damage.found
    assert (healed.left == ()) is damage.mended
    after = scene.kept()
    changed = changes(spoilt, after)
    assert changed <= damage.writable("1")
    if damage.mended:
        assert verifier(scene).verify("1").differences == ()
        assert after.keys() >= whole.keys() - {("1", *place) for place in damage.gone}
        assert changed, "nothing was mended"


def changes(before: dict[Place, bytes], after: dict[Place, bytes]) -> set[Place]:
    """What was written, made or removed."""
    return {place for place in before.keys() | after.keys() if before.get(place) != after.get(place)}


def test_what_was_announced_wrongly_is_told_again(scene: Scene) -> None:
    """Nobody knows what the world was told, so it is told, under the next number, what differs; never silently."""
    told(scene)
    scene.edit("1", "announced", 0, put("hashes", "contact", to="0" * 32))
    assert healer(scene).heal("1").announced
    entry = pending(scene)[-1]
    assert (entry.seq, entry.previous_seq, set(entry.contents)) == (3, 2, {"contact"})


def test_a_lost_announcement_state_tells_everything_above_what_was_heard(scene: Scene) -> None:
    """Also what is gone meanwhile; under a number that no integration ignores as old."""
    told(scene)
    scene.remove("1", "announced", 0)
    healer(scene, heard=lambda _: {"1": 7}).heal("1")
    entry = pending(scene)[-1]
    assert (entry.seq, set(entry.contents)) == (8, {"contact", "address", "profile", "root"})


def test_a_stale_announcement_state_is_noticed_by_what_was_heard(scene: Scene) -> None:
    """A restored state would give numbers that integrations ignore; what they know tells."""
    told(scene)
    found = verifier(scene, heard=lambda _: {"1": 5}).verify("1").differences
    assert [each.place for each in found] == [("announced", 0, "seq")]


def test_an_announcement_has_to_tell_all_that_is_new(scene: Scene) -> None:
    """As long as the one before it waits as well, or there was none, it is known what that is."""
    append(scene, "1", *FIRST)
    catch_up(scene, "1")
    append(scene, "1", *SECOND)
    catch_up(scene, "1")
    whole = pending(scene)
    scene.edit("1", "outbox", 1, put("contents", to={}))
    scene.edit("1", "outbox", 2, lambda document: document["contents"].pop("root"))
    found = {each.place for each in verifier(scene).verify("1").differences}
    assert found == {
        ("outbox", 1, "contents.address"),
        ("outbox", 1, "contents.contact"),
        ("outbox", 2, "contents.root"),
    }
    assert healer(scene).heal("1").left == ()
    assert pending(scene) == whole


def pending(scene: Scene) -> list[OutboxEntry]:
    return list(scene.outbox.pending("1"))


# --- many clients --------------------------------------------------------------------------------------------------------


def test_of_many_documents_exactly_the_spoilt_ones_are_found_and_mended(scene: Scene) -> None:
    """Ten among ten thousand (on Cosmos DB, five hundred), again and again, until all ways of spoiling one were seen."""
    ids = list(each_client(1250 if isinstance(scene, SqliteScene) else 63))
    told(scene, *ids)
    assert sum(kind != "event" for _, kind, _ in scene.kept()) == 8 * len(ids)
    ways = sorted(DAMAGES.values(), key=lambda way: not way.mended)
    victims = list(zip(ids[:: len(ids) // len(ways)], ways, strict=False))
    assert len(victims) == len(ways)
    verify_all, heal = verifier(scene).verify_all, healer(scene).heal
    lasting: dict[str, set[tuple[str, int, str]]] = {}
    for start in range(0, len(ways), 10):
        spoilt = dict(victims[start : start + 10])
        for client_id, way in spoilt.items():
            way.do(scene, client_id)
        before = scene.kept()
        found = {each.client_id: {difference.place for difference in each.differences} for each in verify_all(ids)}
        expected = lasting | {client_id: way.found for client_id, way in spoilt.items()}
        assert {client_id: places for client_id, places in found.items() if places} == expected

        left = {client_id: heal(client_id).left for client_id in spoilt}
        assert {client_id for client_id, each in left.items() if each == ()} == {
            client_id for client_id, way in spoilt.items() if way.mended
        }
        after = scene.kept()
        assert changes(before, after) <= set().union(*(way.writable(each) for each, way in spoilt.items()))
        lasting |= {client_id: way.found for client_id, way in spoilt.items() if not way.mended}
    assert {each.client_id for each in verify_all(ids) if each.differences} == lasting.keys()


# --- clients that are no trouble --------------------------------------------------------------------------------------


def test_a_parked_client_is_compared_where_it_stands(scene: Scene) -> None:
    """Events behind the one that fails are no difference; a change of what is before it is."""
    told(scene)
    append(scene, "1", Scored(score=-1), Graded(segment="x"))
    catch_up(scene, "1")
    assert verifier(scene).verify("1").differences == ()
    scene.edit("1", "record", 0, put("parked", "code", to="unknown_event_type"))
    scene.edit("1", "record", 0, put("values", "root", "segment", to="z"))
    found = {each.place for each in verifier(scene).verify("1").differences}
    assert found == {("record", 0, "parked.code"), ("record", 0, "values.root.segment")}
    assert healer(scene).heal("1").left == ()
    record = scene.store.load(["1"])["1"].record
    assert record is not None
    assert record.parked is not None
    assert (record.parked.version, record.parked.waiting_for, record.parked.code) == (6, 7, "rule_raised")


def test_a_client_parked_without_reason_goes_on(scene: Scene) -> None:
    """A forged mark is reported, removed, and the client brought to the end of its stream."""
    told(scene)
    append(scene, "1", Graded(segment="x"))
    scene.edit(
        "1",
        "record",
        0,
        put("parked", to={"version": 6, "waiting_for": 6, "code": "rule_raised", "problems": [],
                          "fingerprint": code_fingerprint(clients)}),
    )  # fmt: skip
    found = {each.place for each in verifier(scene).verify("1").differences}
    assert ("record", 0, "parked") in found
    assert healer(scene).heal("1").left == ()
    record = scene.store.load(["1"])["1"].record
    assert record is not None
    assert (record.version, record.parked) == (6, None)


def test_a_client_that_every_sweep_passed_is_reported_and_caught_up(scene: Scene) -> None:
    """An event that should be folded by now is; one that was just appended is no difference."""
    told(scene)
    append(scene, "1", Graded(segment="x"))
    assert verifier(scene, projected_until="").verify("1").differences == ()
    found = verifier(scene).verify("1").differences
    assert [each.place for each in found] == [("record", 0, "version")]
    assert healer(scene).heal("1").left == ()
    assert verifier(scene).verify("1").differences == ()


def test_an_outdated_record_is_the_one_that_differs(scene: Scene) -> None:
    """A record put back to an earlier state does not make its newer audit entries wrong."""
    told(scene)
    older = record_document(refold(clients, scene.events, "1", until=3).record)
    scene.edit("1", "record", 0, lambda document: document.update(older))
    found = {each.place for each in verifier(scene).verify("1").differences}
    assert {kind for kind, *_ in found} == {"record"}
    assert ("record", 0, "version") in found
    assert healer(scene).heal("1").left == ()


# --- clients that move, and safeguards removed -------------------------------------------------------------------------


class Interrupted:
    """Documents of a client that gets another event, which is projected, while their audit is read at these times."""

    def __init__(self, scene: Scene, *times: int) -> None:
        self._scene, self._times, self._reads = scene, times, 0
        self.documents = scene.documents.documents

    def audit_documents(self, client_id: str) -> Iterator[StoredDocument]:
        self._reads += 1
        if self._reads in self._times:
            append(self._scene, client_id, Contacted(email=f"{self._reads}@x.example"))
            catch_up(self._scene, client_id)
        return self._scene.documents.audit_documents(client_id)


class LooksOnce(Verifier):
    """Reports what it sees first."""

    def verify(self, client_id: str) -> Verified:
        seen = self._look(client_id, *self._read([client_id])[client_id])
        return Verified(client_id, seen.events, True, seen.differences, seen.mends, None, None, None)


def no_false_alarm(scene: Scene, kind: type[Verifier]) -> None:
    """A client that moves on while it is looked at is no trouble."""
    moving: Any = Interrupted(scene, 1, 2, 3)
    assert kind(clients, scene.events, moving, projected_until="z").verify("1").differences == ()


def test_a_client_that_moves_raises_no_false_alarm(scene: Scene) -> None:
    """What is found is looked at again; whoever reports what it sees first does raise one."""
    told(scene)
    no_false_alarm(scene, Verifier)
    with pytest.raises(AssertionError):
        no_false_alarm(scene, LooksOnce)


def test_damage_of_a_client_that_moves_is_found_all_the_same(scene: Scene) -> None:
    """It lasts, whatever else changes."""
    told(scene)
    scene.edit("1", "audit", 2, put("rule", to="nobody"))
    moving: Any = Interrupted(scene, 1, 2)
    found = Verifier(clients, scene.events, moving, projected_until="z").verify("1").differences
    assert [each.place for each in found] == [("audit", 2, "rule")]


def test_what_a_second_look_alone_sees_is_no_damage(scene: Scene) -> None:
    """A client that starts to move while its damage is confirmed is reported with its damage and nothing else."""
    told(scene)
    scene.edit("1", "audit", 2, put("rule", to="nobody"))
    moving: Any = Interrupted(scene, 2)
    found = Verifier(clients, scene.events, moving, projected_until="z").verify("1").differences
    assert [each.place for each in found] == [("audit", 2, "rule")]


class Regardless:
    """Mends whatever is there, without a look at its tag."""

    def __init__(self, scene: Scene) -> None:
        self._documents = scene.documents

    def __getattr__(self, name: str) -> Any:
        return getattr(self._documents, name)

    def mend(self, client_id: str, mends: Sequence[Mend]) -> bool:
        present = {
            (each.kind, each.number): each.tag
            for each in [
                *self._documents.documents([client_id])[client_id],
                *self._documents.audit_documents(client_id),
            ]
        }
        return self._documents.mend(
            client_id, [each._replace(seen=present.get((each.kind, each.number))) for each in mends]
        )


def no_commit_is_overwritten(scene: Scene, documents: Any) -> None:
    """Whoever heals a client that was projected meanwhile does not put the older record back."""
    told(scene)
    scene.edit("1", "record", 0, put("values", "contact", "email", to="z"))
    verified = verifier(scene).verify("1")
    append(scene, "1", Contacted(phone="2"))
    catch_up(scene, "1")
    documents.mend("1", verified.mends)
    record = scene.store.load(["1"])["1"].record
    assert record is not None
    assert record.version == 6


def test_a_mend_that_comes_late_is_refused(scene: Scene) -> None:
    """By the tag of the document; with the tag ignored, a commit is lost."""
    no_commit_is_overwritten(scene, scene.documents)


def test_without_tags_a_late_mend_undoes_a_commit(scene: Scene) -> None:
    """The safeguard of the test above, removed."""
    with pytest.raises(AssertionError):
        no_commit_is_overwritten(scene, Regardless(scene))


def test_a_mend_is_done_as_a_whole_or_not_at_all(scene: Scene) -> None:
    """One document that changed meanwhile leaves the others of its portion as they are."""
    told(scene)
    scene.remove("1", "audit", 2)
    scene.edit("1", "audit", 3, put("rule", to="nobody"))
    mends = verifier(scene).verify("1").mends
    scene.edit("1", "audit", 3, put("rule", to="somebody"))
    before = scene.kept()
    assert not scene.documents.mend("1", mends)
    assert scene.kept() == before


def test_many_documents_are_mended_in_portions(scene: Scene) -> None:
    """More than one batch of Cosmos DB holds."""
    append(scene, "1", *(Contacted(email=f"{number}@x.example") for number in range(100)))
    append(scene, "1", *(Contacted(email=f"{number}@x.example") for number in range(100)))
    catch_up(scene, "1")
    for version in range(1, 201):
        scene.remove("1", "audit", version)
    assert len(verifier(scene).verify("1").differences) == 200
    assert healer(scene).heal("1").left == ()


def test_owners_are_listed_by_the_page(scene: Scene) -> None:
    """Each client once, whatever is left of it."""
    told(scene, "1", "2", "3")
    for kind, number in [("record", 0), ("announced", 0), ("outbox", 2)]:
        scene.remove("2", kind, number)
    assert list(scene.documents.owners(limit=2)) == ["1", "2"]
    assert list(scene.documents.owners(after="2", limit=2)) == ["3"]
    assert list(scene.documents.owners(after="3")) == []


def test_a_client_without_announcements_left_is_sound(scene: Scene) -> None:
    """All of them published, which is what most clients look like."""
    told(scene)
    scene.outbox.delete(scene.outbox.pending("1"))
    assert verifier(scene, heard=lambda _: {"1": 2}).verify("1").differences == ()


def test_no_difference_shows_a_value(scene: Scene) -> None:
    """Neither in its text nor in its representation; a key of a mapping is data, too."""
    told(scene)
    scene.edit("1", "record", 0, put("values", "contact", to={"canary7@x.example": "canary7"}))
    scene.edit("1", "audit", 5, put("changes", 0, "new", to="canary7"))
    found = verifier(scene).verify("1").differences
    assert len(found) > 2
    assert "canary7" not in f"{found!r} {' '.join(map(str, found))}"


def test_a_field_beside_the_document_is_checked(scene: Scene) -> None:
    """What is kept for searching has to be what the document says."""
    told(scene)
    if isinstance(scene, SqliteScene):
        scene.run("UPDATE records SET parked = 1 WHERE client_id = '1'")
        expected = {("record", 0, "parked")}
    else:
        assert isinstance(scene, CosmosScene)
        scene.edit_beside("1", "audit", 5, put("touched", to=[]))
        expected = {("audit", 5, "touched")}
    assert {each.place for each in verifier(scene).verify("1").differences} == expected
    assert healer(scene).heal("1").left == ()


@pytest.mark.cosmos_wire
def test_a_document_is_found_whatever_it_says_it_is() -> None:
    """What is beside the body decides who finds a document, but not whether it is verified and mended."""
    envelope = ("kind", "projection", "generation")
    fields = {
        ("record", 0): (*envelope, "is_parked"),
        ("announced", 0): envelope,
        ("audit", 3): (*envelope, "version", "event_type", "source", "recorded_at", "touched"),
        ("outbox", 2): (*envelope, "seq", "written_at"),
    }
    places = [(kind, number, field) for (kind, number), names in fields.items() for field in names]
    with CosmosServer() as server, Containers(server) as containers:
        scene = CosmosScene(containers)
        told(scene, *each_client(len(places)))
        before = scene.kept()
        for client_id, (kind, number, field) in zip(each_client(len(places)), places, strict=True):
            scene.edit_beside(client_id, kind, number, drop(field))
            assert {each.place for each in verifier(scene).verify(client_id).differences} == {(kind, number, field)}
            assert healer(scene).heal(client_id).left == ()
        assert {place[1:] for place in changes(before, scene.kept())} == fields.keys()
