"""Links: what both directions share."""

from typing import TYPE_CHECKING, Any

from tests.wire.servicebus.codec import UInt, performative
from tests.wire.servicebus.entities import Entity
from tests.wire.servicebus.errors import RefusedError
from tests.wire.servicebus.frames import DETACH, Attach, error
from tests.wire.servicebus.management import RequestNode

if TYPE_CHECKING:  # a session makes links, and a link speaks through its session
    from tests.wire.servicebus.connection import Connection
    from tests.wire.servicebus.session import Session


class Link:
    """A link of a client to an entity or a request node.

    Attributes:
        is_open: attached and not detached since.
        closed: detached, or refused.
    """

    def __init__(self, session: "Session", attach: Attach) -> None:
        self.session = session
        self.attach = attach
        self.name = attach.name
        self.path = attach.path
        self.node: Entity | RequestNode | None = None
        self.is_open = self.closed = False
        self.credit = 0
        self.delivery_count = 0

    @property
    def wire(self) -> "Connection":
        """The connection it runs on."""
        return self.session.connection

    def open(self) -> None:
        """Attaches the link to what its address stands for, or refuses it."""
        try:
            self._open(self.wire.namespace.resolve(self.path))
        except RefusedError as refusal:
            self.refuse(refusal.condition, refusal.description)

    def refuse(self, condition: str, description: str) -> None:
        """Refuses the attach: an attach without the broker's end, then a detach with the error."""
        attach = self.attach
        self.session.send(attach.reply(None, attach.target) if attach.receives else attach.reply(attach.source, None))
        self.detach(condition, description)

    def detach(self, condition: str, description: str) -> None:
        """Ends the link with an error."""
        if not self.closed:
            self.close()
            self.session.send(performative(DETACH, UInt(self.attach.handle), True, error(condition, description)))

    def close(self) -> None:
        """Lets go of everything; doing it twice is fine."""
        self.closed, self.is_open = True, False

    def _open(self, node: Entity | RequestNode) -> None:
        raise NotImplementedError

    def on_flow(self, fields: list[Any]) -> None:
        """The client tells its state or asks for the broker's."""
        raise NotImplementedError
