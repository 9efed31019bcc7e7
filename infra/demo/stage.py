"""The demo from the first server to the last figure."""

import contextlib
import json
import time
from collections import Counter
from typing import Any

import psutil
from rich.console import Console

from core.domain.errors import Misconfigured
from infra.chaos import plan
from infra.chaos.hands import Hands
from infra.cli.reach import Reach
from infra.demo import desk
from infra.demo.ending import RUN_S_MIN, Ending
from infra.demo.options import Options
from infra.demo.play import LOOK_S, Interrupted, Play, interruptible, quiet
from infra.demo.verdict import Window, verdict
from infra.demo.view import View, save
from infra.stack.processes import Processes
from infra.stack.stack import Stack

EXIT_FAILED = 1
IDLE_S = 120.0
"""In a measured time longer than this every strategy finds something to trade: an event's edge, the rarest of them, comes
every ten seconds. In a shorter one, of which kills may take the half, who sent nothing is only named."""
WRONG = ("lost", "duplicated", "reservations_leaked", "orders_doubled", "budgets_exceeded", "stops")
"""Counts of the report that must be 0."""


def is_good(report: dict[str, Any]) -> bool:
    """Say whether a report says that everything went as it must."""
    equal = report["accounts_match"] and report.get("pnl_matches", True)
    all_trade = report["seconds"] <= IDLE_S or not report["idle_strategies"]
    detail = report["detail"]
    problems = detail["kill_problems"] or detail["ending_problems"]
    return equal and all_trade and not problems and not any(report[name] for name in WRONG)


