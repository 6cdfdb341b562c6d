"""The sample, with a rule that presses Ctrl-C for all processes of a command as soon as one of its workers comes to it."""

import os
from dataclasses import replace
from multiprocessing import parent_process
from signal import SIGINT

from functions_app.sample import domain as sample
from functions_app.sample.events import ContactChanged
from functions_app.sample.person import Person, people
from projections import Projection

interrupting = Projection("people", Person, people.events, version=1)


@interrupting.on(ContactChanged)
def change_contact(record: Person, event: ContactChanged) -> Person:
    """As the rule of this name in the sample, where the command itself runs it."""
    if parent_process() is not None:
        os.killpg(0, SIGINT)
    return record


interrupting.rules.update(
    {event_type: rule for event_type, rule in people.rules.items() if event_type not in interrupting.rules}
)

domain = replace(sample, projection=interrupting)
