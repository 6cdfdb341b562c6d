"""The sample after somebody changed it: once rightly, once without raising the version of the projection."""

from dataclasses import replace

from pydantic import ConfigDict

from eventstore import Event, EventRegistry
from functions_app.sample import domain as sample
from functions_app.sample.person import Person
from functions_app.sample.sources import CrmChange
from projections import Projection


class TolerantChange(CrmChange):
    """A change in the CRM, with fields that nobody knows yet."""

    model_config = ConfigDict(extra="ignore")


domain = replace(sample, receivers=[replace(sample.receivers[0], payload=TolerantChange), sample.receivers[1]])

events = EventRegistry()


@events.register("person.renamed")
class Renamed(Event):
    """An event the sample does not have."""

    name: str


changed = replace(
    sample, events=events, projection=Projection("people", Person, events, version=1), receivers=[], pulls=[]
)
