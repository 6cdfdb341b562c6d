"""The command `client-flow`, as somebody types it: in this process for speed, or as a process of its own."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from signal import SIGTERM, Signals
from subprocess import PIPE, STDOUT, CompletedProcess, Popen, run
from threading import Thread
from types import TracebackType
from typing import Any, Self

import orjson
from typer.testing import CliRunner

from functions_app.cli import app
from tests.support.waiting import PATIENCE, wait_until

COMMAND = str(Path(sys.executable).with_name("client-flow"))


class CommandLine:
    """Runs commands on one data directory.

    Args:
        data: the directory.
        environment: further settings.
    """

    def __init__(self, data: Path, environment: Mapping[str, str] | None = None) -> None:
        self.environment = {"CLIENT_FLOW_DATA": str(data), "COLUMNS": "250", **(environment or {})}

    def __call__(self, *arguments: object, code: int = 0) -> Any:
        """Run a command in this process, which must end with that exit code."""
        result = CliRunner().invoke(app, [str(each) for each in arguments], env=self.environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    def json(self, *arguments: object, code: int = 0) -> Any:
        """The document that a command prints with --json, and nothing else."""
        return orjson.loads(self(*arguments, "--json", code=code).stdout)

    def run(self, *arguments: object) -> CompletedProcess[str]:
        """Run a command as a process of its own, to its end."""
        return run(
            [COMMAND, *map(str, arguments)],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE,
            check=False,
        )

    def start(self, *arguments: object, session: bool = False) -> Popen[str]:
        """Start a command as a process of its own; standard error is part of its output.

        Args:
            arguments: of the command.
            session: let it and its workers have a session of their own, as that of a terminal.
        """
        return Popen(
            [COMMAND, *map(str, arguments)],
            env={**os.environ, **self.environment, "PYTHONUNBUFFERED": "1"},
            stdout=PIPE,
            stderr=STDOUT,
            text=True,
            start_new_session=session,
        )


class Served:
    """`client-flow serve` as a process of its own, as long as the context lasts.

    Attributes:
        process: the server.
        lines: what it printed so far, both to standard output and standard error.
        url: where it listens, with `/api`.
    """

    def __init__(self, command_line: CommandLine) -> None:
        self._command_line = command_line
        self.lines: list[str] = []
        self.url = ""

    def __enter__(self) -> Self:
        self.process = self._command_line.start("serve", "--port", 0)
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            wait_until("the server listens", self._listens)
        except TimeoutError as error:
            self.process.kill()
            raise TimeoutError("\n".join(self.lines)) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def stop(self, number: Signals = SIGTERM) -> int:
        """Send a signal, wait for the end, and give the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def _read(self) -> None:
        if self.process.stdout is not None:
            for line in self.process.stdout:
                self.lines.append(line)

    def _listens(self) -> bool:
        found = [line for line in list(self.lines) if line.startswith("Serving on ")]
        self.url = found[0].removeprefix("Serving on ").strip() if found else ""
        return bool(found)
