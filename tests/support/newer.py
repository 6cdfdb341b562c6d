"""The sample in its next version: e-mail addresses are kept in capitals."""

from dataclasses import replace

from functions_app.sample import domain as sample
from functions_app.sample.events import ContactChanged
from functions_app.sample.person import Person, people
from projections import Projection

louder = Projection("people", Person, people.events, version=2)


@louder.on(ContactChanged)
def shout(record: Person, event: ContactChanged) -> Person:
    """Take over what is told, in capitals."""
    return record.evolve(contact={name: value.upper() for name, value in event if value is not None})


louder.rules.update({event_type: rule for event_type, rule in people.rules.items() if event_type not in louder.rules})

domain = replace(sample, projection=louder)
