"""Real servers on loopback, and clients that sign with `venues/`: two hands that never saw each other's code."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets

from simulate.settings import SimulateSettings
from simulate.world import World
from venues.kalshi.auth import Signer
from venues.polymarket.auth import Credentials, Order, Wallet

ANSWER_S = 5.0


class Stream:
    """A WebSocket client with a bound on every wait."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket

    async def send(self, command: dict[str, Any] | str) -> None:
        await self.socket.send(command if isinstance(command, str) else json.dumps(command))

    async def next(self) -> Any:
        """Return the next frame, decoded where it is JSON."""
        text = await asyncio.wait_for(self.socket.recv(), ANSWER_S)
        return text if text == "PONG" else json.loads(text)

    async def until(self, kind: str) -> dict[str, Any]:
        """Return the next frame of a type, whichever of the venues' words names it."""
        while True:
            frame = await self.next()
            if isinstance(frame, dict) and kind in (frame.get("type"), frame.get("event_type")):
                return frame

    async def drain(self, quiet_s: float = 0.2) -> list[Any]:
        """Return frames until nothing has come for a while."""
        frames = []
        with contextlib.suppress(TimeoutError):
            while True:
                frames.append(json.loads(await asyncio.wait_for(self.socket.recv(), quiet_s)))
        return frames


def _read(text: str) -> Any:
    """Return a JSON body; a proxy's page is text."""
    return text if text.startswith("<") else json.loads(text) if text else None


