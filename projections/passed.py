"""How far earlier generations are with a client, and how far that means that the world was told.

They are not all as far as each other, and do not all tell what they fold: older ones than the one that announced last fold
on in silence; so may newer ones have done before announcing was taken back from them. What the one that announced last
folded, the world was told.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Left(NamedTuple):
    """What one generation left of a client.

    Attributes:
        projection_version: of the generation.
        version: of its record.
        waiting_for: the version its record waits for, if it is parked; else 0.
    """

    projection_version: int
    version: int
    waiting_for: int


class Passed(NamedTuple):
    """How far earlier generations are with a client.

    Attributes:
        version: so far the world was told.
        waiting_for: the highest that one of them folded or waits for; nobody may have told of what is between.
    """

    version: int
    waiting_for: int


def passed_of(left: Iterable[Left], announcer: int) -> Passed:
    """How far generations are together.

    Args:
        left: what each left of a client.
        announcer: the version of the projection that announced last, 0 if none of these did.
    """
    left = list(left)
    # Otherwise nothing was ever news, or its records were pruned, by code that was complete: nobody is silent.
    told = [each for each in left if each.projection_version == announcer] or left
    return Passed(
        max((each.version for each in told), default=0),
        max((max(each.version, each.waiting_for) for each in left), default=0),
    )
