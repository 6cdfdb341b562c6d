"""Managing a Service Bus namespace: the client for it, and what a publisher must know of its topic."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.core.pipeline.transport import RequestsTransport
from azure.servicebus import parse_connection_string
from azure.servicebus.management import ServiceBusAdministrationClient

from .errors import IntegrationDefinitionError, TopicUnavailableError

_log = logging.getLogger(__name__)

_SECONDS = (
    5  # to connect, and for an answer; management lies on another port than messages, which a firewall may swallow
)
_LATER = 60.0
_AMQP_PORT, _EMULATOR_PORT = 5672, 5300  # the emulator's ports for messages and for management
_REFUSED = {401, 403}


def open_administration(connection: str, *, retries: int = 3) -> ServiceBusAdministrationClient:
    """A client that manages the entities of a namespace; connects to nothing yet.

    Args:
        connection: connection string, or host name of the namespace for managed identity. A connection string of the
            emulator may name the port for messages: management is then expected on 5300.
        retries: how often the SDK repeats a failed request by itself.

    Raises:
        IntegrationDefinitionError: it looks like a connection string but is none.
    """
    for name in ("azure.core.pipeline.policies.http_logging_policy", "azure.identity"):
        logging.getLogger(name).setLevel(logging.WARNING)
    options: dict[str, Any] = {"connection_timeout": _SECONDS, "read_timeout": _SECONDS, "retry_total": retries}
    if "=" not in connection:
        from azure.identity import DefaultAzureCredential

        return ServiceBusAdministrationClient(connection, DefaultAzureCredential(), **options)
    try:
        if is_emulator(connection):
            connection = _with_management_port(connection)
            options["transport"] = _PlainTransport(use_env_settings=False, **options)
        return ServiceBusAdministrationClient.from_connection_string(connection, **options)
    except ValueError:
        # Not chained: the SDK's message may quote the string, and with it the key.
        raise IntegrationDefinitionError(
            "The connection string of the Service Bus namespace cannot be read; expected "
            "Endpoint=sb://...;SharedAccessKeyName=...;SharedAccessKey=..."
        ) from None


def is_emulator(connection: str) -> bool:
    """Whether a connection string names Microsoft's emulator, which has narrower limits."""
    return "UseDevelopmentEmulator=true" in connection.split(";")


@contextmanager
def administration_errors() -> Iterator[None]:
    """Raise what the SDK raises while managing in the words of this package; "not found" passes.

    Raises:
        TopicUnavailableError: the namespace is out of reach, or managing it is refused.
    """
    try:
        yield
    except ResourceNotFoundError:
        raise
    except AzureError as error:
        status = error.status_code if isinstance(error, HttpResponseError) else None
        if status in _REFUSED:
            problem = "managing the namespace is refused; it takes the right to manage, or Bicep"
        elif status is not None:
            problem = f"managing the namespace ended with status {status}"
        else:
            problem = f"the namespace cannot be reached for managing it ({type(error).__name__})"
        raise TopicUnavailableError(problem, retry_after=_LATER) from error


class DuplicateDetection:
    """Makes sure, once, that a topic drops repeated messages, as far as that can be seen.

    Args:
        connection: connection string, or host name of the namespace.
        topic: its name.
    """

    def __init__(self, connection: str, topic: str) -> None:
        self._connection, self._topic = connection, topic
        self._lock = Lock()
        self._settled = False

    def check(self) -> None:
        """Look at the topic unless that is settled; without the right to look, say so in the log.

        Raises:
            TopicUnavailableError: it has no duplicate detection.
        """
        with self._lock:
            if not self._settled:
                self._look()
                self._settled = True

    def _look(self) -> None:
        try:
            with open_administration(self._connection, retries=0) as administration, administration_errors():
                detects = administration.get_topic(self._topic).requires_duplicate_detection
        except ResourceNotFoundError:
            return  # sending tells so
        except TopicUnavailableError as error:
            _log.warning("Nobody can tell whether topic %s has duplicate detection: %s", self._topic, error.problem)
            return
        if not detects:
            raise TopicUnavailableError(
                "it has no duplicate detection, which cannot be added; make a new one", retry_after=_LATER
            )


class _PlainTransport(RequestsTransport):  # type: ignore[misc]  # the SDK hides its type behind a lazy import
    """Without TLS, which the emulator does not speak and the SDK's client for managing always does."""

    def send(self, request: Any, **kwargs: Any) -> Any:
        request.url = request.url.replace("https://", "http://", 1)
        return super().send(request, **kwargs)


def _with_management_port(connection: str) -> str:
    endpoint = parse_connection_string(connection).endpoint
    parts = urlsplit(endpoint)
    if parts.port not in {None, _AMQP_PORT}:
        return connection
    return connection.replace(endpoint.rstrip("/"), f"sb://{parts.hostname}:{_EMULATOR_PORT}", 1)
