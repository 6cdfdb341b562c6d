"""The delivery of records to all targets, and what operators do about it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from random import random

from eventstore import utc_text

from .errors import IncompleteError, UnknownDeliveryError, UnknownIntegrationError
from .gate import FOREVER
from .integration import Integration, ReadRecord
from .lane import DeliveryResult, DryRun, Lane
from .ports import DeliveryStore, LogEntry, PauseStore

_HOLD = timedelta(seconds=30)  # after which a caller takes over no further client
_RINGERS = 8


class Deliverer:
    """Delivers records to targets. Safe to call from many threads and processes at once, and after a kill anywhere.

    Args:
        integrations: all of them.
        deliveries: their states.
        pauses: their pauses.
        records: reads the present record of a client.
        claim_seconds: how long a call may take; longer than any strategy needs.
        on_attempt: told the log entry of each attempt, once it is stored.
        clock: present time.
        random: uniform in [0, 1), for jitter.
    """

    def __init__(
        self,
        integrations: Iterable[Integration],
        deliveries: DeliveryStore,
        pauses: PauseStore,
        records: ReadRecord,
        *,
        claim_seconds: float = 30.0,
        on_attempt: Callable[[LogEntry], None] = lambda _: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        random: Callable[[], float] = random,  # noqa: S311 - jitter
    ) -> None:
        self._deliveries = deliveries
        self._clock = clock
        self._lanes = {
            each.name: Lane(
                each,
                deliveries,
                pauses,
                records,
                claim_seconds=claim_seconds,
                on_attempt=on_attempt,
                clock=clock,
                random=random,
            )
            for each in integrations
        }

    def deliver(self, client_id: str, integration: str) -> DeliveryResult:
        """Bring the target to the client's present record, if that is due.

        While at it, it also takes over clients that others left because too many calls were under way.

        Raises:
            UnknownIntegrationError: no integration has that name.
            StoreUnavailableError: a database is out of reach.
        """
        lane = self._lane(integration)
        if not lane.slots.take(client_id):
            return DeliveryResult.BUSY
        leave_at = self._clock() + _HOLD
        try:
            result = lane.deliver(client_id)
            while self._clock() < leave_at:
                other = lane.slots.take_over()
                if other is None:
                    return result
                lane.deliver(other)
        except BaseException:
            lane.slots.leave()
            raise
        lane.slots.leave()
        return result

    def deliver_due(self, *, limit: int = 100, seconds: float = 20.0) -> Mapping[str, Counter[DeliveryResult]]:
        """Deliver what is due, each integration on its own threads; returns the results by integration.

        Args:
            limit: at most so many clients of each integration.
            seconds: after which no further client is begun.

        Raises:
            IncompleteError: trouble with some clients; all others were handled.
            StoreUnavailableError: the database is out of reach.
        """
        stop_at = self._clock() + timedelta(seconds=seconds)
        failures: dict[str, Exception] = {}
        with ThreadPoolExecutor(max(1, len(self._lanes)), thread_name_prefix="due") as pool:
            sweeps = {
                name: pool.submit(self._sweep, lane, limit, stop_at, failures) for name, lane in self._lanes.items()
            }
        results = {name: sweep.result() for name, sweep in sweeps.items()}
        if failures:
            raise IncompleteError(failures)
        return results

    def ring(self, integration: str, client_ids: Iterable[str], *, resend: bool = False) -> int:
        """Make deliveries due, for a new integration or a changed mapping; returns how many.

        Args:
            integration: its name.
            client_ids: a page of them at a time.
            resend: send also what the target was given already, and what it refused.

        Raises:
            UnknownIntegrationError: no integration has that name.
            StoreUnavailableError: the database is out of reach; ring them again.
        """
        lane = self._lane(integration)
        with ThreadPoolExecutor(_RINGERS, thread_name_prefix="ring") as pool:
            return len(list(pool.map(lambda client_id: lane.ring(client_id, resend=resend), client_ids)))

    def retry(self, client_id: str, integration: str) -> DeliveryResult:
        """Deliver now, whatever was refused or waits.

        Raises:
            UnknownIntegrationError: no integration has that name.
            UnknownDeliveryError: nothing was ever wanted of this client.
            StoreUnavailableError: a database is out of reach.
        """
        lane = self._lane(integration)
        if self._deliveries.load(client_id, integration) is None:
            raise UnknownDeliveryError(client_id, integration)
        lane.ring(client_id, resend=True)
        return self.deliver(client_id, integration)

    def dry_run(self, client_id: str, integration: str) -> DryRun:
        """What a delivery would do now. Sends and stores nothing.

        Raises:
            UnknownIntegrationError: no integration has that name.
            StoreUnavailableError: a database is out of reach.
        """
        return self._lane(integration).dry_run(client_id)

    def pause(self, integration: str, reason: str) -> None:
        """No calls until `resume`; what is announced meanwhile waits.

        Raises:
            UnknownIntegrationError: no integration has that name.
            StoreUnavailableError: the database is out of reach.
        """
        self._lane(integration).gate.postpone(FOREVER, reason)

    def resume(self, integration: str) -> None:
        """End any pause, an operator's or the target's.

        Raises:
            UnknownIntegrationError: no integration has that name.
            StoreUnavailableError: the database is out of reach.
        """
        self._lane(integration).gate.resume()

    def _lane(self, integration: str) -> Lane:
        try:
            return self._lanes[integration]
        except KeyError:
            raise UnknownIntegrationError(integration, tuple(self._lanes)) from None

    def _sweep(
        self, lane: Lane, limit: int, stop_at: datetime, failures: dict[str, Exception]
    ) -> Counter[DeliveryResult]:
        name = lane.integration.name

        def deliver(client_id: str) -> DeliveryResult | None:
            if self._clock() >= stop_at:
                return None
            try:
                return self.deliver(client_id, name)
            except Exception as error:  # noqa: BLE001 - raised by deliver_due with the other failures
                failures[client_id] = error
                return None

        due = [state.client_id for state in self._deliveries.due(name, before=utc_text(self._clock()), limit=limit)]
        # The first one alone: it finds out whether the integration is paused, and may be the one to probe.
        results = [deliver(client_id) for client_id in due[:1]]
        if results != [DeliveryResult.PAUSED] and len(due) > 1:
            with ThreadPoolExecutor(lane.integration.max_in_flight, thread_name_prefix=name) as pool:
                results += pool.map(deliver, due[1:])
        return Counter(result for result in results if result is not None)
