"""The function app: every function of a domain, registered but not started."""

from collections.abc import Callable

from azure.functions import AuthLevel, Blueprint, FunctionApp

from .domain import Domain
from .queries import add_queries
from .receivers import EventFunctionBuilder
from .runtime import Runtime
from .timers import TimerFunctionBuilder
from .triggers import TriggerFunctionBuilder


def build_app(domain: Domain, runtime: Callable[[], Runtime], *, platform_auth: bool = False) -> FunctionApp:
    """The functions of a domain. Does no I/O: the runtime is asked for when a function is first called.

    Args:
        domain: tells which functions there are.
        runtime: gives the composed application.
        platform_auth: whether the platform authenticates who calls, so that query functions go by roles and not by keys.
    """
    blueprint = Blueprint()  # type: ignore[no-untyped-call]  # azure-functions leaves it untyped
    receivers = EventFunctionBuilder(blueprint, runtime)
    for receiver in domain.receivers:
        receivers.add(receiver)
    timers = TimerFunctionBuilder(blueprint, runtime)
    for pull in domain.pulls:
        timers.add(pull)
    timers.add_sweeps()
    triggers = TriggerFunctionBuilder(blueprint, runtime)
    triggers.add_projector(domain)
    for integration in domain.integrations:
        triggers.add_delivery(domain, integration)
    for receiver in domain.queued:
        triggers.add_queue(receiver)
    add_queries(blueprint, runtime, platform_auth=platform_auth)
    app = FunctionApp(http_auth_level=AuthLevel.FUNCTION)
    app.register_functions(blueprint)
    return app
