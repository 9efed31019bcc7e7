"""The commands of `crossbook`. Each is a few lines; what it does stands in a module of its own, imported when used."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from core.domain.errors import CrossbookError
from infra.cli import (
    EXIT_REFUSED,
    dead,
    export,
    flatten,
    jurisdiction,
    kill,
    ledger,
    limits,
    links,
    paper,
    pnl,
    sagas,
    tickets,
)

app = typer.Typer(
    name="crossbook",
    help="Stream venues into Kafka, derive, decide, execute. Start with `crossbook demo`.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
console = Console()
EXIT_INTERRUPTED = 130

Run = Annotated[
    str, typer.Option("--run", "-r", help="Run, the first word of every topic. Default: CROSSBOOK_RUN, demo.")
]


def run(arguments: list[str]) -> int:
    """Run one command and return the exit code."""
    try:
        app(args=arguments, prog_name="crossbook")
    except CrossbookError as e:
        print(f"crossbook: {e}", file=sys.stderr)
        return EXIT_REFUSED
    except SystemExit as e:  # typer ends every command with one
        return e.code if isinstance(e.code, int) else 0
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


@app.command()
def up(
    run: Run = "",
    brokers: Annotated[
        int, typer.Option("--brokers", help="Kafka nodes, 1 or 3. Default: as the data folder was made, else 1.")
    ] = 0,
) -> None:
    """Start Kafka, the schema registry and QuestDB, and make a run's topics. Safe to repeat."""
    from core.runtime.admin import create_run
    from infra.cli.reach import Reach
    from infra.stack.stack import Stack

    reach = Reach.load(run, brokers)
    stack = Stack(reach.stack)
    stack.up(reach.run)
    made = create_run(
        bootstrap=reach.bootstrap,
        registry_url=reach.registry_url,
        run=reach.run,
        partitions=reach.partitions,
        replication=reach.replication,
    )
    stack.show(console)
    console.print(f"run {reach.run}, incarnation {made.incarnation}; next: `crossbook demo`, `crossbook topics`")


@app.command()
def down() -> None:
    """Stop the workers of every run, then the servers. The data stays; `make dev-stack-reset` wipes it."""
    from infra.cli.reach import Reach
    from infra.stack.stack import Stack

    stopped = Stack(Reach.load().stack).down()
    console.print(f"stopped: {', '.join(stopped) or 'nothing ran'}")


@app.command()
def status(run: Run = "") -> None:
    """Show processes, lag of each consumer group in records and in time, books by state, endpoints."""
    from infra.cli.reach import Reach
    from infra.cli.status import show

    show(Reach.load(run), console)


topics_app = typer.Typer(
    help="List the topics of a run, or show one: `crossbook topics show market.event`.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)
app.add_typer(topics_app, name="topics")


@topics_app.callback()
def topics(context: typer.Context, run: Run = "") -> None:
    """List the topics of a run: record types, key, partitions, records, size, how long they are kept."""
    from infra.cli.reach import Reach
    from infra.cli.topics import show_all

    context.obj = run
    if context.invoked_subcommand is None:
        show_all(Reach.load(run).require_kafka(), console)


@topics_app.command("show")
def topics_show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The topic, with or without its run: market.event")],
    run: Run = "",
) -> None:
    """Show one topic: record types with their fields, partitions, sizes, settings."""
    from infra.cli.reach import Reach, topic_named
    from infra.cli.topics import show_one

    reach = Reach.load(run or context.obj or "").require_kafka()
    show_one(reach, topic_named(name, reach.run), console)


app.add_typer(dead.app, name="dead")
app.add_typer(links.app, name="links")
app.add_typer(jurisdiction.app, name="jurisdiction")
kill.register(app)
flatten.register(app)
limits.register(app)
ledger.register(app)
app.add_typer(sagas.app, name="sagas")
app.add_typer(tickets.app, name="tickets")
paper.register(app)
pnl.register(app)
export.register(app)


