"""Signatures that are made beside the event loop: it goes on, requests keep their order, nothing leaks and nothing leaves unsigned."""

import asyncio
import threading
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from core.domain.errors import MalformedFrame, Unavailable
from core.runtime import metrics
from core.runtime.clock import NS_PER_MS, SystemClock
from execute import signing
from execute.calls import TooLate
from execute.kalshi import KalshiVenue
from execute.ports import Lane, Request
from execute.signing import Signatures
from tests.execute.unreached import calls_to
from venues.environment import Environment
from venues.kalshi import hosts
from venues.kalshi.auth import KEY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, Signer, verify

E6 = 1_000_000
READ = Request("GET", f"{hosts.API_ROOT}/portfolio/balance", b"", "", "read", 1)
RSA = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


class SlowKalshi(KalshiVenue):
    """A key that takes its time: without the interpreter, as OpenSSL does, and as long as it is told for each request."""

    signs_slowly = True

    def __init__(self, **parts) -> None:
        super().__init__(**parts)
        self.signs_slowly = True
        self.took_s = {}
        self.threads = set()
        self.signed = []
        self.gate = threading.Event()
        """Each signature waits for it, five seconds at most: only a loop that goes on meanwhile can open it."""
        self.gate.set()
        self.passed = []

    def headers(self, request, now_ns):
        self.passed.append(self.gate.wait(5.0))
        self.threads.add(threading.get_ident())
        time.sleep(self.took_s.get(request.method, 0.0))
        self.signed.append(request)
        return super().headers(request, now_ns)


def slow_kalshi(key=None, endpoints=None) -> SlowKalshi:
    found = endpoints or hosts.endpoints(Environment.SIMULATED, simulated="127.0.0.1:1")
    return SlowKalshi(signer=Signer("key", key or RSA), endpoints=found, tier="advanced")


def slow_venue_of(bench) -> SlowKalshi:
    key = bench.world.credentials.kalshi[0]
    return SlowKalshi(
        signer=Signer.from_pem(key.key_id, key.private_key_pem), endpoints=bench.endpoints, tier="advanced"
    )


def pool_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("signer")]


# --- where a signature is made


async def test_rsa_is_signed_on_another_thread_and_the_loop_goes_on() -> None:
    venue = slow_kalshi()
    venue.gate.clear()
    signatures = Signatures(venue, SystemClock())
    signing_now = signatures.sign(READ)
    venue.gate.set()
    await signing_now
    assert venue.passed == [True]
    assert venue.threads
    assert threading.get_ident() not in venue.threads
    signatures.close()


async def test_a_signature_from_the_thread_is_that_of_its_request_and_time() -> None:
    clock = SystemClock()
    signatures = Signatures(slow_kalshi(), clock)
    before_ms = clock.now_ns() // NS_PER_MS
    headers = await signatures.sign(READ)
    signatures.close()
    assert headers[KEY_HEADER] == "key"
    assert before_ms <= int(headers[TIMESTAMP_HEADER]) <= clock.now_ns() // NS_PER_MS
    assert verify(
        RSA.public_key(),
        method="GET",
        path=READ.path,
        timestamp_ms=headers[TIMESTAMP_HEADER],
        signature=headers[SIGNATURE_HEADER],
    )


async def test_what_is_cheap_is_signed_at_once_and_needs_no_thread() -> None:
    endpoints = hosts.endpoints(Environment.SIMULATED, simulated="127.0.0.1:1")
    venue = KalshiVenue(signer=Signer("key", ed25519.Ed25519PrivateKey.generate()), endpoints=endpoints)
    before = len(pool_threads())
    signatures = Signatures(venue, SystemClock())
    found = signatures.sign(READ)
    assert found.done()
    assert len(pool_threads()) == before
    assert not venue.signs_slowly
    signatures.close()


async def test_signatures_are_done_in_the_order_they_were_asked_for() -> None:
    venue = slow_kalshi()
    venue.took_s = {"POST": 0.03, "DELETE": 0.0}
    signatures = Signatures(venue, SystemClock())
    requests = [READ._replace(method=method) for method in ("POST", "DELETE", "POST", "DELETE")]
    ended = []
    futures = [signatures.sign(request) for request in requests]
    for number, future in enumerate(futures):
        future.add_done_callback(lambda _, number=number: ended.append(number))
    await asyncio.gather(*futures)
    await asyncio.sleep(0)
    assert [request.method for request in venue.signed] == ["POST", "DELETE", "POST", "DELETE"]
    assert ended == [0, 1, 2, 3]
    signatures.close()


