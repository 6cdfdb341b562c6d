"""The life of a delivery state, whatever happens in whatever order."""

from hypothesis import given
from hypothesis import strategies as st

from integrations import DeliveryState, Effect, Outcome, Verdict
from integrations.state import NOTHING, Attempt, Step, claimed, decide, raised, refused, rung, settled, unchanged

BODIES = st.sampled_from([NOTHING, "h1", "h2", "h3"])
OUTCOMES = st.builds(
    Outcome,
    verdict=st.sampled_from(Verdict),
    code=st.just("code"),
    effect=st.sampled_from(Effect),
    remote=st.sampled_from([None, "r1", "r2"]),
    remote_gone=st.booleans(),
)
EVENT = st.one_of(
    st.tuples(st.just("announce"), BODIES),
    st.tuples(st.just("ring"), st.booleans()),
    st.tuples(st.just("claim"), st.none()),
    st.tuples(st.just("settle"), OUTCOMES),
    st.tuples(st.just("die"), st.booleans()),
    st.tuples(st.just("unmapped"), st.none()),
    st.tuples(st.just("pass time"), st.integers(1, 40)),
)
EVENTS = st.lists(EVENT, max_size=40)


def at(second: int) -> str:
    return f"{second:06d}"


class Life:
    """One client at one target, as deliverers move it on."""

    def __init__(self) -> None:
        self.state = DeliveryState("c1", "crm")
        self.now = 0
        self.seq = 0
        self.body = NOTHING
        self.target = NOTHING
        self.calls: list[Attempt] = []

    def step(self, kind: str, value: object) -> None:
        now = at(self.now)
        if kind == "announce" and isinstance(value, str):
            self.seq, self.body = self.seq + 1, value
            self.state = raised(self.state, self.seq, now)
        elif kind == "ring":
            self.state = rung(self.state, now, resend=bool(value))
        elif kind == "claim":
            self.deliver(now)
        elif kind == "settle" and isinstance(value, Outcome) and self.calls:
            self.settle(self.calls.pop(0), value, now)
        elif kind == "die" and self.calls:
            attempt = self.calls.pop(0)  # its process ends and writes nothing down
            self.target = attempt.body_hash if value else self.target
        elif kind == "unmapped" and self.is_free(now):
            self.state = refused(self.state, "mapping_raised", None)
        elif kind == "pass time" and isinstance(value, int):
            self.now += value

    def is_free(self, now: str) -> bool:
        claim, due = self.state.claimed_until, self.state.due_at
        return (claim is None or claim <= now) and due is not None and due <= now

    def deliver(self, now: str) -> None:
        if not self.is_free(now):
            return
        step = decide(self.state, self.body)
        if step is Step.UNCHANGED:
            self.state = unchanged(self.state)
        elif step is Step.STILL_FAILED:
            self.state = refused(self.state, "code", self.body)
        else:
            until = at(self.now + 30)
            self.state = claimed(self.state, until)
            self.calls.append(Attempt(self.state.wanted, self.body, self.state.resends, until))

    def settle(self, attempt: Attempt, outcome: Outcome, now: str) -> None:
        if outcome.verdict is Verdict.DELIVERED or outcome.effect is not Effect.NONE:
            self.target = attempt.body_hash
        self.state = settled(self.state, attempt, outcome, now=now, retry_at=at(self.now + 2))


@given(EVENTS)
def test_wanted_and_delivered_only_grow(events: list[tuple[str, object]]) -> None:
    """Whatever happens, wanted is the highest announced seq, and delivered grows up to it at most."""
    life = Life()
    for kind, value in events:
        before = life.state
        life.step(kind, value)
        assert life.state.wanted == life.seq
        assert before.delivered <= life.state.delivered <= life.state.wanted
        assert life.state.entries >= before.entries
        assert life.state.resends >= before.resends


@given(EVENTS)
def test_nothing_is_forgotten(events: list[tuple[str, object]]) -> None:
    """What is wanted and not delivered, claimed, or in doubt is due or listed as failed."""
    life = Life()
    for kind, value in events:
        life.step(kind, value)
        state = life.state
        if state.delivered < state.wanted or state.in_doubt:
            assert state.due_at is not None or state.failed_code is not None


@given(EVENTS)
def test_once_quiet_the_target_has_the_record(events: list[tuple[str, object]]) -> None:
    """However the calls ended, when the target takes what it is given and nothing changes, it ends with the record."""
    life = Life()
    for kind, value in events:
        life.step(kind, value)
    while life.calls:  # those under way end somehow
        life.settle(life.calls.pop(0), Outcome(verdict=Verdict.RETRY, code="x", effect=Effect.POSSIBLE), at(life.now))
    if life.state.failed_code is not None:
        life.state = rung(life.state, at(life.now), resend=True)
    for _ in range(6):
        life.now += 40
        life.deliver(at(life.now))
        while life.calls:
            life.settle(life.calls.pop(0), Outcome(verdict=Verdict.DELIVERED, code="ok"), at(life.now))
    assert life.state.due_at is None
    assert life.state.delivered == life.state.wanted
    if life.seq:
        assert life.target == life.body


@given(EVENTS)
def test_two_calls_never_run_at_once_within_their_claims(events: list[tuple[str, object]]) -> None:
    """At most one call is within its claim, and the ends of claims tell those apart that are still under way."""
    life = Life()
    for kind, value in events:
        life.step(kind, value)
        ends = [call.until for call in life.calls]
        assert len(ends) == len(set(ends))
        assert sum(end > at(life.now) for end in ends) <= 1
