"""A venue's public REST, politely: bounded answers, a time limit, a rate of our own, and an error that says what to do."""

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import aiohttp

from core.domain.errors import Unavailable
from core.runtime.clock import Clock

ANSWER_BYTES_MAX = 64 * 1024 * 1024
THROTTLED_PAUSE_S = 1.0
TRIES_MAX = 4

_WORDS = 300
_THROTTLED = 429
_NOT_FOUND = 404
_OK = 200

Query = Mapping[str, str | Sequence[str]]


class RestClient:
    """GET requests to one host, one after the other."""

    def __init__(self, base: str, clock: Clock, *, request_s_max: float, per_s: float) -> None:
        """`base`: scheme and host. `per_s`: requests a second, at most."""
        self._base = base
        self._clock = clock
        self._pause_s = 1.0 / per_s
        self._next_s = 0.0
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=request_s_max), connector=aiohttp.TCPConnector(limit=2)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, path: str, query: Query | None = None) -> bytes | None:
        """Return the body, None where the venue does not know what was asked for.

        Raises:
            Unavailable: no answer in time, too many requests again and again, a refusal or an answer above the limit.
        """
        for turn in range(TRIES_MAX):
            await self._wait_for_turn()
            status, body = await self._ask(path, query or {})
            if status == _OK:
                return body
            if status == _NOT_FOUND:
                return None
            words = body[:_WORDS].decode(errors="replace")
            if status != _THROTTLED:
                raise Unavailable(f"GET {self._base}{path}: HTTP {status}: {words}")
            await asyncio.sleep(THROTTLED_PAUSE_S * 2**turn)
        raise Unavailable(f"GET {self._base}{path}: throttled {TRIES_MAX} times in a row")

    async def _wait_for_turn(self) -> None:
        now_s = self._clock.monotonic_s()
        begins_s = max(now_s, self._next_s)
        self._next_s = begins_s + self._pause_s
        if begins_s > now_s:
            await asyncio.sleep(begins_s - now_s)

    async def _ask(self, path: str, query: Query) -> tuple[int, bytes]:
        pairs = [(k, one) for k, v in query.items() for one in ([v] if isinstance(v, str) else v)]
        try:
            async with self._session.get(self._base + path, params=pairs) as answer:
                body = bytearray()
                async for part in answer.content.iter_any():
                    body += part
                    if len(body) > ANSWER_BYTES_MAX:
                        raise Unavailable(f"GET {self._base}{path}: an answer above {ANSWER_BYTES_MAX} bytes")
                return answer.status, bytes(body)
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise Unavailable(f"GET {self._base}{path}: {type(e).__name__} {e}") from e
