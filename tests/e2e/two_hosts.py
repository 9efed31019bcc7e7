"""Two gateways on two hosts with Kafka between: what is done to them, told as one JSON object to the file it is given.

The first process of a lab (`hosts.py`): it starts Kafka, the registry and accounts, two hosts with a venue and a gateway
each, plays derive and the strategies through Kafka, pulls a cable, and judges nothing: `test_two_hosts.py` does.
"""

import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from core.runtime import topics
from core.runtime.admin import create_run, register_schemas
from core.runtime.clock import NS_PER_MS, NS_PER_S
from infra.cli.jurisdiction import signed
from infra.stack.temporary import TemporaryStack
from schemas.decision import Grant, Intent, Leg, Limit, Link, Profile, Saga
from tests.e2e.certificates import Authority, settings
from tests.e2e.hosts import HUB, PROJECT, Host, Venue, begin_memory, begin_network
from tests.e2e.venue import ASK_E4, DEAR_E4, new_world
from tests.execute.conftest import Bench, kalshi_instrument, polymarket_instrument
from tests.execute.test_process import PARTITIONS, KafkaLog

RUN = "test-two-hosts"
PLACES = {"us": ("kalshi", 18_801), "eu": ("polymarket", 18_802)}
CUT_S = 5.0
GRANT_EVERY_S = 0.5
CAUGHT = 6
"""Orders that are on their way when the cable is pulled."""
LIFE_MS = 5_000
READY_S = 60.0
E6 = 1_000_000
SIZE = 10 * E6
ATTEMPTS = 5
"""Of an entry, which lives for half a second from what caused it: this machine may be busy."""


