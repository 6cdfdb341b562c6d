"""The messages between host and worker, as the worker library uses them: made by keyword, read by attribute.

The library takes its protobuf module from whoever runs it. Enum numbers are those of `FunctionRpc.proto`.
"""

from typing import Any


class Message:
    """A message with the fields it was made with; any other field is None."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update({name: value for name, value in fields.items() if value is not None})

    def __getattr__(self, name: str) -> Any:
        """None for a field that was not given; `TypedData` is where the library looks for a nested one."""
        if name.startswith("__") or name == "TypedData":
            raise AttributeError(name)
        return None

    def WhichOneof(self, group: str) -> str | None:  # noqa: N802 - protobuf's name
        """The field that is set, of those that exclude each other."""
        return next((name for name in vars(self) if name != "name"), None)


class StatusResult(Message):
    Failure, Success, Cancelled = 0, 1, 2


class BindingInfo(Message):
    out, inout = 1, 2
    undefined = 0


class SameSite:
    Lax, Strict, ExplicitNone = 1, 2, 3


class RpcHttpCookie(Message):
    SameSite = SameSite


class TypedData(Message):
    pass


class ParameterBinding(Message):
    pass


FunctionLoadResponse = FunctionMetadataResponse = InvocationResponse = WorkerInitResponse = Message
NullableBool = NullableDouble = NullableString = NullableTimestamp = Message
RpcException = RpcFunctionMetadata = RpcHttp = RpcRetryOptions = WorkerMetadata = Message
