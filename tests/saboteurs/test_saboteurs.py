"""The crash tests prove something: with any one safeguard removed, the same checks fail.

Each scenario also runs with the safeguard in place, and then passes: so it is its absence that the checks find.
"""

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.crash.flow_round import KILLED, Round, Zygote
from tests.crash.left import CheckError
from tests.saboteurs.sabotage import SABOTAGES
from tests.saboteurs.sabotage_cosmos import COSMOS_SABOTAGES

pytestmark = pytest.mark.crash


SEED = 0


class Scenario(NamedTuple):
    """What happens, and what is found out by it.

    Attributes:
        sabotage: the safeguard that is removed.
        check: name of the check that fails.
        at: kill point, None if nobody has to die.
        crossing: of the kill point.
    """

    sabotage: str
    check: str
    at: str | None = None
    crossing: int = 0

    def play(self, round_: Round) -> None:
        """Work, die if that is part of it, go on until all is quiet, and check."""
        if self.at is not None:
            assert round_.run(self.at, self.crossing) == KILLED
        round_.finish()
        round_.check()


SCENARIOS = [
    Scenario("read-back removed", "the work gets done", "append.after", 3),
    Scenario("idempotence removed", "each event once", "append.after", 3),
    Scenario("cursor saved before work", "record reached its events", "project.before_commit", 5),
    Scenario("pull cursor saved before work", "nothing sent is missing", "append.before", 7),
    Scenario("record condition ignored", "record reached its events"),
    Scenario("commit torn", "one audit entry per event", "project.torn", 3),
    Scenario("provenance ignored", "record is the fold"),
    Scenario("announced not written", "each announcement heard"),
    Scenario("outbox deleted before send", "each announcement heard", "publish.before_wanted", 3),
    Scenario("wanted not raised", "the CRM has the latest"),
    Scenario("wanted lowered", "everything wanted is delivered"),
    Scenario("claim ignored", "nothing is sent twice"),
    Scenario("delivery condition ignored", "everything wanted is delivered"),
]
FILES_ONLY = {"idempotence removed"}
"""On Cosmos DB a safeguard of the container, which is tried elsewhere."""
ON_COSMOS = {"cursor saved before work": 19}
"""Other crossings there: each client is a commit of its own, and the last sweep must be cut off before its first."""
CASES = [
    *(("files", each) for each in SCENARIOS),
    *(
        ("cosmos", each._replace(crossing=ON_COSMOS.get(each.sabotage, each.crossing)))
        for each in SCENARIOS
        if each.sabotage not in FILES_ONLY
    ),
]
# On Cosmos DB what is honest and is killed is what the crash tests are about; only rivals are something else.
HONEST = [(backend, each) for backend, each in CASES if backend == "files" or f"{each.sabotage}, guarded" in SABOTAGES]


def named(value: object) -> str:
    """What a case is called."""
    return value.sabotage if isinstance(value, Scenario) else str(value)


@pytest.mark.parametrize(("backend", "scenario"), CASES, ids=named)
def test_a_missing_safeguard_is_found(backend: str, scenario: Scenario, zygote: Zygote, tmp_path: Path) -> None:
    """With the safeguard removed, the check that is meant to notice does."""
    directory, cosmos = tmp_path / "round", backend == "cosmos"
    with (
        Round(directory, zygote, SEED, faulty=False, sabotage=scenario.sabotage, cosmos=cosmos) as sabotaged,
        pytest.raises(CheckError) as found,
    ):
        scenario.play(sabotaged)
    assert found.value.check == scenario.check, str(found.value)


@pytest.mark.parametrize(("backend", "scenario"), HONEST, ids=named)
def test_the_safeguard_makes_the_difference(backend: str, scenario: Scenario, zygote: Zygote, tmp_path: Path) -> None:
    """The very same events with the safeguard in place pass every check."""
    guarded = f"{scenario.sabotage}, guarded"
    at = "project.before_commit" if scenario.at == "project.torn" else scenario.at
    sabotage, cosmos = guarded if guarded in SABOTAGES else None, backend == "cosmos"
    with Round(tmp_path / "round", zygote, SEED, faulty=False, sabotage=sabotage, cosmos=cosmos) as honest:
        scenario._replace(at=at).play(honest)


def test_every_saboteur_has_a_scenario() -> None:
    """No saboteur is left out."""
    names = {scenario.sabotage for scenario in SCENARIOS}
    assert {name.removesuffix(", guarded") for name in SABOTAGES} == names
    assert COSMOS_SABOTAGES.keys() <= SABOTAGES.keys()
