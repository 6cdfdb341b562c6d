"""From the outbox to the topic, and to the integrations' own account of what they owe."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Event

from eventstore import StoreUnavailableError, utc_text
from projections import Outbox, OutboxEntry

from .errors import IncompleteError, TopicUnavailableError
from .integration import Integration
from .messages import topic_message
from .ports import DeliveryStore, Topic

_WORKERS = 8


class Publisher:
    """Publishes what the projector committed, client by client in the order of seq.

    For each client it (1) raises what the interested integrations owe, (2) sends the messages, (3) deletes the outbox
    entries. Interrupted anywhere, the next call repeats the rest: (1) never lowers anything, the topic drops a message
    it has, and deleting twice does not matter. Integrations work from (1), so that a topic that loses a message delays
    them at most.

    Args:
        outbox: what waits.
        deliveries: what the integrations owe.
        topic: the topic of the projection.
        integrations: all of them.
        source: CloudEvents source of the messages, as `/client-flow/clients`.
        clock: present time.
    """

    def __init__(
        self,
        outbox: Outbox,
        deliveries: DeliveryStore,
        topic: Topic,
        integrations: Iterable[Integration],
        *,
        source: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._outbox, self._deliveries, self._topic = outbox, deliveries, topic
        self._interests = [(integration.name, frozenset(integration.cares_about)) for integration in integrations]
        self._source = source
        self._clock = clock

    def publish(self, client_ids: Iterable[str]) -> int:
        """Publish everything that waits for these clients; returns how many announcements that were.

        Clients are handled side by side. Trouble with one does not stop the others, unless topic or database are out
        of reach: then no further client is begun.

        Raises:
            TopicUnavailableError: the topic is out of reach.
            StoreUnavailableError: a database is out of reach.
            IncompleteError: some clients could not be published; all others were. Their entries wait.
        """
        clients = list(dict.fromkeys(client_ids))
        failures: dict[str, Exception] = {}
        published = 0
        down = Event()

        def publish(client_id: str) -> int:
            if down.is_set():
                return 0
            try:
                return self._publish(client_id)
            except (TopicUnavailableError, StoreUnavailableError):
                down.set()
                raise

        with ThreadPoolExecutor(max(1, min(_WORKERS, len(clients))), thread_name_prefix="publish") as pool:
            attempts = [(client_id, pool.submit(publish, client_id)) for client_id in clients]
            for client_id, attempt in attempts:
                try:
                    published += attempt.result()
                except (TopicUnavailableError, StoreUnavailableError):
                    raise
                except Exception as error:  # noqa: BLE001 - raised below with the other failures
                    failures[client_id] = error
        if failures:
            raise IncompleteError(failures)
        return published

    def _publish(self, client_id: str) -> int:
        entries = self._outbox.pending(client_id)
        if not entries:
            return 0
        wanted = self._wanted(entries)
        if wanted:
            self._deliveries.raise_wanted(client_id, wanted, at=utc_text(self._clock()))
        self._topic.send([topic_message(entry, source=self._source) for entry in entries])
        self._outbox.delete(entries)
        return len(entries)

    def _wanted(self, entries: Sequence[OutboxEntry]) -> dict[str, int]:
        return {
            name: entry.seq
            for entry in entries  # ascending: the last one that concerns an integration stays
            for name, interest in self._interests
            if not interest.isdisjoint(entry.contents)
        }
