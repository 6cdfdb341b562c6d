"""The next version of the sample, with a rule that kills every worker process which comes to it."""

import os
from dataclasses import replace
from multiprocessing import parent_process
from signal import SIGKILL

from functions_app.sample.events import ContactChanged
from functions_app.sample.person import Person
from projections import Projection
from tests.support import newer

lethal = Projection("people", Person, newer.louder.events, version=2)


@lethal.on(ContactChanged)
def shout(record: Person, event: ContactChanged) -> Person:
    """As the rule of this name in the next version, where the command itself runs it."""
    if parent_process() is not None:
        os.kill(os.getpid(), SIGKILL)
    evolved: Person = newer.shout(record, event)
    return evolved


lethal.rules.update(
    {event_type: rule for event_type, rule in newer.louder.rules.items() if event_type not in lethal.rules}
)

domain = replace(newer.domain, projection=lethal)