class KalshiClient:
    def __init__(self, ready: dict[str, Any], key: Any, session: aiohttp.ClientSession) -> None:
        self.rest = ready["kalshi"]["rest_url"]
        self.ws = ready["kalshi"]["ws_url"]
        self.signer = Signer.from_pem(key.key_id, key.private_key_pem)
        self.session = session
        self.skew_ms = 0

    def headers(self, method: str, path: str) -> dict[str, str]:
        return self.signer.headers(method, path, time.time_ns() // 1_000_000 + self.skew_ms)

    async def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """Return (status, body) of a signed request; `path` is below the API root and may carry a query."""
        if headers is None:
            headers = self.headers(method, "/trade-api/v2" + path.partition("?")[0])
        async with self.session.request(method, self.rest + path, json=body, headers=headers) as response:
            text = await response.text()
            return response.status, _read(text)

    async def order(self, ticker: str, side: str, price: str, count: str, **fields: Any) -> Any:
        body = {
            "ticker": ticker,
            "side": side,
            "price": price,
            "count": count,
            "time_in_force": "good_till_canceled",
            "self_trade_prevention_type": "taker_at_cross",
            **fields,
        }
        return await self.call("POST", "/portfolio/events/orders", body)

    @contextlib.asynccontextmanager
    async def stream(self) -> AsyncIterator[Stream]:
        headers = self.headers("GET", "/trade-api/ws/v2")
        async with websockets.connect(self.ws, additional_headers=headers, max_size=None, compression=None) as socket:
            yield Stream(socket)


class PolymarketClient:
    def __init__(self, ready: dict[str, Any], wallet: Any, session: aiohttp.ClientSession) -> None:
        self.urls = ready["polymarket"]
        self.wallet_key = wallet.private_key
        self.wallet = Wallet(wallet.private_key)
        self.credentials = Credentials(api_key=wallet.api_key, secret=wallet.secret, passphrase=wallet.passphrase)
        self.session = session
        self._salt = 1_000

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Return (status, body) of a request with L2 headers."""
        raw = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        signed = self.credentials.headers(
            address=self.wallet.address, method=method, path=path, body=raw, timestamp_s=int(time.time())
        )
        url = self.urls["clob_url"] + path
        async with self.session.request(method, url, data=raw or None, headers={**signed, **headers}) as response:
            return response.status, _read(await response.text())

    def body(
        self,
        token: str,
        side: str,
        maker: int,
        taker: int,
        order_type: str = "GTC",
        *,
        neg_risk: bool = False,
        expiration: int = 0,
        post_only: bool = False,
        **changes: Any,
    ) -> dict[str, Any]:
        """Return a signed POST /order body."""
        self._salt += 1
        order = Order(
            salt=self._salt,
            maker=self.wallet.address,
            signer=self.wallet.address,
            token_id=int(token),
            maker_amount=maker,
            taker_amount=taker,
            side=0 if side == "BUY" else 1,
            timestamp_ms=1_780_449_126_930,
            expiration=expiration,
        )
        signed = self.wallet.sign_order(order, neg_risk=neg_risk)
        fields = {
            "salt": order.salt,
            "maker": order.maker,
            "signer": order.signer,
            "tokenId": token,
            "makerAmount": str(maker),
            "takerAmount": str(taker),
            "side": side,
            "expiration": str(expiration),
            "signatureType": 0,
            "timestamp": str(order.timestamp_ms),
            "metadata": order.metadata,
            "builder": order.builder,
            "signature": signed.signature,
            **changes,
        }
        return {
            "order": fields,
            "owner": self.credentials.api_key,
            "orderType": order_type,
            "deferExec": False,
            "postOnly": post_only,
        }

    @contextlib.asynccontextmanager
    async def market(self, tokens: list[str], **fields: Any) -> AsyncIterator[Stream]:
        async with websockets.connect(self.urls["ws_market_url"], max_size=None, compression=None) as socket:
            await socket.send(json.dumps({"assets_ids": tokens, "type": "market", **fields}))
            yield Stream(socket)

    @contextlib.asynccontextmanager
    async def user(self) -> AsyncIterator[Stream]:
        async with websockets.connect(self.urls["ws_user_url"], compression=None) as socket:
            await socket.send(json.dumps({"auth": self.credentials.user_auth(), "type": "user", "markets": []}))
            # There is no acknowledgement: an answered PING says that the subscription has been read.
            stream = Stream(socket)
            await stream.send("PING")
            assert await stream.next() == "PONG"
            yield stream


class Venues:
    """A running world and one client of each account."""

    def __init__(self, world: World, ready: dict[str, Any], session: aiohttp.ClientSession) -> None:
        self.world = world
        self.ready = ready
        self.session = session
        keys = {(key.account, key.key_type): key for key in world.credentials.kalshi}
        wallets = {wallet.account: wallet for wallet in world.credentials.polymarket}
        self.kalshi = KalshiClient(ready, keys["main", "ed25519"], session)
        self.kalshi_rsa = KalshiClient(ready, keys["main", "rsa"], session)
        self.kalshi_second = KalshiClient(ready, keys["second", "ed25519"], session)
        self.polymarket = PolymarketClient(ready, wallets["main"], session)
        # A test may bring its own single wallet.
        self.polymarket_second = PolymarketClient(ready, wallets.get("second", wallets["main"]), session)

    async def sim(self, path: str, body: Any = None) -> Any:
        """Ask the control port."""
        url = self.ready["sim_url"] + path
        async with self.session.request("POST" if body is not None else "GET", url, json=body) as response:
            return await response.json()

    async def get(self, url: str) -> Any:
        """Return (status, body) of a public request."""
        async with self.session.get(url) as response:
            return response.status, json.loads(await response.text())


Run = Callable[..., None]


@pytest.fixture(scope="session")
def credentials_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys are made once: RSA keys are slow to make."""
    return tmp_path_factory.mktemp("sim") / "credentials.json"


@pytest.fixture
def run(tmp_path: Path, credentials_file: Path) -> Run:
    """Run a scenario against both venues: `run(scenario, markets=2, ...)`; books are empty and the flow stands still unless asked."""

    def runner(scenario: Callable[[Venues], Any], **settings: Any) -> None:
        async def play() -> None:
            world = World(
                SimulateSettings(
                    **{
                        "markets": 4,
                        "inverted_share": 0,
                        "neg_risk_share": 0,
                        "flow": False,
                        "quote_at_start": False,
                        "edges_per_s": 0,
                        "credentials_file": credentials_file,
                        "links_file": tmp_path / "links.json",
                        "truth_dir": tmp_path / "truth",
                        "mined_after_ms": 50,
                        "confirmed_after_ms": 100,
                        **settings,
                    }
                )
            )
            ready = await world.start()
            try:
                async with aiohttp.ClientSession() as session:
                    await scenario(Venues(world, ready, session))
            finally:
                await world.stop()

        asyncio.run(play())

    return runner
