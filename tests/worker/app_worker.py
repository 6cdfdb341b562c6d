"""Microsoft's worker library with one app: indexes it and invokes its functions, as the host would have it do."""

import base64
import json
import sys
from types import SimpleNamespace
from typing import Any

import azure_functions_runtime as library

from . import protos

_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


class AppWorker:
    """One per process: the library keeps its functions in module globals.

    Args:
        folder: holds `function_app.py`.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._ids: dict[str, str] = {}

    async def start(self) -> list[dict[str, Any]]:
        """Index the app; gives name, bindings and retry policy of each function.

        Raises:
            RuntimeError: the app cannot be indexed; the host would say that there are no functions.
        """
        sys.path.append(self._folder)  # where the host puts it: last
        library.start_threadpool_executor()
        init = SimpleNamespace(capabilities={}, function_app_directory=self._folder)
        started = await library.worker_init_request(_request(worker_init_request=init))
        if started.result.status != protos.StatusResult.Success:
            raise RuntimeError(started.result.exception.message)
        indexed = (await library.functions_metadata_request(_request())).function_metadata_results
        self._ids = {each.name: each.function_id for each in indexed}
        return [
            {
                "name": each.name,
                "bindings": [json.loads(binding) for binding in each.raw_bindings],
                "retry": _retry(each.retry_options),
            }
            for each in indexed
        ]

    async def invoke(self, function: str, trigger: str, data: dict[str, Any], metadata: dict[str, Any]) -> Any:
        """Invoke a function and give the library's answer.

        Args:
            function: its name.
            trigger: name of its trigger parameter.
            data: one `TypedData` as `{"json": text}`, `{"string": text}` or `{"http": {...}}` with the body in base64.
            metadata: trigger metadata, each a `TypedData`.
        """
        request = SimpleNamespace(
            invocation_id="invocation",
            function_id=self._ids[function],
            input_data=[protos.ParameterBinding(name=trigger, data=_typed(data))],
            trigger_metadata={name: _typed(value) for name, value in metadata.items()},
            trace_context=SimpleNamespace(trace_parent=_TRACE, trace_state="", attributes={}),
            retry_context=SimpleNamespace(retry_count=0, max_retry_count=0, exception=None),
        )
        return await library.invocation_request(_request(invocation_request=request))


def _request(**parts: Any) -> SimpleNamespace:
    return SimpleNamespace(request=SimpleNamespace(**parts), properties={"protos": protos, "host": "127.0.0.1"})


def _typed(data: dict[str, Any]) -> protos.TypedData:
    if "http" not in data:
        return protos.TypedData(**data)
    http = data["http"]
    body = base64.b64decode(http.get("body", ""))
    return protos.TypedData(
        http=protos.RpcHttp(
            method=http["method"],
            url=http["url"],
            headers={name.lower(): value for name, value in http.get("headers", {}).items()},
            params=http.get("params", {}),
            query=http.get("query", {}),
            body=protos.TypedData(bytes=body) if body else protos.TypedData(),
        )
    )


def _retry(options: Any) -> dict[str, Any] | None:
    if options is None:
        return None
    delay = options.delay_interval
    return {
        "strategy": options.retry_strategy,
        "max_retry_count": options.max_retry_count,
        "delay_seconds": None if delay is None else delay.total_seconds(),
    }
