"""How fast events become records."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson

from eventstore import SqliteCheckpointStore, SqliteEventStore, open_events
from projections import FeedFollower, Projector, SqliteProjectionStore, Target, open_projections, refold

from .harness import Figure, compared, rates
from .peer import HAS_PEER, make_peer
from .workload import PER_CLIENT, client_ids, fill, projection

_GROUP = 256
_PEER_CLIENTS = 1000  # the peer commits each event, so its rate does not hang on the size; its time does


def figures(clients: int, rounds: int) -> Iterator[Figure]:
    """Sweep and refold beside the peer, with few and many rules, and beside the bare loop."""
    with TemporaryDirectory() as name:
        directory = Path(name)
        store = SqliteEventStore(open_events(directory))
        fill(store, clients)
        few, many = projection(3), projection(30)
        fresh = count()

        def projector(people: object) -> tuple[Projector, FeedFollower]:
            database = open_projections(directory / str(next(fresh)))
            made = Projector(people, store, SqliteProjectionStore(database, people))  # type: ignore[arg-type]  # either
            return made, FeedFollower(made, store, SqliteCheckpointStore(database))

        def sweep(people: object) -> Callable[[], int]:
            _, follower = projector(people)
            return lambda: follower.sweep().events

        def store_again(people: object) -> Callable[[], int]:
            made, follower = projector(people)
            follower.sweep()
            ids = list(client_ids(clients))

            def run() -> int:
                for start in range(0, clients, _GROUP):
                    targets = {each: Target(0, refold=True) for each in ids[start : start + _GROUP]}
                    made.catch_up_all(targets)
                return clients * PER_CLIENT

            return run

        def fold_only() -> Callable[[], int]:
            def run() -> int:
                return sum(refold(few, store, each).record.version for each in client_ids(clients))

            return run

        def bare() -> Callable[[], int]:
            """Parse, validate, call the rule: what no fold can do without."""
            streams = [
                [(event.event_type, orjson.dumps(event.data)) for event in store.read(each)]
                for each in client_ids(clients)
            ]
            models = {event_type.name: event_type.model for event_type in few.events}

            def run() -> int:
                done = 0
                for stream in streams:
                    record = few.build("1", {})
                    for event_type, data in stream:
                        event = models[event_type].model_validate(orjson.loads(data))
                        record = few.rules[event_type].apply(record, event)  # type: ignore[assignment]  # of one schema
                        done += 1
                return done

            return run

        def peer() -> Callable[[], int]:
            return make_peer(directory / f"peer{next(fresh)}", min(clients, _PEER_CLIENTS))

        works = [bare, fold_only, lambda: store_again(few), lambda: sweep(few), lambda: sweep(many)]
        bare_rate, folded, stored, swept, swept_many, *peer_rate = rates(rounds, *works, *([peer] if HAS_PEER else []))
        yield compared("refold without storing", folded, "events/s", ("bare loop", bare_rate), 0.5)
        yield compared("refold with storing", stored, "events/s", ("bare loop", bare_rate), 0.3)
        yield compared("project with 30 rules", swept_many, "events/s", ("with 3 rules", swept), 0.9)
        for rate in peer_rate:
            yield compared("project", swept, "events/s", ("eventsourcing 9.5", rate), 10)
            yield compared("refold with storing, and the peer", stored, "events/s", ("eventsourcing 9.5", rate), 10)
