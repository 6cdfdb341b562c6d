import http.client
import json
import logging
import urllib.parse
from collections.abc import Iterator

import pytest

from functions_app.local_host import LocalHost
from functions_app.local_http import MAX_BODY
from tests.support.local_app import (
    KEYS,
    NEVER,
    PATIENCE,
    call,
    connect,
    raw_status,
    sample_app,
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A running host with the sample app."""
    with LocalHost(sample_app(), keys=KEYS, settings=NEVER).started() as host:
        yield host.url


class TestRouting:
    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/api/plain", 200),
            ("POST", "/api/plain", 200),
            ("GET", "/API/Plain", 200),
            ("GET", "/api/plain/", 200),
            ("GET", "/api/plain?x=1", 200),
            ("GET", "/api/./echo/../plain", 200),
            ("GET", "/plain", 404),
            ("GET", "/", 404),
            ("GET", "/api", 404),
            ("GET", "/api/plain/more", 404),
            ("GET", "/api//plain", 404),
            ("GET", "/api/%2Fplain", 404),
            ("GET", "/api/nothing", 404),
            ("PUT", "/api/plain", 404),
            ("HEAD", "/api/plain", 404),
            ("OPTIONS", "/api/plain", 404),
            ("BREW", "/api/plain", 404),
            ("get", "/api/plain", 404),
            ("BREW", "/api/echo/x", 200),
            ("HEAD", "/api/echo/x", 200),
            ("OPTIONS", "/api/echo/x", 200),
            ("OPTIONS", "*", 404),
            ("GET", "http://elsewhere/api/plain", 404),
            ("GET", "/api/items/x/../../../admin/host/status", 401),
            ("GET", "/api/%2e%2e/admin/host/status", 401),
        ],
    )
    def test_a_request_reaches_its_function_or_none(self, url: str, method: str, path: str, status: int) -> None:
        """By path and method; what has no function is a 404, on a wrong method too."""
        assert call(url, method, path).status == status

    @pytest.mark.parametrize(
        ("path", "answer"), [("/api/items", "named None"), ("/api/items/x", "named x"), ("/api/items/7", None)]
    )
    def test_the_narrowest_route_wins(self, url: str, path: str, answer: str | None) -> None:
        """An integer goes to the function that asks for one, anything else to the other."""
        body = call(url, "GET", path).body.decode()
        assert body == answer if answer else json.loads(body)["route_params"] == {"id": "7"}

    @pytest.mark.parametrize("path", ["/api/echo/%zz", "/api/echo/%", "/api/echo/%ff", "/api/echo/a%00b", "/%zz"])
    def test_a_path_that_is_no_text_is_a_400(self, url: str, path: str) -> None:
        """It says what is wrong instead of guessing."""
        reply = call(url, "GET", path)
        assert reply.status == 400
        assert json.loads(reply.body)["code"] == "malformed_path"

    def test_an_answer_of_the_host_is_a_problem_document(self, url: str) -> None:
        """Also where no function could answer."""
        reply = call(url, "GET", "/api/nothing")
        assert reply.headers["content-type"] == "application/problem+json"
        assert json.loads(reply.body)["code"] == "not_found"

    def test_the_path_is_decoded_for_the_function(self, url: str) -> None:
        """Unicode arrives as text; an encoded slash and dots behind it stay what they are."""
        reply = call(url, "GET", "/api/echo/Bogot%C3%A1/a%2F..%2F..%2Fetc")
        assert json.loads(reply.body)["route_params"] == {"rest": "Bogotá/a%2F..%2F..%2Fetc"}


class TestRequest:
    def test_the_handler_gets_what_the_worker_would_give_it(self, url: str) -> None:
        """The class of azure.functions, names of headers in lower case, repeated values joined."""
        with connect(url) as connection:
            connection.sendall(
                b"POST /api/echo/x?a=1&b=x%20y&a=2&empty= HTTP/1.1\r\nHost: here:1\r\nX-Twice: 1\r\nx-twice: 2\r\n"
                b"Content-Length: 3\r\nConnection: close\r\n\r\n\x00\xffz"
            )
            _, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
        seen = json.loads(body)
        assert seen["class"] == "azure.functions.http.HttpRequest"
        assert seen["method"] == "POST"
        assert seen["url"] == "http://here:1/api/echo/x?a=1&b=x%20y&a=2&empty="
        assert seen["params"] == {"a": "1,2", "b": "x y"}
        assert seen["headers"]["x-twice"] == "1,2"
        assert seen["body"] == "\x00\xffz"

    def test_a_body_may_come_in_pieces(self, url: str) -> None:
        """Chunked, and in packets of its own."""
        with connect(url) as connection:
            connection.sendall(
                b"POST /api/echo/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n"
            )
            connection.sendall(b"2\r\nde\r\n0\r\n\r\n")
            _, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
        assert json.loads(body)["body"] == "abcde"

    def test_a_body_of_a_megabyte_is_taken_and_no_byte_more(self, url: str) -> None:
        """413 by the declared length, with the connection still usable."""
        assert call(url, "POST", "/api/plain", body=b"a" * MAX_BODY).status == 200
        reply = call(url, "POST", "/api/plain", body=b"a" * (MAX_BODY + 1))
        assert (reply.status, json.loads(reply.body)["code"]) == (413, "body_too_large")

    def test_a_declared_size_beyond_the_limit_is_refused_before_it_is_sent(self, url: str) -> None:
        """A client that asks first is spared the upload."""
        head = b"POST /api/plain HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n"
        assert raw_status(url, head) == 413

    def test_a_body_that_grows_beyond_the_limit_is_refused(self, url: str) -> None:
        """Chunked bodies declare no length."""
        chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
        head = b"POST /api/plain HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert raw_status(url, head + chunk * 17 + b"0\r\n\r\n") == 413

    @pytest.mark.parametrize(
        "request_bytes",
        [
            b"GET /api/echo/Bogot\xc3\xa1 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /api/echo/a b HTTP/1.1\r\nHost: x\r\n\r\n",
            b"nonsense\r\n\r\n",
            b"GET /api/plain HTTP/1.1\r\n\r\n",
            b"GET /api/plain HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
            b"GET /api/plain HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
            b"GET /api/plain HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        ],
    )
    def test_what_is_not_http_is_a_400(self, url: str, request_bytes: bytes) -> None:
        """Raw Unicode, spaces, lengths that are none: refused, and the host goes on."""
        assert raw_status(url, request_bytes) == 400
        assert call(url, "GET", "/api/plain").status == 200

    @pytest.mark.parametrize(
        "request_bytes",
        [
            b"GET /api/plain HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 33_000 + b"\r\n\r\n",
            b"GET /api/plain HTTP/1.1\r\nHost: x\r\n" + b"X-Many: a\r\n" * 5_000 + b"\r\n",
            b"GET /api/plain?" + b"a" * 33_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /api/" + b"a" * 33_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        ],
    )
    def test_a_huge_head_is_refused(self, url: str, request_bytes: bytes) -> None:
        """By the parser if it comes in pieces, else by the host; half of it is no problem."""
        assert raw_status(url, request_bytes) in {400, 431}
        assert call(url, "GET", "/api/plain", headers={"X-Long": "a" * 16_000}).status == 200

    def test_a_client_that_goes_away_leaves_no_trace(self, url: str, caplog: pytest.LogCaptureFixture) -> None:
        """Half a body is no request."""
        with connect(url) as connection:
            connection.sendall(b"POST /api/plain HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        assert call(url, "GET", "/api/plain").status == 200
        assert caplog.records == []


class TestAnswer:
    def test_text_is_a_plain_answer(self, url: str) -> None:
        """A handler may return text alone."""
        reply = call(url, "GET", "/api/plain")
        assert (reply.status, reply.body.decode()) == (200, "ñandú")
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"

    def test_status_headers_and_cookies_arrive(self, url: str) -> None:
        """As the handler set them, but for the framing, which is the host's."""
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=PATIENCE)
        connection.request("GET", "/api/full")
        response = connection.getresponse()
        assert (response.status, response.read()) == (201, b"{}")
        assert response.headers["X-Seen"] == "yes"
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers.get_all("Content-Length") == ["2"]
        assert response.headers.get_all("Set-Cookie") == ["a=1; HttpOnly; Path=/", "b=2; Secure"]
        connection.close()

    def test_no_content_is_no_content(self, url: str, caplog: pytest.LogCaptureFixture) -> None:
        """Neither body nor length (RFC 9110, sections 8.6 and 15.3.5), and the connection serves the next request."""
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=PATIENCE)
        connection.request("GET", "/api/empty")
        reply = connection.getresponse()
        assert (reply.status, reply.read(), reply.headers["Content-Length"]) == (204, b"", None)
        connection.request("GET", "/api/plain")
        assert connection.getresponse().status == 200
        connection.close()
        assert caplog.records == []

    def test_a_head_request_gets_the_head(self, url: str) -> None:
        """The length of what GET would bring, and nothing of it."""
        reply = call(url, "HEAD", "/api/echo/x")
        assert reply.body == b""
        assert int(reply.headers["content-length"]) > 0

    @pytest.mark.parametrize("how", ["error", "exit", "header", "nothing"])
    def test_a_handler_that_fails_is_a_500_with_a_reference(
        self, url: str, how: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The log has the reference, nobody has the message, and the host goes on."""
        with caplog.at_level(logging.ERROR):
            reply = call(url, "GET", f"/api/broken/{how}")
        assert reply.status == 500
        assert json.loads(reply.body)["reference"] in caplog.text
        assert "CANARY" not in caplog.text + reply.body.decode()
        assert call(url, "GET", "/api/plain").status == 200
