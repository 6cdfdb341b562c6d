"""What can go wrong, and the AMQP error conditions by which a client is told.

BrokerError
├── ConfigError
│   └── UnsupportedFilterError
└── RefusedError
"""

SERVER_BUSY = "com.microsoft:server-busy"
LOCK_LOST = "com.microsoft:message-lock-lost"
SESSION_LOCK_LOST = "com.microsoft:session-lock-lost"
SESSION_CANNOT_BE_LOCKED = "com.microsoft:session-cannot-be-locked"
MESSAGE_NOT_FOUND = "com.microsoft:message-not-found"
TIMEOUT = "com.microsoft:timeout"
UNAUTHORIZED = "amqp:unauthorized-access"
NOT_ALLOWED = "amqp:not-allowed"
NOT_FOUND = "amqp:not-found"
NOT_IMPLEMENTED = "amqp:not-implemented"
DECODE_ERROR = "amqp:decode-error"
INTERNAL_ERROR = "amqp:internal-error"
DETACH_FORCED = "amqp:link:detach-forced"
MESSAGE_SIZE_EXCEEDED = "amqp:link:message-size-exceeded"


class BrokerError(Exception):
    """Base of everything this package raises."""


class ConfigError(BrokerError):
    """The configuration asks for something this broker cannot do, or cannot be read."""


class UnsupportedFilterError(ConfigError):
    """A subscription filter is outside the supported subset.

    Attributes:
        expression: the whole filter expression.
    """

    def __init__(self, expression: str, reason: str) -> None:
        super().__init__(f"cannot use the filter {expression!r}: {reason}")
        self.expression = expression


class RefusedError(BrokerError):
    """A client's request is refused; it is told why and goes on.

    Attributes:
        condition: the AMQP error condition.
        description: one sentence for the client.
        status: HTTP-like status where the request came over $management.
    """

    def __init__(self, condition: str, description: str, status: int = 400) -> None:
        super().__init__(condition, description)
        self.condition = condition
        self.description = description
        self.status = status
