"""A transport without a network: a list of answers, and the requests that were made."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from layerstore.registry.headers import Headers
from layerstore.registry.transport import Answer, HttpRequest


class FakeAnswer:
    """An answer with a body in memory."""

    def __init__(
        self, status: int, data: bytes = b"", headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        self.status = status
        self.headers = Headers(headers)
        self.url = ""
        self.closed = False
        self._rest = memoryview(data)

    def readinto(self, buffer: memoryview, /) -> int:
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        self.closed = True


class FakeTransport:
    """Answers each request by `answer`."""

    def __init__(self, answer: Callable[[HttpRequest], FakeAnswer]) -> None:
        self._answer = answer
        self.requests: list[HttpRequest] = []
        self.answers: list[FakeAnswer] = []

    def send(self, request: HttpRequest) -> Answer:
        self.requests.append(request)
        answer = self._answer(request)
        answer.url = request.url
        self.answers.append(answer)
        return answer

    def close(self) -> None:
        pass