async def test_at_the_bound_a_signature_is_made_on_the_loop_and_counted(monkeypatch) -> None:
    monkeypatch.setattr(signing, "WAITING_MAX", 2)
    venue = slow_kalshi()
    venue.took_s["POST"] = 0.1
    signatures = Signatures(venue, SystemClock())
    slow = [signatures.sign(READ._replace(method="POST")) for _ in range(2)]
    counted = metrics.REGISTRY.get_sample_value
    labels = {"queue": "signatures", "did": "signed on the loop"}
    before = counted("queue_at_bound_total", labels) or 0.0
    more = signatures.sign(READ)
    assert more.done()
    assert counted("queue_at_bound_total", labels) == before + 1
    await asyncio.gather(*slow)
    assert not signatures.sign(READ).done()
    signatures.close()


async def test_a_signature_nobody_wants_any_more_is_forgotten_and_its_place_is_free() -> None:
    venue = slow_kalshi()
    venue.took_s["POST"] = 0.05
    signatures = Signatures(venue, SystemClock())
    futures = [signatures.sign(READ._replace(method="POST")) for _ in range(3)]
    for future in futures[1:]:
        future.cancel()
    await futures[0]
    await signatures.sign(READ)
    assert [request.method for request in venue.signed] == ["POST", "GET"]
    assert signatures._waiting == 0
    signatures.close()


async def test_close_ends_the_thread_whatever_waits_for_it() -> None:
    venue = slow_kalshi()
    venue.took_s["POST"] = 0.1
    before = len(pool_threads())
    signatures = Signatures(venue, SystemClock())
    waiting = [signatures.sign(READ._replace(method="POST")) for _ in range(20)]
    await asyncio.sleep(0.02)
    began = time.monotonic()
    signatures.close()
    assert time.monotonic() - began < 1.0
    assert len(pool_threads()) == before
    await asyncio.sleep(0.01)
    assert all(one.done() for one in waiting)
    assert len(venue.signed) == 1
    # What asks afterwards is served at once, without a thread.
    assert signatures.sign(READ).done()


# --- order and time


async def _venue_that_notes(heard: list[str]) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                heard.append(head.split(b" ", 2)[1].decode().rpartition("/")[2])
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


async def test_requests_leave_in_the_order_of_their_tokens_however_long_each_signature_takes() -> None:
    heard: list[str] = []
    server = await _venue_that_notes(heard)
    venue = slow_kalshi()
    async with server, calls_to(server.sockets[0].getsockname()[1], venue) as http:
        warm = [READ._replace(path="/warm") for _ in range(6)]
        await asyncio.gather(*(http.call(one, lane=Lane.REPORT) for one in warm))
        heard.clear()
        venue.took_s["GET"] = 0.01
        signed = {n: await http.signatures.sign(READ._replace(path=f"/{n}")) for n in (1, 3, 5)}
        calls = [
            http.call(READ._replace(path=f"/{number}"), lane=Lane.REPORT, headers=signed.get(number))
            for number in range(6)
        ]
        await asyncio.gather(*calls)
    assert heard == ["0", "1", "2", "3", "4", "5"]


async def test_a_request_that_gives_up_while_it_is_signed_keeps_nobody_behind_it() -> None:
    heard: list[str] = []
    server = await _venue_that_notes(heard)
    venue = slow_kalshi()
    venue.took_s["DELETE"] = 0.1
    async with server, calls_to(server.sockets[0].getsockname()[1], venue) as http:
        first = asyncio.ensure_future(http.call(READ._replace(method="DELETE", path="/0"), lane=Lane.CANCEL))
        second = asyncio.ensure_future(http.call(READ._replace(path="/1"), lane=Lane.REPORT))
        await asyncio.sleep(0.02)
        first.cancel()
        assert (await second).status == 200
    assert heard == ["1"]


async def test_send_by_that_passes_during_a_signature_keeps_the_bytes_here() -> None:
    heard: list[str] = []
    server = await _venue_that_notes(heard)
    venue = slow_kalshi()
    venue.took_s["POST"] = 0.1
    async with server, calls_to(server.sockets[0].getsockname()[1], venue) as http:
        order = READ._replace(method="POST", path="/order", bucket="write")
        with pytest.raises(TooLate, match="send_by passed"):
            await http.call(order, lane=Lane.NEW, send_by_ns=SystemClock().now_ns() + 30 * NS_PER_MS)
    assert heard == []


