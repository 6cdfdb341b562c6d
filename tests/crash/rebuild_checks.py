"""What has to hold of two versions of a projection, whoever was killed when."""

from collections.abc import Mapping, Sequence

from projections import retry_parked
from tests.crash.rebuild_place import STUCK, Pair
from tests.support.generations import loud
from tests.support.projecting import AnyWorld, oracle, parked_of


def check_commits(pair: Pair) -> None:
    """I3: as the process left it, each record has exactly its audit."""
    for client_id, version in versions(pair.new, pair.clients).items():
        assert [entry.version for entry in pair.new.trail(client_id)] == list(range(1, version + 1))


def check_end(pair: Pair) -> None:
    """I4, I5: every record is what its history comes to, with one audit entry for each event."""
    for client_id in pair.clients:
        record, stream = pair.new.record(client_id), pair.new.stream(client_id)
        if client_id == STUCK:
            assert (record.version, parked_of(record).version) == (2, 3)
            stream = stream[:2]
        else:
            assert (record.version, record.parked) == (len(stream), None)
        assert record.values == loud(oracle(stream))
        assert [entry.version for entry in pair.new.trail(client_id)] == list(range(1, len(stream) + 1))


def check_silence(pair: Pair) -> None:
    """I7: the rebuild said nothing; the sweep then tells, of clients with new events, all that is different."""
    assert {spoke(pair.new, client_id, 2) for client_id in pair.clients} == {0}
    assert pair.new.follower().sweep().errors == ()
    retry_parked(pair.new.projector(), pair.new.store)
    check_end(pair)
    for client_id in pair.clients:
        speaker = pair.new if spoke(pair.new, client_id, 2) else pair.old
        assert told(pair.new, client_id) == contents(speaker, client_id)


def versions(world: AnyWorld, client_ids: Sequence[str]) -> Mapping[str, int]:
    """How far each client is by the code of one version; 0 where it has no record."""
    loaded = world.store.load(client_ids)
    return {client_id: each.record.version if each.record else 0 for client_id, each in loaded.items()}


def contents(world: AnyWorld, client_id: str) -> dict[str, object]:
    """What the world should know."""
    return dict(world.projection.contents(world.projection.build(client_id, world.record(client_id).values)))


def told(world: AnyWorld, client_id: str) -> dict[str, object]:
    """What somebody knows who heard every announcement; the numbers have no gap."""
    entries = world.outbox(client_id)
    assert [(entry.previous_seq, entry.seq) for entry in entries] == [(each, each + 1) for each in range(len(entries))]
    heard = dict(world.projection.contents(world.projection.build(client_id, {})))
    for entry in entries:
        heard |= entry.contents
    return heard


def spoke(world: AnyWorld, client_id: str, version: int) -> int:
    """How many announcements a version of the projection made."""
    return sum(entry.projection_version == version for entry in world.outbox(client_id))
