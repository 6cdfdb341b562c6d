"""Everything that can go wrong in the integrations, under one base.

    IntegrationError
    +-- IntegrationDefinitionError   an integration or its REST calls are declared wrongly
    +-- UnknownIntegrationError      no integration has that name
    +-- UnknownDeliveryError         nothing was ever wanted of that client by that integration
    +-- InvalidMessageError          a message that is none of this software's announcements
    +-- BusUnavailableError          topic or queue are out of reach; nothing to do with a client
    |   +-- TopicUnavailableError
    |   +-- QueueUnavailableError
    +-- UnknownSubscriptionError     the topic has no subscription of that name
    +-- MessageTooLargeError         a message does not fit the topic or queue
    +-- MessageLockLostError         the message was held longer than its lock
    +-- SessionLockLostError         the session was held longer than its lock
    +-- InvalidLogCursorError        a cursor that no page of the delivery log handed out
    +-- TokenError                   the authorization server gave no access token
    +-- NoAnswerError                a call to a target ended without an HTTP answer
    +-- ResourceValueError           a value cannot stand in the address of a call
    +-- IncompleteError              some clients of a batch could not be handled; the others were

What a target answers is no error but an `Outcome`; strategies turn the errors of a call into outcomes, too. Databases raise the errors of `eventstore`
(`StoreUnavailableError`). Messages never hold a client id, a value or a secret: they may end up in a log.
"""

from collections.abc import Mapping
from typing import ClassVar

from eventstore import PortableError

from .outcome import Effect


class IntegrationError(PortableError):
    """Base of every error this package raises."""


class IntegrationDefinitionError(IntegrationError):
    """An integration is declared in a way that cannot work; raised while the application starts."""


class UnknownIntegrationError(IntegrationError):
    """No integration has that name."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        self.name, self.known = name, known
        super().__init__(f"There is no integration named {name!r}; known are: {', '.join(known) or 'none'}.")


class UnknownDeliveryError(IntegrationError):
    """The integration never had anything to deliver for that client."""

    def __init__(self, client_id: str, integration: str) -> None:
        self.client_id, self.integration = client_id, integration
        super().__init__(f"Integration {integration!r} has no delivery for this client; ring it to start one.")


class InvalidMessageError(IntegrationError):
    """A message on the topic that is none of this software's announcements."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"Not an announcement: {problem}.")


class BusUnavailableError(IntegrationError):
    """Base of what says that a topic or queue cannot be used right now; the call may be repeated.

    Attributes:
        retry_after: seconds after which a retry makes sense.
    """

    what: ClassVar[str] = "topic or queue"

    def __init__(self, problem: str, *, retry_after: float = 1.0) -> None:
        self.problem, self.retry_after = problem, retry_after
        super().__init__(f"The {self.what} is not available: {problem}.")


class TopicUnavailableError(BusUnavailableError):
    """The topic cannot be used right now."""

    what = "topic"


class QueueUnavailableError(BusUnavailableError):
    """The queue cannot be used right now."""

    what = "queue"


class UnknownSubscriptionError(IntegrationError):
    """The topic has no subscription of that name."""

    def __init__(self, subscription: str) -> None:
        self.subscription = subscription
        super().__init__(f"The topic has no subscription {subscription!r}; subscribe first.")


class MessageTooLargeError(IntegrationError):
    """A message does not fit the topic or queue; sending it again does not help.

    Attributes:
        limit: bytes it takes, properties included.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"A message is larger than the {limit} bytes that fit; give messages a lower limit.")


class MessageLockLostError(IntegrationError):
    """The message was held longer than its lock; somebody else may have it, or had it already."""

    def __init__(self, subscription: str) -> None:
        self.subscription = subscription
        super().__init__(
            f"A message of subscription {subscription!r} was settled after its lock ended; it comes again."
        )


class SessionLockLostError(IntegrationError):
    """A session was held longer than its lock; somebody else may have it, or had it already."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        super().__init__(f"A session of queue {queue!r} was used after its lock ended; its first message comes again.")


class InvalidLogCursorError(IntegrationError):
    """The cursor was not handed out by the delivery log."""

    def __init__(self) -> None:
        super().__init__("The cursor does not belong to the delivery log; start again without one.")


class TokenError(IntegrationError):
    """The authorization server gave no access token.

    Attributes:
        code: stable short name of the reason.
        refused: whether it understood the request and said no, so that only another secret or setting helps.
    """

    def __init__(self, code: str, *, refused: bool) -> None:
        self.code, self.refused = code, refused
        advice = "check the credentials and the token URL" if refused else "try again in a moment"
        super().__init__(f"No access token ({code}); {advice}.")


class NoAnswerError(IntegrationError):
    """A call to a target ended without an HTTP answer.

    Attributes:
        code: stable short name of the reason.
        effect: what the call may have done.
    """

    def __init__(self, code: str, effect: Effect) -> None:
        self.code, self.effect = code, effect
        super().__init__(f"The target gave no answer ({code}).")


class ResourceValueError(IntegrationError):
    """A value is missing, or cannot stand in the address of a call.

    Attributes:
        name: of the value, as the resource template names it.
    """

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        super().__init__(f"Resource value {{{name}}}: {problem}.")


class IncompleteError(IntegrationError):
    """Some clients of a batch could not be handled; each of the others was.

    Attributes:
        failures: what was raised, by client id.
    """

    def __init__(self, failures: Mapping[str, Exception]) -> None:
        self.failures = dict(failures)
        kinds = ", ".join(sorted({type(error).__name__ for error in failures.values()}))
        super().__init__(f"{len(failures)} clients could not be handled ({kinds}); they stay due and are tried again.")
