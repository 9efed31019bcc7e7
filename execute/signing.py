"""Signatures of one key: on the event loop where they are cheap, on a thread of their own where they are not.

An RSA-PSS signature takes a quarter of a millisecond of a core, milliseconds of a loaded one, and meanwhile nothing else
of the gateway would happen: no Beat is heard, no cancel leaves. OpenSSL lets the interpreter go while it computes, so
one thread is enough to give the loop that time back. One, because signatures are to be done in the order they were
asked for; what costs less than a switch of threads (Ed25519, secp256k1, HMAC) stays on the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from core.domain.errors import Reject
from core.runtime import queues
from core.runtime.clock import Clock
from execute.ports import Request, Venue
from execute.views import Stream

WAITING_MAX = 128
"""Signatures that wait for the thread; one more is made on the loop at once, so that no cancel is ever refused here."""
QUEUE = "signatures"
ResultT = TypeVar("ResultT")


class Signatures:
    """Signs what one account sends."""

    def __init__(self, venue: Venue, clock: Clock) -> None:
        self._venue = venue
        self._clock = clock
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        self._waiting = 0
        queues.watch(QUEUE, self, lambda own: own._waiting, WAITING_MAX)

    def sign(self, request: Request) -> asyncio.Future[dict[str, str]]:
        """Return the signed headers of a request, as of now; done already where signing is cheap.

        The future raises `Reject` where the request cannot be signed.
        """
        now_ns = self._clock.now_ns()
        return self._begin(lambda: self._venue.headers(request, now_ns))

    def stream(self) -> asyncio.Future[Stream]:
        """Return how to open the private stream now, its upgrade signed."""
        now_ns = self._clock.now_ns()
        return self._begin(lambda: self._venue.stream(now_ns))

    def close(self) -> None:
        """End the thread; waits for the one signature that is being made, forgets those that were not begun."""
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _begin(self, work: Callable[[], ResultT]) -> asyncio.Future[ResultT]:
        if not self._venue.signs_slowly or self._closed:
            return at_once(work)
        if self._waiting >= WAITING_MAX:
            queues.at_bound(QUEUE, "signed on the loop")
            return at_once(work)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="signer")
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: asyncio.Future[ResultT]) -> None:
        self._waiting -= 1
        _retrieve(future)


def at_once(work: Callable[[], ResultT]) -> asyncio.Future[ResultT]:
    """Return what `work` returns or rejects as a future that is done."""
    future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
    try:
        future.set_result(work())
    except Reject as e:
        future.set_exception(e)
        _retrieve(future)
    return future


def _retrieve(future: asyncio.Future[ResultT]) -> None:
    """Look at an exception: whoever asked may not need the signature any more, and that is no error."""
    if not future.cancelled():
        future.exception()