async def test_a_key_that_does_not_sign_in_time_lets_no_order_leave(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        venue = slow_venue_of(bench)
        await bench.start(venue=venue)
        bench.stranger("SELL", 4_500, 20)
        venue.took_s["POST"] = 0.8
        bench.life_ms = 500
        grant = bench.grant()
        ended = await bench.terminal(grant.id)
        assert (ended.status, ended.reason) == ("EXPIRED_UNSENT", "not signed before send_by")
        await asyncio.sleep(0.5)
        assert bench.attempts == 0
        assert bench.submittings(grant.id)[0].writer == ended.writer


async def test_a_key_that_breaks_before_a_repeat_leaves_the_first_to_be_looked_up(new_bench) -> None:
    class SignsOnce(SlowKalshi):
        def headers(self, request, now_ns):
            if request.method == "POST" and any(one.method == "POST" for one in self.signed):
                raise MalformedFrame("the key does not sign this")
            return super().headers(request, now_ns)

    async with new_bench("kalshi") as bench:
        key = bench.world.credentials.kalshi[0]
        signer = Signer.from_pem(key.key_id, key.private_key_pem)
        await bench.start(venue=SignsOnce(signer=signer, endpoints=bench.endpoints, tier="advanced"))
        bench.stranger("SELL", 4_500, 20)
        bench.faults.order_swallow_answer_rate = 1.0
        bench.life_ms = 2_000
        grant = bench.grant()
        ended = await bench.terminal(grant.id, timeout_s=15)
        assert ended.status == "FILLED"
        assert bench.attempts == 1


async def test_a_key_that_fails_in_its_own_words_lets_not_a_byte_leave() -> None:
    class Weak(SlowKalshi):
        def headers(self, request, now_ns):
            raise ValueError("digest too large for key size")

    heard: list[str] = []
    server = await _venue_that_notes(heard)
    venue = Weak(signer=Signer("key", RSA), endpoints=hosts.endpoints(Environment.SIMULATED, simulated="127.0.0.1:1"))
    async with server, calls_to(server.sockets[0].getsockname()[1], venue) as http:
        with pytest.raises(Unavailable, match="digest too large"):
            await http.call(READ, lane=Lane.REPORT)
    assert heard == []


# --- a whole gateway


async def test_the_loop_goes_on_while_orders_are_signed(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        venue = slow_venue_of(bench)
        running = await bench.start(venue=venue)
        venue.passed.clear()
        venue.gate.clear()
        grants = [bench.grant(time_in_force="GTC", price=4_400 - 100 * n, size=E6) for n in range(4)]
        await bench.until(lambda: all(bench.submittings(grant.id) for grant in grants))
        # Were it signed on the loop, nobody could open the gate.
        venue.gate.set()
        await bench.until(lambda: all("ACCEPTED" in bench.statuses(grant.id) for grant in grants))
        assert all(venue.passed)
        assert len(venue.passed) >= len(grants)
        assert not running.gateway.health.stop_reason()
        assert [order.client_order_id for order in bench.venue_orders] == [grant.client_id for grant in grants]


async def test_a_gateway_that_ends_while_orders_are_signed_sends_none_and_leaves_no_thread(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        before = len(pool_threads())
        venue = slow_venue_of(bench)
        running = await bench.start(venue=venue)
        venue.took_s["POST"] = 0.2
        grants = [bench.grant(size=E6) for _ in range(5)]
        await bench.until(lambda: all(bench.submittings(grant.id) for grant in grants))
        began = time.monotonic()
        await running.kill()
        assert time.monotonic() - began < 2.0
        assert len(pool_threads()) == before
        await asyncio.sleep(0.3)
        assert bench.attempts == 0


async def test_the_private_stream_is_signed_beside_the_loop_too(new_bench) -> None:
    async with new_bench("kalshi") as bench:
        venue = slow_venue_of(bench)
        opened_on = []
        plan = venue.stream
        venue.stream = lambda now_ns: (opened_on.append(threading.get_ident()), plan(now_ns))[1]
        await bench.start(venue=venue)
        assert opened_on
        assert threading.get_ident() not in opened_on


def test_the_word_slow_means_rsa() -> None:
    assert Signer("key", RSA).is_slow
    assert not Signer("key", ed25519.Ed25519PrivateKey.generate()).is_slow


async def test_a_refused_signature_says_so_and_is_no_stray_error() -> None:
    class Broken(SlowKalshi):
        def headers(self, request, now_ns):
            raise MalformedFrame("no")

    endpoints = hosts.endpoints(Environment.SIMULATED, simulated="127.0.0.1:1")
    signatures = Signatures(Broken(signer=Signer("key", RSA), endpoints=endpoints), SystemClock())
    with pytest.raises(MalformedFrame):
        await signatures.sign(READ)
    left_alone = signatures.sign(READ)
    await asyncio.wait([left_alone])
    signatures.close()
