"""Records of a small desk, as tests of PostgreSQL's tables write them."""

from core.domain.units import MICRO
from core.runtime import topics
from observe.postgres_rows import Place, Rows
from schemas import decision, market, order
from tests.records import binary, granted

T0 = 1_795_000_000_000_000_000
INCARNATION = 77
S = 1_000_000_000


def intent(number=1, strategy="arb", account="kalshi:a", instrument="kalshi:M", legs=1, at=T0):
    leg = decision.Leg(
        instrument=instrument, account=account, side="BUY", price=4_000, size=2 * MICRO, price_exp=-4, size_exp=-6,
        fee_max_e6=10_000, version_offset=1, version_index=0, recv_ts_ns=at, level_prices=[4_000],
        level_sizes=[2 * MICRO],
    )  # fmt: skip
    return decision.Intent(
        id=f"ticket{number}", strategy=strategy, link="link", account_set="main", now_ns=at, legs=[leg] * legs,
        profit_e6=30_000, input_partition=0, input_offset=number, recv_ts_ns=at,
    )  # fmt: skip


def saga(number=1, state="DONE", offset=10, **changes):
    fields = dict(
        id=f"ticket{number}", strategy="arb", link="link", account_set="main", state=state, cash_e6=-800_000,
        fees_e6=10_000, now_ns=T0 + offset, log_partition=0, log_offset=offset, recv_ts_ns=T0,
        filled_e6=[2 * MICRO], standing_e6=[2 * MICRO],
    )  # fmt: skip
    return decision.Saga(**(fields | changes))


def grant(number=1, ticket=1, account="kalshi:a", instrument="kalshi:M", at=T0):
    fields = dict(id=f"order{number}", intent=f"ticket{ticket}", account=account, client_id=f"c{number}")
    return granted(instrument, now_ns=at, send_by_ns=at + S, attempt=0, price=4_000, size=2 * MICRO, **fields)


def update(number=1, status="FILLED", at=T0):
    return order.OrderUpdate(
        event_id=f"update{number}{status}", order=f"order{number}", account="kalshi:a", instrument="kalshi:M",
        status=status, terminal=status != "ACCEPTED", venue_order=f"v{number}", filled=2 * MICRO, writer="g", ts_ns=at,
        recv_ts_ns=at,
    )  # fmt: skip


def fill(number=1, order_number=None, size=MICRO, price=400_000, fee=5_000, at=T0, **changes):
    fields = dict(
        event_id=f"event{number}", order=f"order{order_number or number}", account="kalshi:a", instrument="kalshi:M",
        fill=f"fill{number}", outcome="YES", token_side="BUY", size=size, price_e6=price,
        notional_e6=size * price // MICRO, fee_e6=fee, asset="USD", liquidity="TAKER", settlement="CONFIRMED",
        venue_ts_ns=at, ts_ns=at, recv_ts_ns=at,
    )  # fmt: skip
    return order.Fill(**(fields | changes))


def settled(number=1, settlement="FAILED", account="polymarket:a", at=T0):
    return order.Settled(
        event_id=f"settled{number}{settlement}", order=f"order{number}", account=account, instrument="polymarket:M",
        fill=f"fill{number}", settlement=settlement, reference="0xab", ts_ns=at, recv_ts_ns=at,
    )  # fmt: skip


def report(cash, holdings=(), account="kalshi:a", at=T0, orders=()):
    held = [order.Holding(instrument=i, outcome=o, size=s) for i, o, s in holdings]
    return order.VenueReport(
        account=account, as_of_ns=at, cash_e6=cash, holdings=held, open_orders=list(orders), ts_ns=at
    )


def entry(number=1, kind="SETTLEMENT", instrument="kalshi:M", outcome="YES", size=0, cash=0, account="kalshi:a", at=T0):
    return decision.Entry(
        id=f"entry{number}", account=account, kind=kind, instrument=instrument, outcome=outcome, size=size, cash_e6=cash,
        now_ns=at, log_partition=0, log_offset=number,
    )  # fmt: skip


def instrument(name="kalshi:M", event="kalshi:E"):
    return binary(name, title="M", event_group=event, category="Weather", size_min=1, size_step=1, recv_ts_ns=T0)


TOPIC = {
    decision.Intent: topics.DECISION_ACCOUNT,
    decision.Saga: topics.DECISION_SAGA,
    decision.Grant: topics.DECISION_ORDER,
    decision.Entry: topics.DECISION_LEDGER,
    decision.Ledger: topics.DECISION_LEDGER,
    decision.Limit: topics.DECISION_LIMIT,
    decision.Command: topics.DECISION_LIMIT,
    decision.Jurisdiction: topics.DECISION_JURISDICTION,
    decision.Link: topics.DECISION_LINK,
    decision.ManualTicket: topics.DECISION_TICKET,
    market.Instrument: topics.MARKET_INSTRUMENT,
}


class Writer:
    """Writes records as the sink does, each at the next offset of its topic."""

    def __init__(self, database, incarnation=INCARNATION, run="demo"):
        self.database, self.incarnation = database, incarnation
        self.offsets = {}
        with database.transaction() as connection:
            connection.execute(
                "INSERT INTO run VALUES (%s, %s, to_timestamp(%s)) ON CONFLICT DO NOTHING",
                (incarnation, run, T0 / 1e9 - 3_600 + incarnation),
            )

    def placed(self, record, key="key"):
        """Give a record its place."""
        topic = TOPIC.get(type(record), topics.ORDER_EVENT) if not isinstance(record, topics.Topic) else record
        offset = self.offsets[topic.noun] = self.offsets.get(topic.noun, -1) + 1
        place = Place(topic.name("demo"), topic.noun, 0, offset, T0 // 1_000_000, key)
        return (None if isinstance(record, topics.Topic) else record), place

    def write(self, *records):
        self.write_placed([self.placed(record) for record in records])

    def write_placed(self, pairs):
        rows = Rows(self.incarnation)
        for record, place in pairs:
            rows.add(record, place)
        with self.database.transaction() as connection:
            rows.write(connection)

    def position(self, account="kalshi:a", instrument="kalshi:M"):
        """Return size, cost, realised, fees, NO tokens, fills."""
        return self.database.rows(
            "SELECT size_e6, cost_e6, realised_e6, fees_e6, no_e6, fills FROM position "
            "WHERE incarnation = %(i)s AND account = %(a)s AND instrument = %(n)s",
            {"i": self.incarnation, "a": account, "n": instrument},
        )[0]


def contents(database, incarnation, tables):
    """Return all rows of a run, without its incarnation."""
    return {
        table: sorted(
            repr(row[1:])
            for row in database.rows(f"SELECT * FROM {table} WHERE incarnation = %(i)s", {"i": incarnation})
        )
        for table in tables
    }
