"""What a gateway writes when a venue comes back to what it said of a market before: once, and only if it stays so."""

from dataclasses import replace

import pytest

from core.runtime.clock import NS_PER_S, ManualClock
from decide.accounts import AccountsTask
from execute.journal import Journal
from execute.orders import Orders
from execute.views import PayoutView
from schemas.order import Payout
from tests.decide.conftest import Accounts

ACCOUNT, E6 = "kalshi:main", 1_000_000
FIRST = PayoutView(
    instrument="kalshi:KX-1", result="yes", yes_size=10 * E6, no_size=0, revenue_e6=10 * E6, fee_e6=0, payout_e6=E6,
    venue_ts_ns=100,
)  # fmt: skip
SECOND = replace(FIRST, result="scalar", revenue_e6=3 * E6, payout_e6=300_000, venue_ts_ns=200)


class Log:
    """One log and the gateways that write it; what is written is read back by all of them."""

    def __init__(self):
        self.records = []
        self.clock = ManualClock(1_795_000_000 * NS_PER_S)

    def send(self, topic, key, record, partition=-1):
        self.records.append(record)

    def ack_age_s(self):
        return 0.0

    def gateway(self):
        orders = Orders(ACCOUNT)
        for record in self.records:
            orders.apply(record)
        return Reader(self, orders)


class Reader:
    def __init__(self, log, orders):
        self.log, self.orders = log, orders
        self.read_to = len(log.records)
        self.journal = Journal(writer="gw", account=ACCOUNT, out=log, orders=orders, clock=log.clock)

    def read(self, *views):
        for record in self.log.records[self.read_to :]:
            self.orders.apply(record)
        self.read_to = len(self.log.records)
        self.log.clock.advance(ms=10_000)
        self.journal.payouts(views, self.log.clock.now_ns())
        return [one.revenue_e6 for one in self.log.records]


@pytest.fixture
def log():
    return Log()


def test_the_first_statement_is_written_again_when_two_answers_have_it_after_another(log):
    one = log.gateway()
    assert one.read(FIRST) == [10 * E6]
    assert one.read(SECOND) == [10 * E6, 3 * E6]
    assert one.read(FIRST) == [10 * E6, 3 * E6]
    assert one.read(FIRST) == [10 * E6, 3 * E6, 10 * E6]
    for _ in range(3):
        assert one.read(FIRST) == [10 * E6, 3 * E6, 10 * E6]
    assert len({record.event_id for record in log.records}) == 3


def test_one_answer_that_lags_behind_another_writes_nothing(log):
    one = log.gateway()
    one.read(FIRST)
    one.read(SECOND)
    for view in (FIRST, SECOND, FIRST, SECOND):
        assert one.read(view) == [10 * E6, 3 * E6]


def test_a_list_that_shows_both_is_no_return(log):
    one = log.gateway()
    for _ in range(4):
        assert one.read(FIRST, SECOND) == [10 * E6, 3 * E6]


def test_twins_and_a_successor_write_one_return(log):
    one, twin = log.gateway(), log.gateway()
    for view in (FIRST, SECOND, FIRST):
        one.read(view)
        twin.read(view)
    # Neither has read the other's word yet: it is the same word.
    for reader in (one, twin):
        reader.journal.payouts([FIRST], log.clock.now_ns())
    assert len(log.records) == 4
    assert len({record.event_id for record in log.records}) == 3
    successor = log.gateway()
    for _ in range(3):
        assert len(successor.read(FIRST)) == 4


def test_accounts_end_at_what_the_venue_came_back_to(log):
    one = log.gateway()
    books = Accounts().start()
    assert isinstance(books.task, AccountsTask)
    for view in (FIRST, SECOND, FIRST, FIRST, SECOND, SECOND, FIRST, FIRST):
        one.read(replace(view, venue_ts_ns=view.venue_ts_ns + books.now_ns))
    for record in log.records:
        assert isinstance(record, Payout)
        books.feed(record)
    assert [one.revenue_e6 for one in log.records] == [10 * E6, 3 * E6, 10 * E6, 3 * E6, 10 * E6]
    assert books.ledger(ACCOUNT).cash_e6 == 1_000 * E6
