"""A projection store on which somebody else is always faster with some clients."""

from collections.abc import Sequence

from projections import Commit, Committed
from tests.support.interposing import Interposed


class Contended(Interposed):
    """Passes everything on but commits of these clients, which it says were lost."""

    contended: Sequence[str] = ()

    def commit(self, commits: Sequence[Commit]) -> Sequence[Committed]:
        won = [each for each in commits if each.record.client_id not in self.contended]
        results = dict(zip([each.record.client_id for each in won], super().commit(won), strict=True))
        return [results.get(each.record.client_id) for each in commits]
