"""A venue's public REST, politely: bounded answers, a time limit, a rate of our own, bounded retries with jitter.

A host that fails again and again is left alone (`HostGate`): who asks meanwhile is told so at once.
"""

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp

from core.domain.errors import Unavailable
from core.runtime import metrics
from core.runtime.clock import Clock
from ingest.backoff import Backoff
from ingest.host import HostGate, named_pause_s

ANSWER_BYTES_MAX = 64 * 1024 * 1024
TRIES_MAX = 4
RETRY_FIRST_S = 1.0
"""Longest first pause before a question is repeated."""
RETRY_S_MAX = 8.0
"""Longest pause; a venue that names a longer one is left alone instead."""

_WORDS = 300
_THROTTLED = frozenset({425, 429})
_NOT_FOUND = 404
_OK = 200
_SERVER_ERROR = 500

Query = Mapping[str, str | Sequence[str]]


class _TooLarge(Unavailable):
    """The same question would bring the same answer."""


class _Answer(NamedTuple):
    status: int
    body: bytes
    wait_s: float


class RestClient:
    """Requests to one host, so many a second."""

    def __init__(self, base: str, clock: Clock, gate: HostGate, *, request_s_max: float, per_s: float) -> None:
        """`base`: scheme and host. `per_s`: requests a second, at most."""
        self._base = base
        self._clock = clock
        self._gate = gate
        self._pause_s = 0.0
        self.pace(per_s)
        self._next_s = 0.0
        self._request_s_max = request_s_max
        self._session = aiohttp.ClientSession(
            # Its own limit loses a cancellation that comes in the turn of the loop in which it strikes; `_ask` has ours.
            timeout=aiohttp.ClientTimeout(total=None),
            connector=aiohttp.TCPConnector(limit=2),
        )

    def pace(self, per_s: float) -> None:
        """Ask at most so many times a second from now on."""
        self._pause_s = 1.0 / per_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, path: str, query: Query | None = None, *, tries: int = TRIES_MAX) -> bytes | None:
        """Return the body, None where the venue does not know what was asked for.

        Raises:
            Unavailable: no answer in time, too many requests or a server's error `tries` times in a row, a refusal, an
                answer above the limit, or a host that is left alone.
        """
        return await self._persist("GET", path, query or {}, b"", tries)

    async def post(self, path: str, body: bytes, *, tries: int = TRIES_MAX) -> bytes | None:
        """Ask a question that has a JSON body; the same as `get` otherwise."""
        return await self._persist("POST", path, {}, body, tries)

    async def _persist(self, method: str, path: str, query: Query, body: bytes, tries: int) -> bytes | None:
        backoff = Backoff(self._clock, first_s=RETRY_FIRST_S, max_s=RETRY_S_MAX)
        for turn in range(1, tries + 1):
            await self._wait_for_turn()
            self._gate.check()
            wait_s = 0.0
            try:
                async with self._gate.asking():
                    answer = await self._ask(method, path, query, body)
            except _TooLarge:
                self._gate.succeeded()
                raise
            except Unavailable as e:
                self._gate.failed()
                failure = e
            else:
                if answer.status == _OK or not _is_passing(answer.status):
                    self._gate.succeeded()
                    return self._taken(method, path, answer)
                failure, wait_s = self._refusal(method, path, answer), answer.wait_s
                self._gate.failed(wait_s if wait_s > RETRY_S_MAX else 0.0)
            metrics.EVENTS.labels("ingest", "request_failed").inc()
            if turn == tries or wait_s > RETRY_S_MAX:
                if turn == 1:
                    raise failure
                raise Unavailable(f"{failure}, {turn} times in a row") from failure
            await asyncio.sleep(max(wait_s, backoff.next_s()))
        raise Unavailable(f"{method} {self._base}{path}: asked {tries} times")

    def _taken(self, method: str, path: str, answer: _Answer) -> bytes | None:
        if answer.status == _OK:
            return answer.body
        if answer.status == _NOT_FOUND:
            return None
        raise self._refusal(method, path, answer)

    def _refusal(self, method: str, path: str, answer: _Answer) -> Unavailable:
        words = answer.body[:_WORDS].decode(errors="replace")
        return Unavailable(f"{method} {self._base}{path}: HTTP {answer.status}: {words}")

    async def _wait_for_turn(self) -> None:
        now_s = self._clock.monotonic_s()
        begins_s = max(now_s, self._next_s)
        self._next_s = begins_s + self._pause_s
        if begins_s > now_s:
            await asyncio.sleep(begins_s - now_s)

    async def _ask(self, method: str, path: str, query: Query, body: bytes) -> _Answer:
        pairs = [(k, one) for k, v in query.items() for one in ([v] if isinstance(v, str) else v)]
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            async with (
                asyncio.timeout(self._request_s_max),
                self._session.request(
                    method, self._base + path, params=pairs, data=body or None, headers=headers
                ) as answer,
            ):
                found = bytearray()
                async for part in answer.content.iter_any():
                    found += part
                    if len(found) > ANSWER_BYTES_MAX:
                        raise _TooLarge(f"{method} {self._base}{path}: an answer above {ANSWER_BYTES_MAX} bytes")
                return _Answer(answer.status, bytes(found), named_pause_s(answer.headers.get("Retry-After", "")))
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise Unavailable(f"{method} {self._base}{path}: {type(e).__name__} {e}") from e


def _is_passing(status: int) -> bool:
    return status in _THROTTLED or status >= _SERVER_ERROR
