"""A small world for the tests of the integrations: records, a strategy that does what it is told, a clock that stands."""

from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from threading import Event, Lock
from typing import NamedTuple

from pydantic import BaseModel

from eventstore import ClientId, SqliteDatabase, StoreUnavailableError, utc_text
from integrations import (
    Body,
    Deliverer,
    Delivery,
    DeliveryState,
    DeliveryStore,
    Integration,
    LogEntry,
    Outcome,
    SqliteDeliveryStore,
    Strategy,
    Verdict,
)
from projections import SubSchema, UnifiedSchema


class PersonId(ClientId):
    number: str


class Contact(SubSchema):
    email: str | None = None
    name: str | None = None


class Client(UnifiedSchema):
    id: PersonId
    contact: Contact | None = None
    segment: str = "standard"


class Mail(BaseModel):
    """What the target gets."""

    email: str


def client(client_id: str, email: str | None) -> Client:
    """A record with that address, without contact if None."""
    contact = None if email is None else Contact(email=email)
    return Client(id=PersonId(number=client_id), contact=contact)


def mail(record: Client) -> Mail | None:
    """The mapping used throughout."""
    return Mail(email=record.contact.email) if record.contact and record.contact.email else None


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 31, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    @property
    def text(self) -> str:
        return utc_text(self.now)

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Sent(NamedTuple):
    """A call of the strategy; `body` is None for a retraction."""

    body: Body | None
    delivery: Delivery


OK = Outcome(verdict=Verdict.DELIVERED, code="ok")


class TargetDouble:
    """A strategy that keeps what it is called with and ends as scripted, with success after that."""

    def __init__(self) -> None:
        self.calls: list[Sent] = []
        self.entered = Event()
        self.hold: Event | None = None
        self.during: Callable[[], object] | None = None
        self._script: deque[Outcome | BaseException] = deque()
        self._lock = Lock()

    def script(self, *outcomes: Outcome | BaseException) -> None:
        self._script.extend(outcomes)

    def send(self, body: Body, delivery: Delivery) -> Outcome:
        return self._call(Sent(body, delivery))

    def retract(self, delivery: Delivery) -> Outcome:
        return self._call(Sent(None, delivery))

    @property
    def bodies(self) -> list[Body | None]:
        return [sent.body for sent in self.calls]

    def _call(self, sent: Sent) -> Outcome:
        with self._lock:
            self.calls.append(sent)
            outcome = self._script.popleft() if self._script else OK
            during, self.during = self.during, None
        self.entered.set()
        if during is not None:
            during()
        if self.hold is not None:
            self.hold.wait(10)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


class World:
    """Clients, one integration named `crm`, and a deliverer on a real database."""

    def __init__(
        self,
        database: SqliteDatabase,
        clock: Clock,
        *,
        strategy: Strategy | None = None,
        mapping: Callable[[Client], BaseModel | None] = mail,
        max_in_flight: int = 8,
    ) -> None:
        self.clock = clock
        self.target = TargetDouble()
        self.records: dict[str, Client] = {}
        self.unavailable = False
        self.store = SqliteDeliveryStore(database)
        self.integration = Integration(
            name="crm",
            cares_about=("contact",),
            mapping=mapping,
            strategy=strategy or self.target,
            max_in_flight=max_in_flight,
        )
        self.deliverer = self.another_deliverer()
        self._seqs: dict[str, int] = {}

    def another_deliverer(
        self, store: DeliveryStore | None = None, integrations: Iterable[Integration] | None = None
    ) -> Deliverer:
        """As another process would have it."""
        return Deliverer(
            integrations or [self.integration],
            store or self.store,
            self.store,
            self.read,
            clock=self.clock,
            random=lambda: 1.0,
        )

    def read(self, client_id: str) -> Client | None:
        """The record, as the deliverer reads it."""
        if self.unavailable:
            raise StoreUnavailableError("as the test wants it")
        return self.records.get(client_id)

    def announce(self, client_id: str, email: str | None) -> int:
        """A record changes and its announcement is noted; returns the seq."""
        self.records[client_id] = client(client_id, email)
        seq = self._seqs[client_id] = self._seqs.get(client_id, 0) + 1
        self.store.raise_wanted(client_id, {"crm": seq}, at=self.clock.text)
        return seq

    def state(self, client_id: str = "c1") -> DeliveryState:
        held = self.store.load(client_id, "crm")
        assert held is not None
        return held.state

    def log(self, client_id: str = "c1") -> list[LogEntry]:
        """Oldest first."""
        return list(self.store.entries(client_id).entries)[::-1]
