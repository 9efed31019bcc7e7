"""`crossbook paper`: trade on a running run's live books without a cent: paper venues, gateways and decide workers of a run of its own.

Reads one run (`live`) and writes another (`paper`). Configuration is that of the run it reads, or an operator's file; orders go over
loopback to `python -m simulate paper`, never to a venue. The run it reads is given nothing.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from core.domain.errors import Misconfigured, Unavailable
from core.domain.units import MICRO

if TYPE_CHECKING:  # what needs a Kafka client is imported when the command runs
    from core.runtime.flow import Output
    from infra.cli.reach import Reach
    from infra.demo.cast import Part
    from infra.stack.processes import Processes

VENUES_NAME = "paper-venues"
READY_TIMEOUT_S = 60.0
POLL_S = 0.1
LOOK_S = 5.0
SETTLE_S = 2.5
"""Settlement of what was matched takes about a second."""
SETTLE_MAX_S = 30.0
EXIT_DIFFERS = 1

console = Console()


@dataclass(frozen=True)
class PaperOptions:
    """What can be set about a paper run."""

    reads: str = "live"
    seconds: float = 0.0
    """0: until Ctrl-C"""
    desk: Path | None = None
    """operator's file; None: the configuration of the run it reads"""
    cash_usd: int = 10_000
    latency_ms: int = 50
    report: Path | None = None
    records: bool = True
    """whether QuestDB and PostgreSQL get the run's records"""


def register(app: typer.Typer) -> None:
    """Add the command to `crossbook`."""
    app.command("paper")(paper)


def paper(
    run: Annotated[str, typer.Option("--run", "-r", help="Run that is written: paper or paper-<id>.")] = "paper",
    reads: Annotated[str, typer.Option("--reads", help="Run whose books are traded on; it must be running.")] = "live",
    seconds: Annotated[float, typer.Option("--seconds", "-s", min=0, help="0: until Ctrl-C.")] = 0.0,
    desk: Annotated[
        Path | None,
        typer.Option("--desk", exists=True, dir_okay=False, help="Operator's file. Default: what --reads is told."),
    ] = None,
    cash: Annotated[int, typer.Option("--cash", min=1, help="Dollars in each account at the start.")] = 10_000,
    latency_ms: Annotated[
        int, typer.Option("--latency-ms", min=0, max=5_000, help="To a real venue and back, for resting orders.")
    ] = 50,
    report: Annotated[Path | None, typer.Option("--report", dir_okay=False, help="Where the figures go.")] = None,
    records: Annotated[bool, typer.Option(help="Write the run's records to QuestDB and PostgreSQL.")] = True,
) -> None:
    """Trade on paper on a running live run; at the end compare the ledger with the paper venues' accounts.

    The run is begun anew: records of an earlier paper run of this name are deleted. Ends with exit code 1 if an account differs.
    """
    from infra.cli.reach import Reach

    if not (run == "paper" or run.startswith(("paper-", "test-"))):
        raise Misconfigured(f"--run {run!r}: paper trading writes a run named paper or paper-<id>")
    if reads == run:
        raise Misconfigured(f"--reads {reads!r} is the run that is written: name the one that follows the venues")
    options = PaperOptions(reads, seconds, desk, cash, latency_ms, report, records)
    raise typer.Exit(PaperRun(Reach.load(run).require_kafka(), options).play())