class Demo(Play):
    """One demo."""

    def __init__(self, reach: Reach, options: Options, console: Console) -> None:
        """Prepare.

        Raises:
            Misconfigured: kills are asked for and no end is, or the end of a market in too short a run.
        """
        super().__init__(reach, options, console)
        if options.kills and not options.seconds:
            raise Misconfigured("kills are spread over the measured time: give --seconds too")
        if options.ending and options.seconds < RUN_S_MIN:
            raise Misconfigured(f"--ending shows nothing in a run of less than {RUN_S_MIN:.0f} s: give --seconds")
        self._ending = Ending(self._world, options.seconds if options.ending else 0.0)
        self._hands = Hands(self._processes, Processes(reach.stack.data), self._world)

    def run(self) -> int:
        """Run all of it; return 0 when nothing was lost or doubled and the accounts agree.

        Raises:
            CrossbookError: something does not start; its message names the remedy.
        """
        # Before the first file of ours is in it: a folder with foreign files is refused.
        Stack(self._reach.stack).claim()
        with interruptible(), quiet(self._reach.stack.logs / f"{self._reach.run}.demo.log"):
            try:
                with View(self._reach, self._console) as view:
                    run = self._start(view)
                    window = self._perform(view)
                    if self._options.screen is not None:
                        save(self._picture, self._reach, self._options.screen)
                    self._drain(view)
                view.say("checking: the venues' truth against QuestDB")
                report = verdict(self._reach, run, self._world, window)
                problems = [f"{one.act.label}: {one.problem}" for one in self._hands.done if one.problem]
                if self._reach.stack.postgres:
                    report |= desk.verdict(self._reach, run.incarnation, self._world)
                report["kills"] = len(self._hands.done) - len(problems)
                report["detail"]["kills"] = dict(Counter(one.act.label for one in self._hands.done if not one.problem))
                report["detail"]["kill_problems"] = problems
                report["detail"]["ended"] = self._ending.instrument
                report["detail"]["ending_problems"] = self._ending.missing(report["detail"]["settled"])
            except Interrupted:
                self._console.print("stopped; nothing was checked")
                return 130
            finally:
                self._hands.close()
                self._tap.stop()
                self._processes.stop_all()
        self._tell(report)
        return 0 if is_good(report) else EXIT_FAILED

    def _environment(self) -> dict[str, str]:
        # What a market paid is read soon enough for the end of a short run.
        return {**super()._environment(), "CROSSBOOK_PAYOUT_INTERVAL_S": "3"}

    def _perform(self, view: View) -> Window:
        """Warm up, then run as long as asked; return the measured time."""
        options = self._options
        warm = time.monotonic() + options.warmup_s
        while time.monotonic() < warm:
            self._look(view, f"warming up, {max(warm - time.monotonic(), 0):.0f} s")
            time.sleep(LOOK_S)
        begin_ns = self._clock.now_ns()
        began = time.monotonic()
        waiting = plan.strikes(options.seed, options.seconds, options.kills) if options.kills else []
        with contextlib.suppress(Interrupted):  # Ctrl-C ends an endless demo with its figures
            while not options.seconds or time.monotonic() - began < options.seconds:
                left = (
                    f"{options.seconds - (time.monotonic() - began):.0f} s left" if options.seconds else "Ctrl-C ends"
                )
                while waiting and waiting[0].at_s <= time.monotonic() - began:
                    act = waiting.pop(0)
                    view.say(f"{act.at_s:6.1f} s  {act.kind} {act.target}")
                    self._hands.begin(act)
                if said := self._ending.turn(time.monotonic() - began):
                    view.say(f"{time.monotonic() - began:6.1f} s  {said}")
                self._look(view, f"running, {left}")
                time.sleep(LOOK_S)
            self._hands.wait()
            return Window(begin_ns, self._clock.now_ns())
        if options.seconds:
            raise Interrupted
        return Window(begin_ns, self._clock.now_ns())

    # Telling

    def _tell(self, report: dict[str, Any]) -> None:
        options = self._options
        report["machine"] = {"cores": psutil.cpu_count(), "memory_gb": round(psutil.virtual_memory().total / 1e9)}
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(json.dumps(report, indent=2) + "\n")
        latency = report["socket_to_order_us"]
        say = self._console.print
        say(f"\n{report['rate_per_s']:,.0f} frames/s for {report['seconds']} s", highlight=False)
        for venue, counts in report["orders"].items():
            told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count)
            say(f"{venue}: {told}", highlight=False)
        say(
            f"socket to order p50 {latency['p50'] / 1e3:.1f} ms, p99 {latency['p99'] / 1e3:.1f} ms, "
            f"p99.9 {latency['p999'] / 1e3:.1f} ms ({latency['n']} orders)",
            highlight=False,
        )
        apart = report["legs_apart_us"]
        if apart["n"]:
            say(
                f"legs that left together p50 {apart['p50'] / 1e3:.1f} ms apart, p99 {apart['p99'] / 1e3:.1f} ms "
                f"({apart['n']} sagas)",
                highlight=False,
            )
        say(f"lost {report['lost']}, duplicated {report['duplicated']}", highlight=False)
        say(
            f"reservations leaked {report['reservations_leaked']}, orders doubled {report['orders_doubled']}, budgets "
            f"exceeded {report['budgets_exceeded']}, kills {report['kills']}",
            highlight=False,
        )
        for name, counts in report["orders_by_strategy"].items():
            say(f"{name}: {counts['sent']} sent, {counts['filled']} filled", highlight=False)
        if report["idle_strategies"]:
            verdict_of = (
                "which this run was long enough for" if report["seconds"] > IDLE_S else "in so short a run no fault"
            )
            say(f"sent no order: {', '.join(report['idle_strategies'])} ({verdict_of})", highlight=False)
        if report["stops"]:
            say(f"limits tripped or ledgers healed: {report['stops']}", highlight=False)
        for example in [
            *report["detail"]["budget_examples"],
            *report["detail"]["kill_problems"],
            *report["detail"]["ending_problems"],
        ]:
            say(f"  {example}", highlight=False, soft_wrap=True)
        say(f"accounts {'match' if report['accounts_match'] else 'DO NOT MATCH'} the venues' own", highlight=False)
        for difference in report["detail"]["account_differences"]:
            say(f"  {difference}", highlight=False, soft_wrap=True)
        say(
            f"report {options.report}\nlook next: http://{self._reach.questdb_http}, `crossbook topics`, "
            "`crossbook tail decision.saga`; the servers stay up until `crossbook down`",
            highlight=False,
            soft_wrap=True,
        )
