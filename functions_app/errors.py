"""What can go wrong in composing and running an application.

FlowError
+-- DomainError           the domain is declared wrongly or cannot be found
+-- MissingSettingError   a setting that is needed is not set
+-- NoDataError           there is no data directory
+-- InputRefusedError     what a source delivered cannot become events
+-- UnknownSourceError    the domain has no source of that name
+-- PullFailedError       asking a source failed
+-- TakeFailedError       taking a message from a session queue failed
+-- WorkerLostError       a process that shared the work ended
+-- ImportFileError       a file to import cannot be read at all
+-- ExportError           an exported trail cannot be relied on
+-- SchemaFilesError      an exported schema cannot be read
"""

from collections.abc import Sequence
from pathlib import Path

from eventstore import FieldProblem, PortableError


class FlowError(PortableError):
    """Base of every error this package raises."""


class DomainError(FlowError):
    """The domain is declared wrongly or cannot be found; raised while the application starts."""


class MissingSettingError(FlowError):
    """A setting that is needed now is not set.

    Attributes:
        name: the setting.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"The setting {name} is needed and not set; set it in the environment.")


class NoDataError(FlowError):
    """There is no data directory, and a command was given that does not make one.

    Attributes:
        path: where it was looked for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(
            f"There is no data directory {path}. CLIENT_FLOW_DATA says where it is; `append` and `serve` make one."
        )


class InputRefusedError(FlowError):
    """What a source delivered cannot become events.

    Attributes:
        code: stable short name of the reason.
        problems: the fields concerned, never their values.
    """

    def __init__(self, code: str, problems: Sequence[FieldProblem]) -> None:
        self.code, self.problems = code, tuple(problems)
        super().__init__("Refused: " + "; ".join(f"{path}: {problem}" for path, problem in self.problems) + ".")


class UnknownSourceError(FlowError):
    """The domain has no source of that name.

    Attributes:
        known: the names there are.
    """

    def __init__(self, known: Sequence[str]) -> None:
        self.known = tuple(known)
        super().__init__(f"No such source; the domain has {', '.join(self.known) or 'none'}.")


class PullFailedError(FlowError):
    """Asking a source failed; what it had told before is stored, and the next run asks for the rest.

    Attributes:
        source: its name.
        reference: of the line in the log that says where it failed.
    """

    def __init__(self, source: str, kind: str, reference: str) -> None:
        self.source, self.reference = source, reference
        super().__init__(f"Asking {source} failed with {kind}, reference {reference}; the next run goes on from there.")


class TakeFailedError(FlowError):
    """Taking a message from a session queue failed in a way nobody foresaw; the message comes again.

    Attributes:
        source: whose queue it is.
        reference: of the line in the log that says where it failed.
    """

    def __init__(self, source: str, kind: str, reference: str) -> None:
        self.source, self.reference = source, reference
        super().__init__(f"A message of {source} failed with {kind}, reference {reference}; it comes again.")


class WorkerLostError(FlowError):
    """A process that shared the work ended before its time, killed or out of memory."""

    def __init__(self) -> None:
        super().__init__("A worker process ended before its time, killed or out of memory; run the command again.")


class ImportFileError(FlowError):
    """A file to import cannot be read at all: missing, no text, or without the columns it should have."""


class ExportError(FlowError):
    """An exported trail that cannot be relied on."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"The export cannot be relied on: {problem}; take another copy, or export the client again.")


class SchemaFilesError(FlowError):
    """An exported schema cannot be read.

    Attributes:
        file: its name.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        super().__init__(f"{file}: the JSON of an exported schema was expected; take it from your version control.")
