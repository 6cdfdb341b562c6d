"""Client ids: a few fields that together name a client, as one text that is safe everywhere.

The text is partition key, session id and URL segment at once, so it uses unreserved URL characters only (RFC 3986,
section 2.3) and is never `.` or `..`. The parts are joined by a dot. In a part every character outside `A-Z a-z 0-9 - _`
is written as `~` and two hexadecimal digits for each byte of its UTF-8 form, dots and tildes included; so no two ids
share a text, and every text reads back.
"""

import re
import unicodedata
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails

from .errors import InvalidClientIdError
from .problems import field_problems

MAX_LENGTH = 96
_VALID = re.compile(r"(?:[A-Za-z0-9_-]|~[0-9A-F]{2})+(?:\.(?:[A-Za-z0-9_-]|~[0-9A-F]{2})+)*")
_ESCAPED = re.compile(rb"~([0-9A-F]{2})")
_TO_ESCAPE = re.compile(rb"[^A-Za-z0-9_-]")


class ClientId(BaseModel):
    """Base of client ids. Subclass it with the fields that identify a client, all of type `str` or `int`.

        class PersonId(ClientId):
            document_type: str
            number: str

        str(PersonId(document_type="CC", number="10 20"))   # 'CC.10~2020'
        PersonId.parse("CC.10~2020")

    Texts are brought to Unicode form C, so that composed and decomposed spellings are one client.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    part_names: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse an id class without parts or with parts that have no canonical text."""
        super().__pydantic_init_subclass__(**kwargs)
        if not cls.model_fields:
            raise InvalidClientIdError(f"{cls.__name__} declares no field; an id needs at least one")
        wrong = [name for name, field in cls.model_fields.items() if field.annotation not in {str, int}]
        if wrong:
            raise InvalidClientIdError(f"{cls.__name__}.{wrong[0]} must be declared as str or int")
        cls.part_names = tuple(cls.model_fields)

    def model_post_init(self, context: Any, /) -> None:  # noqa: ARG002 - the signature is pydantic's
        """Compose texts and refuse an id that no text could stand for."""
        # Not a validator: pydantic runs those again on every finished id that becomes part of a record.
        values = self.__dict__
        for name in self.part_names:
            value = values[name]
            if type(value) is str:
                values[name] = self._composed(name, value)
            elif abs(value) >= 10**MAX_LENGTH:  # Python refuses to write out really large numbers
                raise self._refused("string_too_long", (name,), max_length=MAX_LENGTH)
        if len(str(self)) > MAX_LENGTH:
            raise self._refused("string_too_long", (), max_length=MAX_LENGTH)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The id that `str()` turned into this text.

        Raises:
            InvalidClientIdError: the text is not exactly what `str()` gives for an id of this class.
        """
        parts = check_client_id(text).split(".")
        if len(parts) != len(cls.part_names):
            raise InvalidClientIdError(f"{len(cls.part_names)} parts were expected, {len(parts)} came")
        try:
            values = dict(zip(cls.part_names, map(_unescape, parts), strict=True))
            # A text is all there is, so a class that is strict about numbers has to accept their digits here.
            parsed = cls.model_validate(values, strict=False, by_alias=False, by_name=True)
        except ValidationError as error:
            first = field_problems(error)[0]
            raise InvalidClientIdError(f"{first.path}: {first.problem}") from None
        if str(parsed) != text:
            raise InvalidClientIdError("the text is not in its canonical form")
        return parsed

    @classmethod
    def _composed(cls, name: str, text: str) -> str:
        if not text:
            raise cls._refused("string_too_short", (name,), min_length=1)
        try:
            text.encode()
        except UnicodeEncodeError:  # a lone surrogate
            raise cls._refused("string_unicode", (name,)) from None
        return unicodedata.normalize("NFC", text)

    @classmethod
    def _refused(cls, kind: str, where: tuple[str, ...], **limit: int) -> ValidationError:
        # An error of pydantic's own kind keeps the name of the part; a ValueError would lose it.
        details = InitErrorDetails(type=kind, loc=where, input=None, ctx=dict(limit))
        return ValidationError.from_exception_data(cls.__name__, [details], hide_input=True)

    def __str__(self) -> str:
        return ".".join(_escape(str(self.__dict__[name])) for name in self.part_names)


def check_client_id(text: str) -> str:
    """The text itself, if it can be a client id.

    Raises:
        InvalidClientIdError: it is empty, longer than 96 characters, or holds anything `ClientId` would not write.
    """
    if len(text) > MAX_LENGTH:
        raise InvalidClientIdError(f"{len(text)} characters, at most {MAX_LENGTH} fit")
    if _VALID.fullmatch(text) is None:
        raise InvalidClientIdError("letters, digits, '-', '_', '~XX' escapes and dots between parts were expected")
    if "~" in text and any(_canonical(part) != part for part in text.split(".")):
        raise InvalidClientIdError("an escape stands for what needs none, or for text that is not in Unicode form C")
    return text


def _canonical(part: str) -> str:
    return _escape(unicodedata.normalize("NFC", _unescape(part)))


def _escape(part: str) -> str:
    if part.isascii() and part.replace("-", "a").replace("_", "a").isalnum():
        return part
    return _TO_ESCAPE.sub(lambda match: b"~%02X" % match[0][0], part.encode()).decode()


def _unescape(part: str) -> str:
    if "~" not in part:
        return part
    try:
        return _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), part.encode()).decode()
    except UnicodeDecodeError:
        raise InvalidClientIdError("an escape does not form a character") from None