@app.command()
def tail(
    topic: Annotated[str, typer.Argument(help="The topic, with or without its run: market.event")],
    run: Run = "",
    key: Annotated[str, typer.Option("--key", "-k", help="Only this key, such as kalshi:KXSIMTEMP-26DEC01-T0.5.")] = "",
    kind: Annotated[str, typer.Option("--type", "-t", help="Only this record type, such as Quote.")] = "",
    start: Annotated[str, typer.Option("--from", help="beginning, end, -N for the last N, or a time (ISO, UTC).")] = "",
    count: Annotated[int, typer.Option("-n", min=0, help="Stop after this many records. 0: no limit.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more at the end.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print records of a topic, decoded. Without --from: the last 10, or what comes with --follow."""
    from infra.cli.reach import Reach, topic_named
    from infra.cli.tail import Tail, Wish, as_json, show

    reach = Reach.load(run).require_kafka()
    follow = follow or start == "end"
    wish = Wish(
        topic_named(topic, reach.run), start or ("end" if follow else f"-{count or 10}"), key, kind, count, follow
    )
    for message, name, record in Tail(reach, wish).records():
        if json:
            print(as_json(message, name, record), flush=follow)
        else:
            show(console, message, name, record)


@app.command()
def scale(
    stage: Annotated[str, typer.Argument(help="A stage or one of its workers: normalize, ingest-kalshi, …")],
    n: Annotated[int, typer.Argument(min=0, max=64, help="How many processes it is to have.")],
    run: Run = "",
) -> None:
    """Bring a stage of a running run to N processes; the work is shared out anew within seconds."""
    from infra.cli.reach import Reach
    from infra.cli.status import scale_workers

    console.print(scale_workers(Reach.load(run), stage, n))


@app.command()
def demo(
    run: Run = "",
    seconds: Annotated[
        float, typer.Option("--seconds", "-s", min=0, help="Measured time after the warm-up. 0: until Ctrl-C.")
    ] = 60.0,
    warmup: Annotated[float, typer.Option("--warmup", min=0, help="Seconds before measuring.")] = 8.0,
    markets: Annotated[int, typer.Option("--markets", min=1, max=2_000, help="Linked markets.")] = 100,
    rate: Annotated[int, typer.Option("--rate", min=1, max=20_000, help="Market data messages a second.")] = 1_000,
    edges: Annotated[float, typer.Option("--edges", min=0, help="Edges that appear in a second.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same markets.")] = 1,
    kills: Annotated[
        int,
        typer.Option(
            "--kills", min=0, max=200, help="Kill (-9) or freeze workers that decide and send so often, by the seed."
        ),
    ] = 0,
    ending: Annotated[
        bool, typer.Option("--ending", help="Let one market be determined and paid in the middle; of 30 s or more.")
    ] = False,
    drive: Annotated[
        Path | None, typer.Option("--drive", exists=True, dir_okay=False, help="Recorded top of book to follow.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", dir_okay=False, help="Where the figures go. Default: build/demo.json.")
    ] = None,
    screen: Annotated[
        Path | None, typer.Option("--screen", dir_okay=False, help="Keep the last live screen as an SVG picture.")
    ] = None,
) -> None:
    """Run everything against simulated venues, watch it live, and check every record at the end.

    Ends with exit code 1 if a record was lost or doubled, or an account differs from the venue's. Ctrl-C ends all
    processes it started.
    """
    from infra.cli.reach import Reach
    from infra.demo.options import Options
    from infra.demo.stage import Demo

    reach = Reach.load(run)
    options = Options(
        seconds=seconds,
        warmup_s=warmup,
        markets=markets,
        rate_per_s=rate,
        edges_per_s=edges,
        seed=seed,
        kills=kills,
        ending=ending,
        drive=drive.resolve() if drive else None,
        report=report.resolve() if report else Options.report,
        screen=screen.resolve() if screen else None,
        folder=reach.stack.data / "simulate" / reach.run,
    )
    raise typer.Exit(Demo(reach, options, console).run())


@app.command()
def chaos(
    run: Annotated[str, typer.Option("--run", "-r", help="Run, the first word of every topic.")] = "demo-chaos",
    seconds: Annotated[
        float, typer.Option("--seconds", "-s", min=5, help="Of faults, after the warm-up. 300 holds all of them.")
    ] = 300.0,
    seed: Annotated[int, typer.Option("--seed", help="Decides what is done when.")] = 1,
    then: Annotated[
        list[int] | None, typer.Option("--then", help="Another seed, whose plan follows in the same run; repeatable.")
    ] = None,
    pace: Annotated[
        float, typer.Option("--pace", min=0.1, max=10, help="2 does twice as much in the same time.")
    ] = 1.0,
    brokers: Annotated[int, typer.Option("--brokers", help="Kafka nodes, 1 or 3; of three each is killed.")] = 1,
    markets: Annotated[int, typer.Option("--markets", min=1, max=2_000, help="Linked markets.")] = 30,
    rate: Annotated[int, typer.Option("--rate", min=1, max=20_000, help="Market data messages a second.")] = 300,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=8, help="Processes of each stage that shares its work.")
    ] = 2,
    hash_every: Annotated[
        int,
        typer.Option(
            "--hash-every", min=1, max=1_000, help="derive compares one of so many stated hashes; shipped: 4."
        ),
    ] = 1,
    report: Annotated[
        Path | None, typer.Option("--report", dir_okay=False, help="Where the figures go. Default: build/chaos.json.")
    ] = None,
    own_stack: Annotated[
        bool, typer.Option(help="Servers of its own, wiped before and stopped after; else those of `crossbook up`.")
    ] = True,
) -> None:
    """Trade while faults are injected and processes die; then judge every book shown and every record kept.

    Ends with exit code 1 if a book marked LIVE was not the venue's, or a frame, order or fill is not kept exactly once.
    """
    from infra.chaos.options import ChaosOptions
    from infra.chaos.stage import run_chaos

    page = report.resolve().with_suffix(".html") if report else ChaosOptions.page
    options = ChaosOptions(
        seconds=seconds,
        markets=markets,
        rate_per_s=rate,
        seed=seed,
        then=tuple(then or ()),
        workers=workers,
        pace=pace,
        hash_every=hash_every,
        report=report.resolve() if report else ChaosOptions.report,
        page=page,
    )
    raise typer.Exit(run_chaos(run, options, brokers if own_stack else 0, console))


@app.command()
def replay(
    into: Annotated[str, typer.Option("--into", help="The new run, replay-<id>; it must hold no records yet.")],
    run: Run = "",
    stages: Annotated[
        str, typer.Option("--stages", help="Pure stages to replay, by comma.")
    ] = "normalize,derive,decide",
    speed: Annotated[str, typer.Option("--speed", help="max, or a multiple of the recorded pace such as 1.")] = "max",
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare with the source run; exit 1 if it differs.")
    ] = False,
) -> None:
    """Feed the pure stages a run's own logs and write what they say into a new run."""
    from infra.cli.reach import Reach
    from infra.cli.replay import replay_run

    equal = replay_run(Reach.load(run).require_kafka(), into, stages.split(","), speed, console, verify=verify)
    raise typer.Exit(0 if equal else 1)


@app.command()
def bench(
    names: Annotated[list[str] | None, typer.Argument(help="Which benchmarks; none: all.")] = None,
) -> None:
    """Measure, with machine, versions and peers (the same as `make bench`)."""
    import subprocess

    from infra.stack.settings import PROJECT

    raise typer.Exit(
        subprocess.run([sys.executable, "-m", "benchmarks", *(names or [])], cwd=PROJECT, check=False).returncode
    )
