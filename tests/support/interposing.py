"""Acting between two calls of a projector, through the port that it uses."""

from collections.abc import Callable, Mapping, Sequence

from projections import Commit, Committed, Loaded, ProjectionStore, Record, Served


def _nothing() -> None:
    """Do nothing."""


class Interposed:
    """A projection store that lets the test act between any two calls of a projector, through the same port."""

    def __init__(
        self,
        store: ProjectionStore,
        *,
        before_load: Callable[[], None] = _nothing,
        before_commit: Callable[[], None] = _nothing,
        after_commit: Callable[[], None] = _nothing,
    ) -> None:
        self.group = store.group
        self._store, self._before_load = store, before_load
        self._before_commit, self._after_commit = before_commit, after_commit

    def load(self, client_ids: Sequence[str]) -> Mapping[str, Loaded]:
        self._before_load()
        return self._store.load(client_ids)

    def commit(self, commits: Sequence[Commit]) -> Sequence[Committed]:
        self._before_commit()
        stored = self._store.commit(commits)
        self._after_commit()
        return stored

    def parked(self, *, after: str = "", limit: int = 100) -> Sequence[Record]:
        return self._store.parked(after=after, limit=limit)

    def client_ids(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        return self._store.client_ids(after=after, limit=limit)

    def newest(self, client_id: str) -> Served | None:
        return self._store.newest(client_id)


def once(action: Callable[[], object]) -> Callable[[], None]:
    """Something that is done the first time only."""
    todo = [action]

    def act() -> None:
        if todo:
            todo.pop()()

    return act
