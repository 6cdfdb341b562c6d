"""The domain: what a team writes, bundled. Everything else in this package is the same for every team."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from importlib import import_module
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from eventstore import ClientId, Event, EventRegistry
from integrations import Body, Delivery, Integration, Outcome, Strategy, Verdict
from projections import Projection

from .errors import DomainError, MissingSettingError, UnknownSourceError
from .event_keys import EventKey, HeaderKey
from .settings import Settings
from .signatures import HmacSignature

_SOURCE = re.compile(r"[a-z][a-z0-9_]{0,31}")  # part of a function name, and of event ids
_RESERVED = "flow"


class Fact(NamedTuple):
    """What a source told about one client.

    Attributes:
        client_id: the client.
        event: what happened.
        occurred_at: when it became true, with an offset; None if the source does not say, then it is the time of
            receipt.
    """

    client_id: ClientId
    event: Event
    occurred_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A system that tells facts about clients.

    Attributes:
        name: lower-case letters, digits and `_`; part of function names and event ids.
        payload: what it sends.
        process: pure function from a payload to the facts in it.
        key: where the identity of a delivery comes from, by which a repeat is recognised.
    """

    name: str
    payload: type[BaseModel]
    process: Callable[[Any], Iterable[Fact]]
    key: EventKey

    def __post_init__(self) -> None:
        """Refuse a name that no function could have, or no event may."""
        if _SOURCE.fullmatch(self.name) is None:
            raise DomainError(f"Source name {self.name!r}: 1 to 32 of a-z, 0-9 and '_' were expected, a letter first.")
        if self.name == _RESERVED:
            raise DomainError(f"Source name {self.name!r} is reserved for events of this software itself.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver(Source):
    """A source that posts to us: becomes the HTTP function `<name>_receive_event`.

    Attributes:
        signature: makes the check of its signature from the settings; None if it authenticates by function key.
        max_bytes: size limit of a body.
        queue: whether it has a session queue. With `also` the messages of that queue are taken besides the requests;
            with `first` the requests themselves are answered as soon as they are in the queue, for bursts.
    """

    signature: Callable[[Settings], HmacSignature] | None = None
    max_bytes: int = 256 * 1024
    queue: Literal["also", "first"] | None = None

    def __post_init__(self) -> None:
        """Refuse a receiver whose key a forger could choose."""
        Source.__post_init__(self)
        if self.signature is not None and isinstance(self.key, HeaderKey):
            raise DomainError(f"Receiver {self.name!r}: headers are not signed, take the key from the signed body.")

    @property
    def queue_name(self) -> str:
        """Name of its session queue."""
        return f"{self.name}-events"  # topics are in the same namespace, but have no hyphen


class Pulled(NamedTuple):
    """A portion of what a source had.

    Attributes:
        items: JSON objects, in the order in which they became true.
        cursor: asks for what comes after them.
    """

    items: Sequence[Any]
    cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull(Source):
    """A source that we ask: becomes the timer function `<name>_scheduled_event`.

    Attributes:
        schedule: NCRONTAB with six fields, or `%SETTING%`.
        get_data: yields what is new since a cursor (None at first), a portion at a time; each portion's cursor is
            stored once its items are.
    """

    schedule: str
    get_data: Callable[[Settings, str | None], Iterator[Pulled]]


class FromSettings:
    """A strategy that is made from the settings when it is first used.

        Integration(name="crm", ..., strategy=FromSettings(lambda settings: RESTIntegration(settings.text("CRM_URL"))))

    While a setting is missing, the integration pauses and says which one; nothing is lost and no app fails to start.

    Args:
        make: makes the strategy.
        settings: where it looks.
    """

    def __init__(self, make: Callable[[Settings], Strategy], settings: Settings | None = None) -> None:
        self._make = make
        self._strategy = cache(lambda: make(settings or Settings()))

    def bound_to(self, settings: Settings) -> "FromSettings":
        """The same strategy for these settings."""
        return FromSettings(self._make, settings)

    def send(self, body: Body, delivery: Delivery) -> Outcome:
        """See `Strategy.send`."""
        try:
            strategy = self._strategy()
        except MissingSettingError as error:
            return Outcome(verdict=Verdict.PAUSE, code="setting_missing", answer=str(error))
        return strategy.send(body, delivery)

    def retract(self, delivery: Delivery) -> Outcome:
        """See `Strategy.retract`."""
        try:
            strategy = self._strategy()
        except MissingSettingError as error:
            return Outcome(verdict=Verdict.PAUSE, code="setting_missing", answer=str(error))
        return strategy.retract(delivery)


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """Events, projection, sources and integrations of one application.

    Attributes:
        events: the registered event models.
        projection: schema and update rules.
        receivers: sources that post.
        pulls: sources that are asked.
        integrations: systems that are told.

    Raises:
        DomainError: something is declared twice, or does not fit.
        RegistrationError: an upcaster is missing.
    """

    events: EventRegistry
    projection: Projection[Any]
    receivers: Sequence[Receiver] = ()
    pulls: Sequence[Pull] = ()
    integrations: Sequence[Integration] = ()

    def __post_init__(self) -> None:
        """Refuse a domain that could not run."""
        self.events.check()
        if self.projection.events is not self.events:
            raise DomainError("The projection folds the events of another registry.")
        for kind, names in (
            ("source", [source.name for source in self.sources]),
            ("integration", [integration.name for integration in self.integrations]),
        ):
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise DomainError(f"The {kind} {min(twice)!r} is declared twice.")
        known = set(self.projection.layout.names)
        for integration in self.integrations:
            unknown = set(integration.cares_about) - known
            if unknown:
                raise DomainError(f"Integration {integration.name!r} cares about {min(unknown)!r}, which is not there.")

    def integrations_with(self, settings: Settings) -> tuple[Integration, ...]:
        """The integrations, with those strategies that are made from settings bound to these."""
        return tuple(
            replace(each, strategy=each.strategy.bound_to(settings))
            if isinstance(each.strategy, FromSettings)
            else each
            for each in self.integrations
        )

    @property
    def sources(self) -> tuple[Source, ...]:
        """Receivers and pulls."""
        return (*self.receivers, *self.pulls)

    @property
    def queued(self) -> tuple[Receiver, ...]:
        """Receivers with a session queue."""
        return tuple(receiver for receiver in self.receivers if receiver.queue is not None)

    def source(self, name: str) -> Source:
        """The source of that name.

        Raises:
            UnknownSourceError: there is none.
        """
        found = next((source for source in self.sources if source.name == name), None)
        if found is None:
            raise UnknownSourceError([source.name for source in self.sources])
        return found


def load_domain(address: str) -> Domain:
    """The domain at `package.module:attribute`.

    Raises:
        DomainError: there is no such module or attribute, or it is no domain.
    """
    module_name, _, attribute = address.partition(":")
    try:
        domain = getattr(import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise DomainError(f"CLIENT_FLOW_DOMAIN={address}: not found ({error}).") from error
    if not isinstance(domain, Domain):
        raise DomainError(f"CLIENT_FLOW_DOMAIN={address}: a Domain was expected, not {type(domain).__name__}.")
    return domain
