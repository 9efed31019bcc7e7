"""What accounts write of every kind of entry stands in PostgreSQL, keeps each account equal to its venue, and is no profit."""

import pytest

from core.domain.units import MICRO
from core.runtime import topics
from decide.postings import ENTERED
from observe.accounts import account_lines
from observe.months import SHEETS, month_of
from observe.performance import fold, trades
from observe.postgres import moment
from schemas import decision, order
from tests.decide.conftest import KALSHI, ONE, POLY, SECOND, START_NS, Accounts, limit
from tests.observe.desk_records import INCARNATION, TOPIC, Writer

pytestmark = pytest.mark.broker

KALSHI_ACCOUNT, POLY_ACCOUNT = "kalshi:main", "polymarket:main"
CASH = 1_000 * ONE
KINDS = sorted(ENTERED)
WRITTEN = (
    order.VenueReport,
    order.Fill,
    order.Settled,
    decision.Posting,
    decision.Entry,
    decision.Intent,
    decision.Grant,
)


@pytest.fixture
def written(database, monkeypatch):
    """Let accounts trade a little and write what they read and wrote; return the writer and the log."""
    monkeypatch.setitem(TOPIC, decision.Posting, topics.DECISION_LIMIT)

    def made(*, entered):
        log = Accounts().start(cash=CASH, limits=limit(heal_max_e6=0))
        log.clock(1_000)
        make_trades(log)
        cash = {KALSHI_ACCOUNT: CASH - 4 * ONE, POLY_ACCOUNT: CASH - 4 * ONE}
        held = {KALSHI_ACCOUNT: [(KALSHI, "YES", 10 * ONE)], POLY_ACCOUNT: [(POLY, "YES", 10 * ONE)]}
        if entered:
            cash = {name: amount + enter_all(log, name) for name, amount in cash.items()}
            split(log)
            cash[POLY_ACCOUNT] -= 5 * ONE
            held[POLY_ACCOUNT] = [(POLY, "YES", 15 * ONE), (POLY, "NO", 5 * ONE)]
        for _ in range(3):
            log.clock(1_000)
            for account, amount in cash.items():
                log.report(account, amount, held[account])
        assert not log.task._sets["main"].risk.stopped
        writer = Writer(database, INCARNATION + entered, run=f"demo{entered}")
        follows = {}
        for output in log.outputs:
            follows.setdefault(getattr(output.record, "log_offset", None), []).append(output.record)
        grants = [output.record for output in log.outputs if isinstance(output.record, decision.Grant)]
        records = [*grants]
        for offset, item in enumerate(log.items):
            records += [item.record, *(one for one in follows.get(offset, ()) if isinstance(one, decision.Entry))]
        writer.write(*(record for record in records if isinstance(record, WRITTEN)))
        return writer, log

    return made


def make_trades(log):
    from types import SimpleNamespace

    import msgspec

    from tests.decide.conftest import intent, leg
    from tests.decide.test_reconciliation import hold

    make = SimpleNamespace(leg=leg, intent=intent, replace=msgspec.structs.replace)
    hold(make, log, KALSHI, number=1)
    log.settle(hold(make, log, POLY, number=2), "hold-2")


def posting(log, kind, account, number, **changes):
    fields = dict(
        id=f"posting|{account}|{number}", account_set="main", account=account, kind=kind, outcome="NONE", set_by="ann",
        approved_by="bob", reason="as the statement says", at_ns=log.now_ns, ts_ns=log.now_ns,
    )  # fmt: skip
    log.feed(decision.Posting(**{**fields, **changes}))


def enter_all(log, account):
    """Enter one of each kind, some in, some out; return what they come to."""
    moved = 0
    for number, kind in enumerate(KINDS):
        cash = (number + 1) * ONE * (-1 if kind in {"WITHDRAWAL", "FEE", "GAS", "ROUNDING"} else 1)
        posting(log, kind, account, number, cash_e6=cash)
        moved += cash
    return moved


def split(log):
    """Turn five dollars into five pairs of tokens."""
    one = dict(instrument=POLY, size=5 * ONE)
    posting(log, "CONVERSION", POLY_ACCOUNT, "yes", outcome="YES", cash_e6=-5 * ONE, **one)
    posting(log, "CONVERSION", POLY_ACCOUNT, "no", outcome="NO", **one)


def profits(writer):
    book = fold(trades(writer.database, writer.incarnation, moment(START_NS + 86_400 * SECOND)))
    return {key: (held.size_e6, held.cost_e6, held.realised_e6) for key, held in book.positions.items()}


def test_an_account_with_entries_of_every_kind_equals_its_venue_to_the_unit(written):
    writer, log = written(entered=True)
    lines = {line.account: line for line in account_lines(writer.database, writer.incarnation)}
    for account, line in lines.items():
        assert line.differences == []
        assert line.our_cash_e6 == line.venue_cash_e6 == log.task._sets["main"].ledgers[account].cash_e6
        # Opening cash is the report's; the entry that says so is not counted on top.
        assert line.opening_cash_e6 == CASH


def test_entries_are_no_profit_of_any_strategy(written):
    plain, _ = written(entered=False)
    entered, _ = written(entered=True)
    assert profits(plain) == profits(entered)
    assert {name for key in profits(entered) for name in key} >= {"s1", "s2"}


def test_the_months_books_list_every_kind_with_who_and_why(written):
    writer, log = written(entered=True)
    begin, end = month_of(moment(START_NS).strftime("%Y-%m"))
    (sheet,) = [one for one in SHEETS if one.name == "entries"]
    names = [name for name, _ in sheet.columns]
    rows = [dict(zip(names, row, strict=True)) for row in writer.database.rows(
        sheet.query, {"incarnation": writer.incarnation, "begin": begin, "end": end}
    )]  # fmt: skip
    assert {row["kind"] for row in rows} == {"OPENING", *KINDS}
    own = [row for row in rows if row["account"] == KALSHI_ACCOUNT]
    # All that moved cash: the entries, and one fill of four dollars.
    assert sum(row["cash"] for row in own) - 4 * MICRO == log.task._sets["main"].ledgers[KALSHI_ACCOUNT].cash_e6
    (deposit,) = [row for row in own if row["kind"] == "DEPOSIT"]
    assert deposit["reason"] == f"entered by ann and bob as {KINDS.index('DEPOSIT')}: as the statement says"


def test_who_entered_what_is_audited(written):
    writer, _ = written(entered=True)
    rows = writer.database.rows(
        "SELECT who, second, why FROM audit WHERE incarnation = %(i)s AND kind = 'Posting'", {"i": writer.incarnation}
    )
    assert rows == [("ann", "bob", "as the statement says")] * (2 * len(KINDS) + 2)
