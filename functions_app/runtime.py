"""The composition root: one domain on one backend, wired once, and the work that triggers ask for."""

import json
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from threading import Event

from eventstore import RecordedEvent, Rejection, StoreUnavailableError, utc_text
from integrations import IntegrationError, QueueUnavailableError
from projections import (
    FeedFollower,
    Projector,
    Record,
    RecordReader,
    Swept,
    Target,
    UnifiedSchema,
    UnknownClientError,
    annul,
    check_generation,
    retry_parked,
)

from . import telemetry
from .access import AccessRecorder
from .backend import Backend
from .domain import Domain, Pull, Source, load_domain
from .embedded import open_embedded
from .errors import InputRefusedError
from .findings import Findings
from .intake import Accepted, Delivered, Intake, Trace
from .observed import ObservedDeliverer, ObservedProjector, ObservedPublisher, ObservedTopic, observed
from .progress import NotedCheckpoints
from .queue_intake import QueueIntake
from .references import References, random_key, references_for
from .settings import Settings

_log = logging.getLogger(__name__)

_OVERDUE = timedelta(minutes=1)  # an outbox entry older than this was missed by the doorbell


class Runtime:
    """A domain on a backend.

    Args:
        domain: what the team wrote.
        settings: what differs between installations.
        backend: databases, topic and queues.
        references: what clients are called where their ids must not stand; if not given, by a key of this process.
        clock: present time.

    Attributes:
        new_events: set whenever this process stored events; rings the projector of the local host.
    """

    def __init__(
        self,
        domain: Domain,
        settings: Settings,
        backend: Backend,
        *,
        references: References | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.domain, self.settings, self.backend = domain, settings, backend
        self.references = references or References(random_key())
        self.clock = clock
        self.new_events = Event()

    @cached_property
    def intake(self) -> Intake:
        """Takes what sources deliver."""
        return Intake(self.domain.events, self.backend.events, notify=self._ring, clock=self.clock)

    @cached_property
    def queue_intake(self) -> QueueIntake:
        """Brings deliveries through the session queues of the receivers."""

        def keep(source: Source, delivered: Delivered, error: InputRefusedError) -> None:
            self.backend.rejections.add([self.rejection(source, delivered, error)])

        return QueueIntake(self.intake, self.backend.queues, keep, clock=self.clock)

    @cached_property
    def projector(self) -> Projector:
        """Brings clients up to date and hands what has to be told to the publisher.

        Raises:
            FingerprintMismatchError: the code changed without a new projection version.
        """
        if check_generation(self.domain.projection, self.backend.checkpoints, self.backend.feed):
            _log.warning("Rule code changed since %s was first projected", self.domain.projection.generation)
        return ObservedProjector(
            self.domain.projection,
            self.backend.events,
            self.backend.projections,
            on_announced=self.publish_soon,
            references=self.references,
        )

    @cached_property
    def follower(self) -> FeedFollower:
        """The sweep of the change feed."""
        noted = NotedCheckpoints(self.backend.checkpoints, self.clock)
        return FeedFollower(self.projector, self.backend.feed, noted, on_foreign=self.findings.note_foreign)

    @cached_property
    def reader(self) -> RecordReader:
        """Answers queries."""
        return RecordReader(
            self.domain.projection, self.backend.events, self.backend.projections, self.backend.projections
        )

    @cached_property
    def publisher(self) -> ObservedPublisher:
        """Empties the outbox."""
        return ObservedPublisher(
            self.backend.projections,
            self.backend.deliveries,
            ObservedTopic(self.backend.topic, self.references),
            self.domain.integrations,
            source=f"/client-flow/{self.domain.projection.name}",
            clock=self.clock,
            references=self.references,
        )

    @cached_property
    def findings(self) -> Findings:
        """What verifying found and nobody has dealt with."""
        return Findings(self.backend.checkpoints, self.domain.projection.generation, self.clock, self.references)

    @cached_property
    def deliverer(self) -> ObservedDeliverer:
        """Calls the targets."""
        return ObservedDeliverer(
            [observed(each, self.references) for each in self.domain.integrations_with(self.settings)],
            self.backend.deliveries,
            self.backend.deliveries,
            self._model,
            clock=self.clock,
            references=self.references,
        )

    @cached_property
    def accesses(self) -> AccessRecorder:
        """Enters who looked at whom and who did what."""
        return AccessRecorder(self.backend.access, self.references, self.clock)

    def sweep(
        self,
        *,
        overdue: timedelta = _OVERDUE,
        stop: Callable[[], bool] = lambda: False,
        on_page: Callable[[int], None] | None = None,
    ) -> Swept:
        """Find what doorbells missed: events not yet projected, clients parked by older code, announcements not sent.

        Args:
            overdue: age from which an announcement counts as missed; a younger one is being sent by its projector.
            stop: asked between portions of work.
            on_page: told the number of events of each page of the feed.

        Raises:
            StoreUnavailableError: a database is out of reach.
            IntegrationError: the topic is out of reach.
        """
        swept = self.follower.sweep(stop=stop, on_page=on_page)
        retry_parked(self.projector, self.backend.projections)
        before = utc_text(self.clock() - overdue)
        while not stop() and (waiting := self.backend.projections.waiting(older_than=before)):
            self.publisher.publish(waiting)
        return swept

    def drain_queues(self) -> None:
        """Take what ended among the dead letters of the session queues; what is out of reach now is so for a while."""
        for receiver in self.domain.queued:
            try:
                self.queue_intake.drain(receiver)
            except (QueueUnavailableError, StoreUnavailableError) as error:
                _log.warning("Dead letters of %s are left to the next sweep: %s", receiver.queue_name, error)

    def record_at_least(self, client_id: str, version: int) -> Record:
        """The client's record, brought to a version first if it is behind.

        Raises:
            StreamBehindError: the client has no such version.
            StoreUnavailableError: a database is out of reach.
        """
        return self.projector.catch_up(client_id, Target(version))

    def pull(self, pull: Pull) -> tuple[int, int]:
        """Take what a source has that is new; a portion's cursor is stored once its items are stored or kept.

        Returns:
            How many items were accepted, and how many were kept as rejections.
        """
        with telemetry.pulled(pull.name):
            return self._pull(pull, Trace(traceparent=telemetry.current_traceparent()))

    def _pull(self, pull: Pull, trace: Trace) -> tuple[int, int]:
        name = f"pull:{pull.name}"
        accepted = rejected = 0
        for portion in pull.get_data(self.settings, self.backend.pulled.load(name)):
            deliveries = [Delivered(item) for item in portion.items]
            results = self.intake.accept_all(pull, deliveries, trace)
            refused = [
                self.rejection(pull, delivered, result)
                for delivered, result in zip(deliveries, results, strict=True)
                if isinstance(result, InputRefusedError)
            ]
            self.backend.rejections.add(refused)
            self.backend.pulled.save(name, portion.cursor)
            accepted += len(results) - len(refused)
            rejected += len(refused)
        return accepted, rejected

    def rejection(self, source: Source, delivered: Delivered, error: InputRefusedError) -> Rejection:
        """What is kept of a delivery that was refused."""
        return Rejection(
            number=0,
            source=source.name,
            key=delivered.key,
            rejected_at=utc_text(self.clock()),
            code=error.code,
            problems=tuple(f"{path}: {problem}" for path, problem in error.problems),
            payload=json.dumps(delivered.payload).encode(),
        )

    def replay(self, number: int) -> list[Accepted]:
        """Take a rejection in again; it is resolved if it is accepted now.

        Raises:
            RejectionNotFoundError: there is no such open rejection.
            InputRefusedError: it is still refused.
        """
        rejection = self.backend.rejections.get(number)
        source = self.domain.source(rejection.source)
        accepted = self.intake.accept(source, Delivered(json.loads(rejection.payload), key=rejection.key))
        self.backend.rejections.resolve(number)
        return accepted

    def annul(self, client_id: str, version: int, *, reason: str, by: str) -> Record:
        """Append the annulment of an event and bring the client up to date.

        Raises:
            AnnulmentError: there is no such event, or it is an annulment.
            EventIdReusedError: it was annulled before, for another reason or by somebody else.
        """
        event = annul(self.backend.events, client_id, version, reason=reason, by=by, now=self.clock())
        return self.projector.catch_up(client_id, Target(event.version, [event], retry=True))

    def close(self) -> None:
        """Let go of files, links and connections; nothing else may be called after it."""
        self.backend.close()

    def _model(self, client_id: str) -> UnifiedSchema | None:
        try:
            return self.reader.current(client_id).model
        except UnknownClientError:
            return None

    def _ring(self, events: Sequence[RecordedEvent]) -> None:  # noqa: ARG002 - the feed tells which
        self.new_events.set()

    def publish_soon(self, client_ids: Sequence[str]) -> None:
        """The publisher's doorbell: best effort, since the outbox keeps what fails here for the sweep."""
        try:
            self.publisher.publish(client_ids)
        except (IntegrationError, StoreUnavailableError) as error:
            _log.warning("Publishing is left to the sweep: %s", type(error).__name__)


def open_runtime(settings: Settings, *, on_charge: Callable[[float], None] = lambda _: None) -> Runtime:
    """The runtime that the settings describe.

    Args:
        settings: where its data is.
        on_charge: told the request units of each answer of Cosmos DB; the thread that asked waits for it.

    Raises:
        DomainError: the domain cannot be found or is declared wrongly.
        StoreVersionError: a newer version of this software wrote the data.
        StoreUnavailableError: the data cannot be opened.
    """
    domain = load_domain(settings.domain)
    if settings.on_azure:
        from .azure_host import open_azure

        return Runtime(
            domain, settings, open_azure(settings, domain, on_charge=on_charge), references=references_for(settings)
        )
    return Runtime(domain, settings, open_embedded(settings.data, domain), references=references_for(settings))


def lazily(settings: Settings) -> Callable[[], Runtime]:
    """The same runtime on every call, opened on the first: importing an app does no I/O."""
    return cache(lambda: open_runtime(settings))
