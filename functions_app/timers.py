"""Timer functions: one for each source that is asked, and those that find what doorbells missed."""

import logging
from collections.abc import Callable
from random import Random

from azure.functions import Blueprint, TimerRequest

from eventstore import EventStoreError, StoreUnavailableError

from .domain import Pull
from .errors import FlowError, PullFailedError
from .lag import report_lag
from .problems import log_unexpected
from .runtime import Runtime
from .verifying import verify_a_few

SWEEP_SCHEDULE = "0 * * * * *"
DUE_SCHEDULE = "*/10 * * * * *"

_RANDOM = Random()  # noqa: S311 - which clients are verified is no secret

_log = logging.getLogger(__name__)


class TimerFunctionBuilder:
    """Builds the timer functions of pulls.

        TimerFunctionBuilder(blueprint, runtime).add(pull)     # <name>_scheduled_event, on the pull's schedule

    What could not be turned into events is kept as a rejection; one bad item never drops the rest.

    Args:
        blueprint: where the functions are registered.
        runtime: gives the composed application, on first use.
    """

    def __init__(self, blueprint: Blueprint, runtime: Callable[[], Runtime]) -> None:
        self._blueprint = blueprint
        self._runtime = runtime

    def add(self, pull: Pull) -> None:
        """Register the function of one pull."""
        runtime = self._runtime

        def scheduled_event(timer: TimerRequest) -> None:  # noqa: ARG001 - the worker binds by name
            try:
                accepted, rejected = runtime().pull(pull)
            except (EventStoreError, FlowError):
                raise
            except Exception as error:  # noqa: BLE001 - user code; may quote the payload, and hosts log what leaves here
                raise PullFailedError(pull.name, type(error).__name__, log_unexpected(error)) from None
            _log.info("Pulled from %s: %d accepted, %d rejected", pull.name, accepted, rejected)

        self._register(f"{pull.name}_scheduled_event", pull.schedule, scheduled_event)

    def add_sweeps(self) -> None:
        """Register `sweep` and `deliver_due`, which make up for lost doorbells and retry deliveries."""
        runtime = self._runtime

        def sweep(timer: TimerRequest) -> None:  # noqa: ARG001 - the worker binds by name
            report_lag(runtime())  # before anything is made up for: what doorbells left lying shows
            try:
                runtime().sweep()
            finally:
                runtime().drain_queues()
            try:
                verify_a_few(runtime(), _RANDOM)
            except StoreUnavailableError as error:
                _log.warning("Verifying a few clients is left to a later sweep: %s", type(error).__name__)

        def deliver_due(timer: TimerRequest) -> None:  # noqa: ARG001 - the worker binds by name
            runtime().deliverer.deliver_due()

        self._register("sweep", SWEEP_SCHEDULE, sweep)
        self._register("deliver_due", DUE_SCHEDULE, deliver_due)

    def _register(self, name: str, schedule: str, function: Callable[[TimerRequest], None]) -> None:
        decorate = self._blueprint.timer_trigger(schedule=schedule, arg_name="timer", run_on_startup=False)
        self._blueprint.function_name(name)(decorate(function))
