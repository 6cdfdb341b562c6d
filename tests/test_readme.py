"""What the documents show, works: every command and every example in them is run, every link leads somewhere.

The blocks of a document run in their order, in a copy of the project, with a data directory of their own. Not run are
the commands that would run these tests again or take the network, see `NOT_RUN`.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from functions_app.cli import app
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[1]
PACKAGES = ("eventstore", "projections", "integrations", "functions_app")
DOCUMENTS = [
    *(path for path in sorted(ROOT.glob("*.md")) if path.name != "CHANGELOG.md"),
    *(path for package in PACKAGES for path in [ROOT / package / "README.md"] if path.exists()),
    ROOT / "functions_app" / "deploy" / "README.md",
]
NOT_RUN = ("make test", "make lint", "make format", "make bench", "git clone")
BINARIES = Path(sys.executable).parent
DONE, ATTENTION = 0, 3  # a command that worked and found something for a person has worked
_STOP_AT_FAILURE = f'trap \'code=$?; [ "$code" -eq {ATTENTION} ] || exit "$code"\' ERR'
SETTINGS = {"CRM_URL": "https://crm.example", "CRM_SECRET": "placeholder"}  # examples may read them

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)")
_INLINE = re.compile(r"`(client-flow [^`]+)`")

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of a language, as printed."""
    return [code for name, code in _BLOCK.findall(document.read_text("utf-8")) if name == language]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what somebody has after cloning and installing."""
    copy = tmp_path / "client-flow"
    copy.mkdir()
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, copy)
    environment = copy / ".venv"
    environment.mkdir()
    (environment / "bin").symlink_to(BINARIES)
    (environment / ".ready").touch()  # newer than what it depends on, so make installs nothing
    return copy


def environment(project: Path) -> dict[str, str]:
    """As in a shell whose virtual environment is active."""
    return {
        **os.environ,
        **SETTINGS,
        "PATH": f"{BINARIES}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(project),
        "HOME": str(project.parent),
        "CLIENT_FLOW_DATA": str(project.parent / "data"),
    }


@each_document
def test_every_shell_block_runs(document: Path, project: Path) -> None:
    """One after the other, as somebody types them who reads the document."""
    for code in blocks(document, "sh"):
        command = "\n".join(line for line in code.splitlines() if not line.startswith(NOT_RUN))
        if command.strip().startswith("client-flow serve"):
            serve(project, command)
            continue
        done = subprocess.run(
            ["bash", "-uo", "pipefail", "-c", f"{_STOP_AT_FAILURE}\n{command}"],
            cwd=project,
            env=environment(project),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode in {DONE, ATTENTION}, f"{code}\n{done.stdout}\n{done.stderr}"


def serve(project: Path, command: str) -> None:
    """Start a server as printed, see that it listens, and stop it as Ctrl-C would."""
    output = project.parent / "serve.txt"
    with output.open("w") as file:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command.strip()}"],
            cwd=project,
            env={**environment(project), "PYTHONUNBUFFERED": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until("it serves", lambda: "Serving on" in output.read_text() or process.poll() is not None)
            assert process.poll() is None, output.read_text()
            process.terminate()
            assert process.wait(30) == DONE
        finally:
            process.kill()
            process.wait(30)


@each_document
def test_every_python_block_runs(document: Path, project: Path) -> None:
    """Defect 26: the imports exist. All of a document together, given a `directory`; a warning is an error."""
    code = "\n".join([f"directory = {str(project.parent)!r}", *blocks(document, "python")])
    script = project / "readme_example.py"
    script.write_text(code, "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=project,
        env=environment(project),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{code}\n{done.stderr}"


@each_document
def test_every_link_leads_somewhere(document: Path) -> None:
    """Relative ones, to files of the project."""
    targets = _LINK.findall(document.read_text("utf-8"))
    assert [target for target in targets if not (document.parent / target).exists()] == []


def mentioned() -> Iterator[tuple[str, list[str]]]:
    """The commands in running text and tables, by document."""
    for document in DOCUMENTS:
        for text in _INLINE.findall(document.read_text("utf-8")):
            yield str(document.relative_to(ROOT)), shlex.split(text.replace("\\|", "|"))[1:]


@pytest.mark.parametrize(("document", "arguments"), list(mentioned()), ids=str)
def test_every_command_that_is_mentioned_exists(document: str, arguments: list[str]) -> None:
    """With the options it is mentioned with."""
    name = [each for each in arguments if not each.startswith("-")][:1]
    shown = CliRunner().invoke(app, [*name, "--help"], env={"COLUMNS": "250"})
    assert shown.exit_code == 0, f"{document} mentions a command that does not exist: {name}"
    for option in (each.partition("=")[0] for each in arguments if each.startswith("--")):
        assert option in shown.stdout.split(), f"{document} mentions {option}, which {name} does not have"
