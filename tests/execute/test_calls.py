"""Requests whose time is over while somebody asks their task to end."""

import asyncio
import time

import pytest

from core.domain.errors import OutcomeUnknown
from execute.ports import Lane, Request
from tests.execute.unreached import calls_to, kalshi_venue

TIMEOUT_S = 0.2
READ = Request("GET", "/balance", b"", "", "read", 1)


async def _silent() -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


@pytest.mark.parametrize("lag_s", [0.0, 0.005])
async def test_task_that_is_told_to_end_in_the_moment_its_request_times_out_ends(lag_s: float) -> None:
    server = await _silent()
    http = calls_to(server.sockets[0].getsockname()[1], kalshi_venue(), timeout_s=TIMEOUT_S)
    async with server, http:
        with pytest.raises(OutcomeUnknown, match="TimeoutError"):
            await http.call(READ, lane=Lane.REPORT)
        task = asyncio.create_task(http.call(READ, lane=Lane.REPORT))
        await asyncio.sleep(TIMEOUT_S / 4)
        # Both are due when the loop runs again: a machine that is busy does this by itself.
        asyncio.get_running_loop().call_later(TIMEOUT_S + lag_s, task.cancel)
        time.sleep(TIMEOUT_S * 2)  # noqa: ASYNC251 - the loop is to stand
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()