class PaperRun:
    """One paper run: its venues, its workers, its end."""

    def __init__(self, reach: Reach, options: PaperOptions) -> None:
        """Prepare.

        Raises:
            Misconfigured: the run it is to read does not exist.
            Unavailable: Kafka does not answer.
        """
        from core.runtime.admin import find_run
        from core.runtime.clock import SystemClock
        from infra.demo.venues import Venues
        from infra.stack.processes import Processes

        self._clock = SystemClock()
        source = find_run(reach.bootstrap, reach.codec, options.reads, self._clock)
        if source is None:
            raise Misconfigured(
                f"run {options.reads} has no incarnation: is it running? `crossbook up --run {options.reads}`"
            )
        # Both runs share partitions: a strategy's log is that of the books it reads.
        self.reach = replace(reach, partitions=source.partitions)
        self.options = options
        self.processes: Processes = Processes(reach.stack.data, reach.run)
        self.venues = Venues(VENUES_NAME, self.processes, reach.stack.data / "simulate" / reach.run)

    def play(self) -> int:
        """Start, trade, settle and compare; return the exit code."""
        from infra.demo.play import Interrupted, interruptible

        with interruptible():
            try:
                self.start()
                with contextlib.suppress(Interrupted):
                    self._watch()
                report = self.finish()
            except Interrupted:
                console.print("stopped; nothing was compared")
                return 130
            finally:
                self.processes.stop_all()
        if self.options.report is not None:
            self.options.report.parent.mkdir(parents=True, exist_ok=True)
            self.options.report.write_text(json.dumps(report, indent=2) + "\n")
        for difference in report["differences"]:
            console.print(f"  {difference}", highlight=False, soft_wrap=True)
        console.print(f"accounts {'match' if report['accounts_match'] else 'DO NOT MATCH'} the paper venues' own")
        return 0 if report["accounts_match"] else EXIT_DIFFERS

    # ------------------------------------------------------------------ start
    def start(self) -> None:
        """Make the run, start the paper venues, configure, start the workers.

        Raises:
            CrossbookError: something does not start; its message says what to look at.
        """
        from core.runtime.admin import create_run, delete_run
        from infra.demo import cast

        reach = self.reach
        self.processes.stop_all()  # of a paper run that was killed
        delete_run(reach.bootstrap, reach.run)
        create_run(
            bootstrap=reach.bootstrap,
            registry_url=reach.registry_url,
            run=reach.run,
            partitions=reach.partitions,
            replication=reach.replication,
        )
        self.processes.start_arbiter()
        self._start_venues()
        records = list(self._configuration())
        if not records:
            console.print(f"run {self.options.reads} is told nothing: nothing will trade until a desk is (--desk)")
        reach.publish(records, self._clock)
        traders, sinks = self.parts()
        cast.start(reach, self.processes, traders, self.environment())
        # Sinks write down what this run says: to them it is a run like any other.
        self._add_sinks(sinks)
        cast.wait_ready(reach, self.processes, [*traders, *sinks], READY_TIMEOUT_S)
        console.print(
            f"run {reach.run} trades on paper on {self.options.reads}: {len(traders)} workers, "
            f"{self.options.cash_usd} dollars an account; paper venues at {self.venues.facts['sim_url']}/sim/paper",
            highlight=False,
            soft_wrap=True,
        )

    def parts(self) -> tuple[list[Part], list[Part]]:
        """Return the workers that trade, and the sinks of the run."""
        from infra.demo import cast

        chosen = cast.parts()
        traders = [part for part in chosen if part.command[0] in ("execute", "decide")]
        sinks = [part for part in chosen if part.command[0] == "observe"] if self.options.records else []
        if sinks and self.reach.stack.postgres:
            sinks.append(cast.DESK)
        return traders, sinks

    def environment(self) -> dict[str, str]:
        """Return the settings of the workers that trade: one run is read, another is written, no venue is real."""
        from infra.demo import cast

        return {
            **self.reach.environment(),
            "CROSSBOOK_READ_RUN": self.options.reads,
            "CROSSBOOK_WRITE_RUN": self.reach.run,
            "CROSSBOOK_ARM": "",
            "CROSSBOOK_WORKER_DIR": str(cast.worker_dir(self.reach)),
            "CROSSBOOK_KALSHI_ENVIRONMENT": "simulated",
            "CROSSBOOK_POLYMARKET_ENVIRONMENT": "simulated",
            "CROSSBOOK_KALSHI_SIMULATED": self.venues.address("kalshi", "rest_url"),
            "CROSSBOOK_POLYMARKET_SIMULATED": self.venues.address("polymarket", "clob_url"),
            "CROSSBOOK_SIM_CREDENTIALS_FILE": str(self.venues.folder / "credentials.json"),
        }

    def _add_sinks(self, sinks: list[Part]) -> None:
        from infra.demo import cast
        from infra.stack.processes import python_command

        settings = {**self.reach.environment(), "CROSSBOOK_WORKER_DIR": str(cast.worker_dir(self.reach))}
        settings |= {"CROSSBOOK_READ_RUN": "", "CROSSBOOK_WRITE_RUN": ""}
        for part in sinks:
            program, arguments = python_command(*part.command)
            self.processes.add(part.name, program, arguments, settings)

    def _start_venues(self) -> None:
        settings = {
            **self.reach.environment(),
            "CROSSBOOK_READ_RUN": self.options.reads,
            "CROSSBOOK_WRITE_RUN": self.reach.run,
            "CROSSBOOK_ARM": "",
            "CROSSBOOK_PAPER_FOLDER": str(self.venues.folder),
            "CROSSBOOK_PAPER_CASH_USD": str(self.options.cash_usd),
            "CROSSBOOK_PAPER_LATENCY_MS": str(self.options.latency_ms),
        }
        self.venues.launch("paper", settings=settings, timeout_s=READY_TIMEOUT_S)

    def _configuration(self) -> list[Output]:
        """Return what the run is told: an operator's file, or what the run it reads is told.

        Raises:
            Misconfigured: the file contradicts itself.
        """
        from core.runtime import topics
        from core.runtime.flow import Output
        from decide import operator
        from infra.demo import scan
        from schemas.decision import Budget, Limit, Link, Profile, Strategy

        desk = self.options.desk
        if desk is not None:
            text = desk.read_text(encoding="utf-8")
            return list(operator.records(operator.read(text, where=str(desk)), now_ns=self._clock.now_ns()))
        told = (
            topics.DECISION_STRATEGY,
            topics.DECISION_LINK,
            topics.DECISION_LIMIT,
            topics.DECISION_PROFILE,
        )
        by_noun = {topic.noun: topic for topic in told}
        newest: dict[tuple[str, str], Output] = {}
        for found in scan.records(replace(self.reach, run=self.options.reads), told):
            # Commands and rulings are about that run's own orders.
            if isinstance(found.record, Strategy | Link | Limit | Budget | Profile):
                key = (found.message.key() or b"").decode()
                newest[found.noun, key] = Output(by_noun[found.noun], key, found.record)
        return list(newest.values())

    # ------------------------------------------------------------------ while it runs
    def _watch(self) -> None:
        began = time.monotonic()
        told = -LOOK_S
        while not self.options.seconds or time.monotonic() - began < self.options.seconds:
            if not self.venues.are_alive():
                raise Unavailable(f"the paper venues ended: look at {self.processes.log(VENUES_NAME)}")
            if time.monotonic() - told >= LOOK_S:
                told = time.monotonic()
                with contextlib.suppress(Unavailable):  # slow for once: the next look says it
                    self._tell()
            time.sleep(min(LOOK_S, 0.5))

    def _tell(self) -> None:
        figures, accounts = self.venues.call("paper"), self.venues.call("accounts")
        fills = sum(n for what, n in figures["counts"].items() if what.startswith("fills_"))
        parts = [f"{figures['open']} of {figures['markets']} markets open, {fills} fills"]
        for venue, states in accounts.items():
            state = states[0]
            gain = (state["cash_e6"] - state["cash_start_e6"]) / MICRO
            parts.append(
                f"{venue} {state['orders']} orders, {len(state['open_orders'])} open, cash {gain:+.2f} dollars"
            )
        console.print("; ".join(parts), highlight=False, soft_wrap=True)

    # ------------------------------------------------------------------ the end
    def finish(self) -> dict[str, Any]:
        """Stop deciding, let what is open end, stop the workers, and return how ledger and venues compare.

        Raises:
            Unavailable: Kafka or the paper venues do not answer.
        """
        console.print("stopping: no new intents, then what is open ends")
        self.processes.stop("strategies")
        deadline = time.monotonic() + SETTLE_MAX_S
        while self._open_orders() and time.monotonic() < deadline:
            time.sleep(POLL_S)
        time.sleep(SETTLE_S)
        traders, _ = self.parts()
        for part in traders:
            if part.command[0] == "execute":
                self.processes.stop(part.name)
        self.processes.stop("accounts")
        self._drain_sinks()
        return self.compare()

    def _drain_sinks(self) -> None:
        """Let QuestDB and PostgreSQL take in what was written, for as long as that is bounded; what is left is said."""
        from core.runtime.admin import find_run
        from infra.demo import cast, desk, scan
        from observe.stage import GROUP, sunk_topics

        _, sinks = self.parts()
        if not sinks:
            return
        run = find_run(self.reach.bootstrap, self.reach.codec, self.reach.run, self._clock)
        sunk = sunk_topics(("decision", "order"))

        def left() -> int:
            rows = scan.left(self.reach, GROUP, sunk)
            return rows + (desk.left(self.reach, run.incarnation) if run is not None and cast.DESK in sinks else 0)

        deadline = time.monotonic() + SETTLE_MAX_S
        while (unread := left()) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        if unread:
            console.print(
                f"{unread} records are not in QuestDB or PostgreSQL yet: they are read when a sink runs again"
            )

    def _open_orders(self) -> int:
        return sum(len(state["open_orders"]) for states in self.venues.call("accounts").values() for state in states)

    def compare(self) -> dict[str, Any]:
        """Return orders, accounts and what differs between the ledger and the paper venues' accounts.

        Raises:
            Unavailable: Kafka or the paper venues do not answer.
        """
        from core.runtime import topics
        from infra.demo import scan, trades
        from infra.demo.cast import ACCOUNT
        from schemas.market import Instrument

        tokens: dict[str, tuple[str, str]] = {}
        for found in scan.records(replace(self.reach, run=self.options.reads), [topics.MARKET_INSTRUMENT]):
            if isinstance(found.record, Instrument):
                for token, outcome in zip(found.record.tokens, ("YES", "NO"), strict=False):
                    tokens[token] = (found.record.instrument, outcome)
        ours = trades.Ours()
        for found in scan.records(
            self.reach, [topics.DECISION_ORDER, topics.DECISION_LEDGER, topics.ORDER_EVENT, topics.ORDER_FRAME]
        ):
            ours.add(found.record)
        accounts = self.venues.call("accounts")
        differences = [*trades.compare_accounts(ours, accounts, ACCOUNT, tokens), *still_open(accounts)]
        return {
            "run": self.reach.run,
            "reads": self.options.reads,
            "orders": ours.orders(),
            "accounts": accounts,
            "accounts_match": not differences,
            "differences": differences,
            "paper": self.venues.call("paper"),
        }


def still_open(accounts: dict[str, Any]) -> list[str]:
    """Return the orders that did not end, though nobody wants them any more.

    Args:
        accounts: the answer of `/sim/accounts`.
    """
    return [
        f"{venue}:{state['account']} order {order.get('client_order_id') or order['order_id']}: still open, "
        f"{order['remaining_e6']} left"
        for venue, states in accounts.items()
        for state in states
        for order in state["open_orders"]
    ]
