"""What the integrations need from a message topic and a database.

A client is one partition: nothing here asks for a transaction over two clients, or over a client and anything else.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from .messages import TopicMessage
from .state import DeliveryState


class Topic(Protocol):
    """The sending side of a topic that drops a message whose id it has seen within its duplicate-detection window."""

    def send(self, messages: Sequence[TopicMessage]) -> None:
        """Send messages of one client in their order; when it returns, the topic has them all.

        If it raises, some may have arrived: the caller sends them all again.

        Raises:
            TopicUnavailableError: the topic is out of reach.
        """


class ReceivedMessage(NamedTuple):
    """A message held under a lock.

    Attributes:
        subscription: where it was received.
        lock: names this receipt of it.
        delivery_count: how often it was received, this time included.
        message: what was sent.
    """

    subscription: str
    lock: str
    delivery_count: int
    message: TopicMessage


class Subscriptions(Protocol):
    """The receiving side: each subscription gets a copy of each message its filter admits."""

    def receive(self, subscription: str, *, limit: int, wait: float = 0.0) -> Sequence[ReceivedMessage]:
        """Lock the next messages, in the order they were sent.

        Args:
            subscription: its name.
            limit: at most so many.
            wait: seconds to wait for the first one.

        Raises:
            UnknownSubscriptionError: there is no such subscription.
            TopicUnavailableError: the topic is out of reach.
        """

    def complete(self, received: ReceivedMessage) -> None:
        """Forget a message that was dealt with.

        Raises:
            MessageLockLostError: its lock has ended.
        """

    def abandon(self, received: ReceivedMessage) -> None:
        """Hand a message back at once; one handed back or timed out too often is dead-lettered.

        Raises:
            MessageLockLostError: its lock has ended.
        """

    def dead_letters(self, subscription: str, *, limit: int = 100) -> Sequence[TopicMessage]:
        """Messages nobody managed to deal with, oldest first."""


class LogEntry(NamedTuple):
    """What one attempt at a delivery did; never changes.

    Attributes:
        client_id: text of the client id.
        integration: name of the integration.
        number: counts the entries of client and integration from 1.
        at: when the attempt ended, in UTC text form.
        seq: what was wanted.
        action: `send`, `retract`, or `map` if it got no further than the mapping.
        verdict: what followed, see `Verdict`.
        code: stable short name of the reason.
        status: HTTP status, if there was one.
        seconds: how long the call took.
        body_hash: hash of the body, empty if there was none.
        request: method and path of the call.
        body: what was sent, masked and cut.
        answer: what the target said, masked and cut.
    """

    client_id: str
    integration: str
    number: int
    at: str
    seq: int
    action: str
    verdict: str
    code: str
    status: int | None = None
    seconds: float = 0.0
    body_hash: str = ""
    request: str = ""
    body: str = ""
    answer: str = ""


class HeldState(NamedTuple):
    """A state and the tag that guards the next write of it."""

    state: DeliveryState
    tag: str


class DeliveryStore(Protocol):
    """The state of each client at each integration."""

    def raise_wanted(self, client_id: str, wanted: Mapping[str, int], *, at: str) -> None:
        """Note what was announced, for all integrations together or for none.

        Args:
            client_id: the client.
            wanted: seq by integration; one that is not above the stored one changes nothing (see `state.raised`).
            at: present time in UTC text form.
        """

    def load(self, client_id: str, integration: str) -> HeldState | None:
        """The present state, None if nothing was ever wanted."""

    def save(self, state: DeliveryState, tag: str | None, *, entry: LogEntry | None = None) -> str | None:
        """Store a state if it is still as it was loaded, and the log entry of the attempt with it.

        Args:
            state: the new state.
            tag: of the state it replaces, None if there was none.
            entry: becomes visible together with the state.

        Returns:
            The new tag, or None if somebody else wrote first; then nothing was stored.
        """

    def due(self, integration: str, *, before: str | None = None, limit: int = 100) -> Sequence[DeliveryState]:
        """States with something to do, those due longest first.

        Args:
            integration: its name.
            before: only those due by this time, in UTC text form; None is all.
            limit: at most so many.
        """

    def failed(self, integration: str, *, after: str = "", limit: int = 100) -> Sequence[DeliveryState]:
        """States whose body is refused, by ascending client id above `after`."""

    def of_client(self, client_id: str) -> Sequence[DeliveryState]:
        """A client's states by ascending name of the integration."""

    def wanted(self, client_ids: Sequence[str]) -> Mapping[str, int]:
        """The highest seq that any integration wants of each client; clients of whom none wants one are left out."""


class LogPage(NamedTuple):
    """Log entries, newest first, and the cursor that continues after them; None if there are no more."""

    entries: Sequence[LogEntry]
    cursor: str | None


class DeliveryLog(Protocol):
    """What was sent to whom, read from the partition of one client."""

    def entries(
        self, client_id: str, *, integration: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> LogPage:
        """A client's entries, of one integration if given, newest first.

        Raises:
            InvalidLogCursorError: the cursor was not handed out by this query.
        """


class Pause(NamedTuple):
    """Whether an integration is called at all.

    Attributes:
        integration: its name.
        until: no calls before this time, in UTC text form; one that has passed asks for a single trial call; None is
            not paused.
        reason: why, for people.
    """

    integration: str
    until: str | None = None
    reason: str | None = None


class HeldPause(NamedTuple):
    """A pause and the tag that guards the next write of it; None if it was never stored."""

    pause: Pause
    tag: str | None


class PauseStore(Protocol):
    """One document for each integration."""

    def load_pause(self, integration: str) -> HeldPause:
        """What is stored; not paused if nothing is."""

    def save_pause(self, pause: Pause, tag: str | None) -> str | None:
        """Store it if it is still as it was loaded.

        Returns:
            The new tag, or None if somebody else wrote first.
        """