class Scene:
    """The hosts, their venues and gateways, and the ends of the log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.story: dict = {"seconds": {}}
        self._began_s = time.monotonic()
        self._quoting: list[asyncio.Task] = []

    def note(self, what: str) -> None:
        self.story["seconds"][what] = round(time.monotonic() - self._began_s, 2)

    async def begin(self) -> None:
        """Start everything, and return when both gateways can trade."""
        begin_memory()
        begin_network()
        authority = Authority("Acme")
        tls = self.folder / "tls"
        tls.mkdir()
        (tls / "server.pem").write_bytes(b"".join(authority.issue("kafka", HUB)))
        authority.give(tls, "hub")
        os.environ.update(settings(tls))
        self.hosts = {name: Host(name, number, self.folder) for number, name in enumerate(PLACES, 1)}
        for name, host in self.hosts.items():
            authority.give(host.folder, name)
        self.venues = {name: Venue(self.hosts[name], *place) for name, place in PLACES.items()}
        self.stack = TemporaryStack(("kafka", "registry"), host=HUB, tls=tls)
        await asyncio.to_thread(self.stack.__enter__)
        self.note("servers answer")
        await asyncio.to_thread(register_schemas, self.stack.registry_url)
        where = {"bootstrap": self.stack.bootstrap, "registry_url": self.stack.registry_url}
        await asyncio.to_thread(lambda: create_run(run=RUN, partitions=PARTITIONS, **where))
        self.note("run made")
        for venue in self.venues.values():
            await asyncio.to_thread(venue.wait)
        self.gateways = {name: self.gateway(name, f"{venue}:main") for name, (venue, _) in PLACES.items()}
        self.log = KafkaLog(self.stack, RUN, topics.DECISION_SAGA, topics.DECISION_ORDER)
        self.accounts = self._begin_accounts()
        world = new_world(self.folder)
        self.benches = {name: Bench(venue, world, {}, self.log) for name, (venue, _) in PLACES.items()}
        self._open = contextlib.AsyncExitStack()
        numbers = itertools.count(1)
        for bench in self.benches.values():
            bench.life_ms = LIFE_MS
            bench._numbers = numbers
            bench.beats = False  # accounts beat
            await self._open.enter_async_context(bench)
        self._configure(world)
        self._quoting = [asyncio.create_task(self._quote(bench)) for bench in self.benches.values()]
        await self.ready(*PLACES)
        self.note("gateways ready")

    def _begin_accounts(self) -> subprocess.Popen:
        where = {"CROSSBOOK_RUN": RUN, "CROSSBOOK_BOOTSTRAP": self.stack.bootstrap}
        env = {**os.environ, **where, "CROSSBOOK_REGISTRY_URL": self.stack.registry_url}
        with (self.folder / "accounts.log").open("w") as log:
            command = [sys.executable, "-m", "decide", "accounts"]
            return subprocess.Popen(command, cwd=PROJECT, env=env, stdout=log, stderr=log)

    def _configure(self, world) -> None:
        """Say what a human would: accounts, limits, and a pair of markets that pay by one event."""
        for venue, _ in PLACES.values():
            profile = Profile(id=f"{venue}:main", venue=venue, account_set="main", entity="Acme", currency="USD")
            self.log.append(topics.DECISION_PROFILE, profile.id, profile)
        for host, (venue, _) in PLACES.items():
            record = signed("Acme", venue, "*", "allowed", "counsel", "memo 7", "", 1, regions=[host])
            self.log.append(topics.DECISION_JURISDICTION, record.id, record)
        limit = Limit(
            id="main",
            state="RUNNING",
            order_notional_max_e6=500 * E6,
            market_notional_max_e6=5_000 * E6,
            open_sagas_max=10,
            unwind_budget_e6=10 * E6,
            set_by="a human",
            reason="test",
        )
        self.log.append(topics.DECISION_LIMIT, limit.id, limit)
        self.pair = {
            "kalshi": kalshi_instrument(world.kalshi.exchange.markets[1]),
            "polymarket": polymarket_instrument(world.clob.exchange.markets[1]),
        }
        for instrument in self.pair.values():
            self.log.append(topics.MARKET_INSTRUMENT, instrument.instrument, instrument)
        link = Link(
            id="pair",
            version=1,
            status="APPROVED",
            instrument_a=self.pair["kalshi"].instrument,
            instrument_b=self.pair["polymarket"].instrument,
            polarity="SAME",
            states=["yes", "no"],
            payout_a_e6=[E6, 0],
            payout_b_e6=[E6, 0],
            approved_by="a human",
            approved_ts_ns=1,
        )
        self.log.append(topics.DECISION_LINK, link.id, link)

    def leg(self, instrument: str, side: str, price: int, **changes) -> Leg:
        """Return a leg of ten contracts, as a strategy that saw the book just now would name it."""
        fields = dict(
            instrument=instrument,
            account=f"{instrument.partition(':')[0]}:main",
            side=side,
            price=price,
            size=SIZE,
            price_exp=-4,
            size_exp=-6,
            fee_max_e6=E6,
            # Each its own book record: what the one before it took is there again.
            version_offset=next(self.benches["us"]._numbers),
            version_index=0,
            recv_ts_ns=self.benches["us"].clock.now_ns(),
            level_prices=[price],
            level_sizes=[SIZE],
        )
        return Leg(**(fields | changes))

    async def intend(self, link: str, *legs: Leg, until: Callable[[Saga], bool]) -> Saga:
        """Let a strategy want something; returns the first word of its saga that is one of those waited for."""
        clock, number = self.benches["us"].clock, next(self.benches["us"]._numbers)
        now = clock.now_ns()
        intent = Intent(
            id=f"intent{number:012d}",
            strategy=f"strategy-{number}",
            link=link,
            account_set="main",
            now_ns=now,
            legs=list(legs),
            profit_e6=E6 if len(legs) > 1 else 0,
            input_partition=0,
            input_offset=number,
            recv_ts_ns=now,
        )
        self.log.append(topics.DECISION_ACCOUNT, "main", intent)

        def found() -> Saga | None:
            sagas = [saga for saga in self.log.read(topics.DECISION_SAGA) if isinstance(saga, Saga)]
            return next((saga for saga in sagas if saga.id == intent.id and until(saga)), None)

        return await self.benches["us"].until(found, f"a saga of {intent}", 15)

    def granted(self, intent: str) -> list[str]:
        """Return the orders accounts granted for an intent."""
        found = [record for record in self.log.read(topics.DECISION_ORDER) if isinstance(record, Grant)]
        return list(dict.fromkeys(grant.id for grant in found if grant.intent == intent))

    def gateway(self, host: str, account: str, log: str = "", **changes: str) -> subprocess.Popen:
        """Start a gateway on a host, with what that host is told and no more."""
        venue = PLACES[host][0]
        env = {
            "CROSSBOOK_RUN": RUN,
            "CROSSBOOK_BOOTSTRAP": self.stack.bootstrap,
            "CROSSBOOK_REGISTRY_URL": self.stack.registry_url,
            f"CROSSBOOK_{venue.upper()}_SIMULATED": self.venues[host].address,
            "CROSSBOOK_SIM_CREDENTIALS_FILE": self.venues[host].keys,
            "CROSSBOOK_ALIVE_INTERVAL_S": "0.1",
            "CROSSBOOK_KALSHI_TIER": "advanced",
        }
        env |= {"CROSSBOOK_REGION": host, **settings(self.folder)} | changes
        log = log or f"execute-{account.replace(':', '-')}"
        return self.hosts[host].open([sys.executable, "-m", "execute", "--account", account], log, env)

    async def ready(self, *hosts: str, since_ns: int = 0) -> None:
        """Return when the gateways of these hosts say that they can trade."""
        for host in hosts:
            bench = self.benches[host]

            def is_ready(bench: Bench = bench) -> bool:
                last = [alive for alive in bench.alive() if alive.account == bench.account and alive.ts_ns > since_ns]
                return bool(last) and last[-1].ready

            await bench.until(is_ready, f"{host} ready", READY_S)
        # Their quotes start at the end of derived.book.
        await asyncio.sleep(0.5)

    async def filled(self, host: str) -> str:
        """Let a small order be filled there; returns its id."""
        bench = self.benches[host]
        grant = bench.grant(time_in_force="IOC")
        await bench.terminal(grant.id, timeout_s=10)
        await bench.until(lambda: sum(fill.size for fill in bench.fills(grant.id)) == grant.size, timeout_s=5)
        return grant.id

    async def resting(self, host: str) -> str:
        """Let an order rest there; returns its id."""
        bench = self.benches[host]
        grant = bench.grant(time_in_force="GTC", price=4_400)
        await bench.until(lambda: "ACCEPTED" in bench.statuses(grant.id), timeout_s=10)
        return grant.id

    def tell(self, order: str) -> dict:
        """Return what the log says of an order."""
        bench = self.benches["us"]
        return {
            "statuses": bench.statuses(order),
            "reasons": [update.reason for update in bench.updates(order)],
            "writers": sorted({record.writer for record in (*bench.submittings(order), *bench.updates(order))}),
            "submittings": len(bench.submittings(order)),
            "filled": sum(fill.size for fill in bench.fills(order)),
            "accounts": sorted({record.account for record in bench.events(order)}),
        }

    async def _quote(self, bench: Bench) -> None:
        while True:
            bench.quote()
            pair = self.pair[bench.name].instrument
            bid, ask = (DEAR_E4, DEAR_E4 + 100) if bench.name == "kalshi" else (ASK_E4 - 100, ASK_E4)
            bench.quote(instrument=pair, bid_price=bid, ask_price=ask)
            await asyncio.sleep(0.25)


async def tell(folder: Path) -> dict:
    """Play it all and return what happened."""
    scene = Scene(folder)
    await scene.begin()
    story, hosts, venues, benches = scene.story, scene.hosts, scene.venues, scene.benches

    story["filled"] = {name: [await scene.filled(name) for _ in range(2)] for name in PLACES}
    story["resting"] = {name: await scene.resting(name) for name in PLACES}
    story["open"] = {name: venue.open_orders() for name, venue in venues.items()}
    scene.note("traded")

    kalshi, polymarket = (port for _, port in PLACES.values())
    story["reaches"] = {
        "us": await asyncio.to_thread(
            hosts["us"].reaches,
            *(scene.stack.bootstrap, f"127.0.0.1:{kalshi}"),
            *(f"127.0.0.1:{polymarket}", f"{hosts['eu'].address}:{polymarket}", f"{HUB}:{polymarket}"),
        ),
        "eu": await asyncio.to_thread(
            hosts["eu"].reaches,
            *(scene.stack.bootstrap, f"127.0.0.1:{polymarket}"),
            *(f"127.0.0.1:{kalshi}", f"{hosts['us'].address}:{kalshi}", f"{HUB}:{kalshi}"),
        ),
    }
    story["files"] = {name: sorted(path.name for path in host.folder.iterdir()) for name, host in hosts.items()}
    story["keys"] = {name: sorted(json.loads((host.folder / "keys.json").read_text())) for name, host in hosts.items()}
    scene.note("looked around")

    await misplace(scene)
    await cut(scene)
    story["after"] = {name: await scene.filled(name) for name in PLACES}
    scene.note("traded again")

    await both(scene)
    await halt(scene)

    told = [*story["filled"]["us"], *story["filled"]["eu"], *story["resting"].values(), *story["after"].values()]
    told += [*story["meanwhile"], story["late"], *story["caught"]]
    told += [order for intent in story["intents"] for order in scene.granted(intent)]
    story["orders"] = {order: scene.tell(order) for order in told}
    story["venues"] = {name: venue.says() for name, venue in venues.items()}
    story["granted"] = {intent: scene.granted(intent) for intent in story["intents"]}
    story["gateways"] = {name: process.poll() for name, process in scene.gateways.items()}
    story["writers"] = {
        name: sorted({alive.writer for alive in bench.alive() if alive.account == bench.account})
        for name, bench in benches.items()
    }
    return story


LOGS = {"no certificate": "stranger", "no keys": "execute-kalshi-main", "keys": "stray"}


async def misplace(scene: Scene) -> None:
    """Start on eu what is to be traded from us: without its keys, and with them."""
    story, eu = scene.story, scene.hosts["eu"]
    before = [record.writer for record in scene.benches["us"].alive()]
    story["misplaced"] = {}
    keys = json.loads((scene.hosts["us"].folder / "keys.json").read_text())
    (eu.folder / "stray.json").write_text(json.dumps(keys))
    foreign = eu.folder / "foreign"
    foreign.mkdir()
    Authority("Somebody").give(foreign, "eu")
    # It believes the right Kafka, which does not believe it.
    (foreign / "ca.pem").write_bytes((eu.folder / "ca.pem").read_bytes())
    strangers = settings(eu.home / "foreign") | {"CROSSBOOK_START_WAIT_S": "2"}
    found = {
        "no certificate": scene.gateway("eu", "polymarket:main", log="stranger", **strangers),
        "no keys": scene.gateway("eu", "kalshi:main"),
        "keys": scene.gateway(
            "eu", "kalshi:main", log="stray", CROSSBOOK_SIM_CREDENTIALS_FILE=str(eu.home / "stray.json")
        ),
    }
    for what, process in found.items():
        code = await asyncio.to_thread(process.wait, READY_S)
        words = eu.log(LOGS[what]).read_text()
        story["misplaced"][what] = {"code": code, "words": words}
    (eu.folder / "stray.json").unlink()
    story["misplaced"]["writers"] = sorted({r.writer for r in scene.benches["us"].alive()} - set(before))
    scene.note("misplaced account refused")


async def both(scene: Scene) -> None:
    """Let a strategy buy on one host what it sells dearer on the other."""
    story = scene.story
    kalshi, polymarket = (instrument.instrument for instrument in scene.pair.values())
    story["intents"], story["pairs"] = [], []
    for _ in range(ATTEMPTS):
        legs = (scene.leg(polymarket, "BUY", ASK_E4), scene.leg(kalshi, "SELL", DEAR_E4))
        saga = await scene.intend("pair", *legs, until=lambda saga: saga.state in {"DONE", "HOLDING", "REFUSED"})
        story["intents"].append(saga.id)
        story["pairs"].append({"state": saga.state, "reason": saga.reason, "standing": saga.standing_e6})
        if saga.state == "DONE" and any(saga.standing_e6):
            break
    scene.note("one intent on two hosts")


async def halt(scene: Scene) -> None:
    """Let orders rest on both hosts, and say `crossbook halt` on one of them."""
    story, venues = scene.story, scene.venues
    for bench in scene.benches.values():
        instrument = bench.instrument.instrument
        expires_s = bench.clock.now_ns() // NS_PER_S + 3_000
        for _ in range(ATTEMPTS):
            leg = scene.leg(instrument, "BUY", ASK_E4 - 200, rests=True, expires_s=expires_s)
            saga = await scene.intend(instrument, leg, until=lambda saga: saga.state in {"RESTING", "REFUSED", "DONE"})
            story["intents"].append(saga.id)
            if saga.state == "REFUSED":
                continue
            await bench.until(lambda saga=saga: scene.granted(saga.id), "granted")
            (order,) = scene.granted(saga.id)
            await bench.until(lambda order=order, bench=bench: bench.statuses(order), f"{order} spoken of", 10)
            if "ACCEPTED" in bench.statuses(order):
                break
    scene.benches["us"].cancel(story["resting"]["us"])
    await scene.benches["us"].terminal(story["resting"]["us"], timeout_s=15)
    story["halt"] = {"open_before": {name: venue.open_orders() for name, venue in venues.items()}}
    env = {"CROSSBOOK_BOOTSTRAP": scene.stack.bootstrap, "CROSSBOOK_REGISTRY_URL": scene.stack.registry_url}
    env |= settings(scene.folder)
    command = [sys.executable, "-m", "infra.cli", "halt", "--run", RUN, "--by", "tester", "--why", "drill"]
    process = scene.hosts["us"].open(command, "halt", env)
    said_s = time.monotonic()
    gone: dict[str, float] = {}
    while len(gone) < len(venues) and time.monotonic() - said_s < READY_S:
        for name, venue in venues.items():
            if name not in gone and not venue.open_orders():
                gone[name] = time.monotonic() - said_s
        await asyncio.sleep(0.02)
    story["halt"]["gone_after_s"] = gone
    story["halt"]["code"] = await asyncio.to_thread(process.wait, READY_S)
    kalshi = scene.benches["us"].instrument.instrument
    saga = await scene.intend(kalshi, scene.leg(kalshi, "BUY", ASK_E4), until=lambda saga: True)
    story["halt"]["afterwards"] = [saga.state, saga.reason]
    scene.note("halted")


async def cut(scene: Scene) -> None:
    """Pull the cable of eu for a while; us goes on."""
    story, bench, venue = scene.story, scene.benches["eu"], scene.venues["eu"]
    # Wherever the cut finds them: before Submitting, before it is read back, before the bytes, before the answer.
    story["caught"] = []
    for _ in range(CAUGHT):
        story["caught"].append(bench.grant(time_in_force="IOC").id)
        await asyncio.sleep(0.003)
    await asyncio.to_thread(scene.hosts["eu"].cut)
    cut_s, cut_ns = time.monotonic(), bench.clock.now_ns()
    story["late"] = bench.grant(send_by_ns=cut_ns + 1_500 * NS_PER_MS).id
    story["meanwhile"], gone_s = [], None
    while time.monotonic() - cut_s < CUT_S:
        story["meanwhile"].append(await scene.filled("us"))
        if gone_s is None and not venue.open_orders():
            gone_s = time.monotonic() - cut_s
        await asyncio.sleep(GRANT_EVERY_S)
    polymarket = bench.instrument.instrument
    saga = await scene.intend(polymarket, scene.leg(polymarket, "BUY", ASK_E4), until=lambda saga: True)
    story["cut"] = {
        "intent": [saga.state, saga.reason],
        "resting_gone_after_s": gone_s,
        "arrived_after_s": [(ts_ns - cut_ns) / NS_PER_S for _, ts_ns in venue.says()["arrived"] if ts_ns > cut_ns],
        "open_at_us": scene.venues["us"].open_orders(),
        "statuses_heard": bench.statuses(story["resting"]["eu"]),
    }
    mended_s, mended_ns = time.monotonic(), bench.clock.now_ns()
    scene.hosts["eu"].mend()
    await scene.ready("eu", since_ns=mended_ns)
    story["cut"]["ready_after_s"] = time.monotonic() - mended_s
    await bench.until(lambda: "CANCELLED" in bench.statuses(story["resting"]["eu"]), timeout_s=15)
    for order in (story["late"], *story["caught"]):
        await bench.terminal(order, timeout_s=15)
    scene.note("mended")


def die_with_input() -> None:
    """End when whoever started us is gone; the kernel kills all else."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=die_with_input, daemon=True).start()
    where = Path(sys.argv[1])
    told = uvloop.run(tell(where))
    (where / "story.json").write_text(json.dumps(told, indent=1))
    os._exit(0)
