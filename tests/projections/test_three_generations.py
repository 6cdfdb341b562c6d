"""Three versions of the rules on the same data, in any order: what the world was not told is told, and told once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import count, permutations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eventstore import Event
from projections import Projector, Purpose, Rebuild, Target, check_generation, retry_parked
from tests.support.clients import Contacted, Graded, Scored, Visited, clients
from tests.support.generations import succeeded, successor
from tests.support.projecting import World, oracle

RULES = {1: clients, 2: successor(2), 3: successor(3)}
FACTS: dict[str, Callable[[int], Event]] = {
    "grade": lambda number: Graded(segment=f"s{number}"),
    "contact": lambda number: Contacted(email=f"e{number}"),
    "score": lambda number: Scored(score=-number),  # parks the client in version 1
    "visit": lambda _: Visited(),
}


class Story:
    """What happens to clients, by whatever version happens to run."""

    def __init__(self) -> None:
        first = World(None)
        self.worlds = {1: first} | {version: World(None, RULES[version], beside=first) for version in (2, 3)}
        self._projectors: dict[int, Projector] = {}
        self._numbers = count(1)

    def close(self) -> None:
        """Forget all of it."""
        self.worlds[1].close()

    def tell(self, what: str, client_id: str = "1") -> None:
        """Something new about a client."""
        self.worlds[1].tell(client_id, FACTS[what](next(self._numbers)))

    def ring(self, version: int, client_id: str = "1") -> None:
        """The doorbell of a version."""
        if head := self.worlds[1].events.head(client_id).version:
            self._projector(version).catch_up(client_id, Target(head))

    def ring_late(self, version: int, client_id: str = "1") -> None:
        """The doorbell of a version, which brings the first event when there are others already."""
        if stream := self.worlds[1].stream(client_id):
            self._projector(version).catch_up(client_id, Target(1, stream[:1]))

    def sweep(self, version: int) -> None:
        """All that a sweep of a version does."""
        world, projector = self.worlds[version], self._projector(version)
        assert world.follower(projector).sweep().errors == ()
        retry_parked(projector, world.store)

    def walk(self, version: int, purpose: Purpose) -> None:
        """A rebuild by a version."""
        world, projector = self.worlds[version], self._projector(version)
        *_, last = Rebuild(projector, world.store, world.predecessors, world.events, world.checkpoints, purpose).walk()
        assert last.done

    def check(self, client_id: str = "1") -> None:
        """Once version 3 has walked and swept, it holds everything, and nothing of it is news to the world."""
        self.walk(3, Purpose.FOLD)
        self.sweep(3)
        world = self.worlds[3]
        stream = world.stream(client_id)
        if stream:
            record = world.record(client_id)
            assert (record.version, record.parked) == (len(stream), None)
            assert record.values == succeeded(oracle(stream), 3)
            # Whichever version spoke last: a rebuild that is silent changes rules, and loses no event.
            by_version = [self._contents(succeeded(oracle(stream), version), client_id) for version in RULES]
            assert self._told(client_id) in by_version

    def _projector(self, version: int) -> Projector:
        """Of that version, which is started when something is first asked of it."""
        if version not in self._projectors:
            world = self.worlds[version]
            check_generation(world.projection, world.checkpoints, world.events)
            self._projectors[version] = world.projector()
        return self._projectors[version]

    def _told(self, client_id: str) -> dict[str, object]:
        """What somebody knows who heard every announcement, each of which was news."""
        entries = self.worlds[3].outbox(client_id)
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        heard = self._contents({}, client_id)
        for entry in entries:
            assert all(heard[name] != content for name, content in entry.contents.items())
            heard |= entry.contents
        return heard

    def _contents(self, values: dict[str, dict[str, object]], client_id: str) -> dict[str, object]:
        projection = self.worlds[3].projection
        return dict(projection.contents(projection.build(client_id, values)))


@pytest.fixture
def story() -> Iterator[Story]:
    with closing(Story()) as story:
        yield story


def test_what_was_passed_in_silence_is_not_taken_for_told(story: Story) -> None:
    """Version 1 went on beside version 2, which speaks for the client and stopped before that event."""
    story.tell("contact")
    story.ring(2)
    story.tell("contact")
    story.ring(1)
    story.check()


def test_a_generation_has_its_cursor_before_it_folds_a_client(story: Story) -> None:
    """From its first word on the others are silent; what they pass meanwhile it has to come by itself."""
    story.tell("contact")
    story.sweep(1)
    story.tell("contact")
    story.ring(3)
    story.tell("contact")
    story.sweep(1)
    story.sweep(3)
    assert story.worlds[3].record("1").version == 3
    story.check()


def test_what_passed_before_a_generation_was_born_is_told(story: Story) -> None:
    """Its late doorbell brought one event and made it speak for the client; the next one was no news to version 1 alone."""
    story.tell("grade")
    story.tell("visit")
    story.tell("visit")
    story.sweep(1)
    story.ring_late(2)
    story.walk(2, Purpose.PUBLISH_DIFFERENCES)
    record = story.worlds[2].record("1")
    assert (record.version, record.parked) == (3, None)
    story.check()


def test_who_speaks_is_who_announced_last_and_not_who_is_furthest(story: Story) -> None:
    """Back to version 1 without taking over: what it projects is no news to anybody, and version 3 tells it."""
    story.tell("grade")
    story.sweep(1)
    story.walk(2, Purpose.PUBLISH_DIFFERENCES)
    for _ in range(3):
        story.tell("grade")
        story.sweep(1)
    story.walk(3, Purpose.FOLD)
    story.sweep(3)
    assert story.worlds[3].outbox("1")[-1].contents["root"] == {"score": None, "segment": "S4!"}
    story.check()


def test_cursors_come_from_the_newest_predecessor(story: Story) -> None:
    """Not from the one that is furthest: what the others passed meanwhile they did not tell."""
    story.tell("grade")
    story.sweep(2)
    story.tell("grade")
    story.sweep(1)
    story.sweep(3)
    assert story.worlds[3].record("1").version == 2
    story.check()


def test_a_generation_whose_predecessor_has_no_cursor_starts_at_the_beginning(story: Story) -> None:
    """Also if that one has swept by the time it does so itself."""
    story.tell("contact")
    story.ring(2)
    story.tell("contact")
    story.sweep(1)
    story.check()


@pytest.mark.parametrize("purpose", [Purpose.FOLD, Purpose.PUBLISH_DIFFERENCES])
def test_every_order_of_walks_and_sweeps(purpose: Purpose) -> None:
    """With events between them; doorbells of neither, one or both older versions ring beside, each for another client."""
    beside: dict[str, Sequence[int]] = {"1": (), "2": (1,), "3": (2,), "4": (1, 2), "5": (2, 1)}
    steps: list[Callable[[Story], None]] = [
        lambda story: story.walk(2, purpose),
        lambda story: story.sweep(2),
        lambda story: story.walk(3, purpose),
        lambda story: story.sweep(3),
    ]
    for order in permutations(steps):
        with closing(Story()) as story:
            for client_id in beside:
                story.tell("contact", client_id)
            story.sweep(1)
            for step in order:
                for client_id, versions in beside.items():
                    story.tell("grade", client_id)
                    for version in versions:
                        story.ring(version, client_id)
                step(story)
            for client_id, versions in beside.items():
                story.tell("contact", client_id)
                for version in versions:
                    story.ring(version, client_id)
            for client_id in beside:
                story.check(client_id)


Step = tuple[str, int | str]


def steps() -> st.SearchStrategy[list[Step]]:
    """Whatever happens, to one client."""
    tell = st.tuples(st.just("tell"), st.sampled_from(list(FACTS)))
    ring = st.tuples(st.sampled_from(["ring", "ring late"]), st.sampled_from([1, 2, 3]))
    sweep = st.tuples(st.just("sweep"), st.sampled_from([1, 2, 3]))
    forward = st.tuples(st.sampled_from([Purpose.FOLD, Purpose.PUBLISH_DIFFERENCES]), st.sampled_from([2, 3]))
    back = st.tuples(st.just(Purpose.TAKE_OVER), st.sampled_from([1, 2]))
    return st.lists(tell | tell | ring | sweep | forward | back, max_size=12)


@settings(max_examples=25, deadline=None)
@given(steps())
@example([("tell", "contact"), (Purpose.TAKE_OVER, 2), ("tell", "grade"), ("ring", 1)])
@example([("tell", "contact"), ("sweep", 3), ("tell", "score"), ("ring", 2), (Purpose.TAKE_OVER, 1)])
@example([("tell", "score"), ("ring", 1), (Purpose.FOLD, 2), ("tell", "contact"), ("sweep", 1), (Purpose.FOLD, 3)])
def test_whatever_happens_is_told(happened: list[Step]) -> None:
    """Doorbells, sweeps, walks of each purpose and events that version 1 cannot digest, in any order."""
    with closing(Story()) as story:
        for what, which in happened:
            if isinstance(which, str):
                story.tell(which)
            elif what == "ring":
                story.ring(which)
            elif what == "ring late":
                story.ring_late(which)
            elif what == "sweep":
                story.sweep(which)
            else:
                story.walk(which, Purpose(what))
        story.check()
