"""`python -m worker.process FOLDER`: a worker process that takes invocations as JSON lines, several at a time.

Needs nothing but the standard library and the worker library, so that it runs in an environment that holds only what
the app itself requires. Whatever the app prints goes to standard error.
"""

import asyncio
import base64
import json
import os
import sys
from typing import Any, TextIO

from .app_worker import AppWorker


async def _serve(folder: str, answers: TextIO) -> None:
    def answer(document: dict[str, Any]) -> None:
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    worker = AppWorker(folder)
    try:
        functions = await worker.start()
    except RuntimeError as error:
        answer({"error": str(error)})
        return
    answer({"functions": functions})

    async def invoke(call: dict[str, Any]) -> None:
        done = await worker.invoke(call["function"], call["trigger"], call["data"], call["metadata"])
        answer({"id": call["id"], **_answered(done)})

    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as calls:
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            calls.create_task(invoke(json.loads(line)))


def _answered(done: Any) -> dict[str, Any]:
    if done.result.exception is not None:
        return {"raised": done.result.exception.message, "trace": done.result.exception.stack_trace}
    http = done.return_value and done.return_value.http
    if http is None:
        return {}
    body = (http.body and (http.body.bytes or (http.body.string or "").encode())) or b""
    return {"status": int(http.status_code), "headers": http.headers, "body": base64.b64encode(body).decode()}


if __name__ == "__main__":
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    asyncio.run(_serve(sys.argv[1], out))
