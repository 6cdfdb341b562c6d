"""A domain to copy: persons, told about by a CRM, a shop and a registry, made known to a CRM and a mailing system.

Four files make a domain: `events.py`, `person.py` (schema and rules), `sources.py` and `targets.py`; this one bundles
them. `schemas/` is what `client-flow schema export` wrote, `payloads/` holds an event of every version there ever was,
`bodies/` what sources send. Copy the folder, set `CLIENT_FLOW_DOMAIN=yourpackage:domain`, and change it.
"""

from functions_app import Domain

from .events import events
from .person import people
from .sources import crm as crm_source
from .sources import registry, shop
from .targets import crm, mailing

domain = Domain(
    events=events,
    projection=people,
    receivers=[crm_source, shop],
    pulls=[registry],
    integrations=[crm, mailing],
)

__all__ = ["domain"]
