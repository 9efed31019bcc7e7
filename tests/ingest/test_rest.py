"""REST against a server that misbehaves: repeated where that may help, refused where not, left alone when it goes on."""

import asyncio
import json
import time

import pytest
from aiohttp import web

from core.domain.errors import Unavailable
from core.runtime.clock import SystemClock
from ingest.host import BreakerLimits, HostGate
from ingest.rest import RestClient


@pytest.fixture(autouse=True)
def impatient(monkeypatch) -> None:
    monkeypatch.setattr("ingest.rest.RETRY_FIRST_S", 0.01)
    monkeypatch.setattr("ingest.rest.RETRY_S_MAX", 0.05)


async def serve_answers(answers: list[tuple], ask, *, failures_max: int = 100):
    """Serve `answers` one after the other and call `ask` with a client of that server."""
    asked = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        status, body, *headers = answers[min(len(asked), len(answers)) - 1]
        return web.Response(status=status, body=body, headers=dict(headers))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    try:
        clock = SystemClock()
        gate = HostGate("venue.test", clock, BreakerLimits(failures_max, 30.0), 2)
        async with RestClient(f"http://127.0.0.1:{port}", clock, gate, request_s_max=2, per_s=1_000) as rest:
            return await ask(rest), asked
    finally:
        await runner.cleanup()


def test_a_throttled_request_is_repeated_after_a_pause() -> None:
    throttled = (429, b'{"error":"too many requests"}')
    body, asked = asyncio.run(serve_answers([throttled, throttled, (200, b"{}")], lambda rest: rest.get("/x")))
    assert body == b"{}"
    assert len(asked) == 3


def test_a_venue_that_goes_on_throttling_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"HTTP 429: , 4 times in a row"):
        asyncio.run(serve_answers([(429, b"")], lambda rest: rest.get("/x")))


def test_an_error_repeats_the_venues_words() -> None:
    words = b'{"msg":"Parameter validation failed for GetMarkets"}'
    with pytest.raises(Unavailable, match=r"HTTP 400: .*Parameter validation failed"):
        asyncio.run(serve_answers([(400, words)], lambda rest: rest.get("/x")))


def test_what_the_venue_does_not_know_is_none() -> None:
    body, _ = asyncio.run(serve_answers([(404, b"{}")], lambda rest: rest.get("/x")))
    assert body is None


def test_repeated_parameters_are_repeated() -> None:
    query = {"condition_ids": ["0xa", "0xb"], "closed": "true"}
    _, asked = asyncio.run(serve_answers([(200, b"{}")], lambda rest: rest.get("/markets", query)))
    assert asked == ["/markets?condition_ids=0xa&condition_ids=0xb&closed=true"]


def test_an_answer_above_the_limit_is_not_read_to_its_end(monkeypatch) -> None:
    monkeypatch.setattr("ingest.rest.ANSWER_BYTES_MAX", 1_000)
    with pytest.raises(Unavailable, match="above 1000 bytes"):
        asyncio.run(serve_answers([(200, bytes(5_000))], lambda rest: rest.get("/x")))


@pytest.mark.parametrize("status", [425, 500, 502, 503, 504])
def test_a_server_error_or_a_restart_is_repeated(status: int) -> None:
    body, asked = asyncio.run(serve_answers([(status, b"busy"), (200, b"{}")], lambda rest: rest.get("/x")))
    assert body == b"{}"
    assert len(asked) == 2


def test_who_wants_no_retries_gets_none() -> None:
    async def ask(rest: RestClient) -> None:
        with pytest.raises(Unavailable):
            await rest.get("/x", tries=1)

    _, asked = asyncio.run(serve_answers([(503, b"")], ask))
    assert len(asked) == 1


def test_a_storm_opens_the_breaker_and_then_nobody_asks() -> None:
    async def ask(rest: RestClient) -> None:
        for _ in range(10):
            with pytest.raises(Unavailable):
                await rest.get("/x")

    _, asked = asyncio.run(serve_answers([(503, b"maintenance")], ask, failures_max=6))
    assert len(asked) == 6


def test_a_refusal_of_the_question_is_no_failure_of_the_host() -> None:
    async def ask(rest: RestClient) -> None:
        for _ in range(10):
            with pytest.raises(Unavailable, match="HTTP 400"):
                await rest.get("/x")

    _, asked = asyncio.run(serve_answers([(400, b"")], ask, failures_max=2))
    assert len(asked) == 10


def test_a_long_pause_that_the_venue_names_is_kept() -> None:
    async def ask(rest: RestClient) -> None:
        with pytest.raises(Unavailable, match="HTTP 429"):
            await rest.get("/x")
        with pytest.raises(Unavailable, match="left alone"):
            await rest.get("/x")

    _, asked = asyncio.run(serve_answers([(429, b"", ("Retry-After", "30"))], ask))
    assert len(asked) == 1


def test_a_question_with_a_body_is_posted() -> None:
    body, asked = asyncio.run(serve_answers([(200, b"[]")], lambda rest: rest.post("/books", json.dumps([]).encode())))
    assert body == b"[]"
    assert asked == ["/books"]


def test_nobody_there_is_unavailable_and_counts() -> None:
    async def scenario() -> None:
        clock = SystemClock()
        gate = HostGate("venue.test", clock, BreakerLimits(3, 30.0), 2)
        async with RestClient("http://127.0.0.1:1", clock, gate, request_s_max=1, per_s=1_000) as rest:
            with pytest.raises(Unavailable, match="left alone after 3 failures"):
                await rest.get("/x")

    asyncio.run(scenario())


@pytest.mark.parametrize("lag_s", [0.0, 0.005])
def test_a_task_that_is_told_to_end_in_the_moment_its_request_times_out_ends(lag_s) -> None:
    async def scenario() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        clock = SystemClock()
        gate = HostGate("venue.test", clock, BreakerLimits(100, 30.0), 2)
        async with server, RestClient(base, clock, gate, request_s_max=0.2, per_s=1_000) as rest:
            with pytest.raises(Unavailable, match="TimeoutError"):
                await rest.get("/x", tries=1)
            task = asyncio.create_task(rest.get("/x", tries=1))
            await asyncio.sleep(0.05)
            # Both are due when the loop runs again: a machine that is busy does this by itself.
            asyncio.get_running_loop().call_later(0.2 + lag_s, task.cancel)
            time.sleep(0.4)  # noqa: ASYNC251 - the loop is to stand
            await asyncio.wait({task}, timeout=5)
            assert task.cancelled()

    asyncio.run(scenario())
