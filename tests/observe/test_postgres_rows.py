"""Records to rows in a real PostgreSQL: any order between topics, any repeats, any cuts give the same tables."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.errors import Misconfigured
from core.domain.units import MICRO
from core.runtime import topics
from observe.accounts import account_lines
from observe.postgres import Postgres
from observe.postgres_rows import AUDITED, READ, WANTED, is_wanted
from schemas.decision import Command, Jurisdiction, Limit, Link, ManualTicket
from tests.observe.conftest import fresh_database
from tests.observe.desk_records import (
    INCARNATION,
    T0,
    S,
    Writer,
    contents,
    entry,
    fill,
    grant,
    instrument,
    intent,
    report,
    saga,
    settled,
    update,
)  # fmt: skip

pytestmark = pytest.mark.broker

TABLES = (
    "instrument", "ticket", "ticket_leg", "ticket_state", "venue_order", "order_state", "fill", "settlement",
    "position", "venue_account", "entry", "audit", "manual_ticket",
)  # fmt: skip


@pytest.fixture
def writer(database):
    return Writer(database)


def test_only_what_is_written_is_decoded():
    assert {topic.noun for topic in READ} >= set(WANTED)
    assert is_wanted(topics.DECISION_ACCOUNT.noun, "crossbook.decision.Intent")
    assert not is_wanted(topics.DECISION_ACCOUNT.noun, "crossbook.order.Fill")
    assert not is_wanted(topics.DECISION_ORDER.noun, "crossbook.decision.Beat")
    assert is_wanted(topics.DECISION_LIMIT.noun, "crossbook.decision.ARecordOfTomorrow")


def test_a_ticket_is_its_intent_with_legs_and_the_newest_state(writer):
    writer.write(saga(state="DONE", offset=12), intent(legs=2), saga(state="FIRST_LEG", offset=11))
    assert writer.database.rows("SELECT id, strategy, legs, profit_e6, state, filled_e6 FROM ticket_now") == [
        ("ticket1", "arb", 2, 30_000, "DONE", [2 * MICRO])
    ]
    assert writer.database.rows("SELECT leg, side, price, reduces FROM ticket_leg ORDER BY leg") == [
        (0, "BUY", 4_000, False), (1, "BUY", 4_000, False),
    ]  # fmt: skip


def test_a_saga_of_an_older_writer_says_two_legs(writer):
    writer.write(intent(), saga(filled_e6=[], filled_first=5, filled_second=3))
    assert writer.database.rows("SELECT filled_e6 FROM ticket_now") == [([5, 3],)]


def test_a_fill_finds_its_order_ticket_and_strategy_whichever_comes_first(writer):
    writer.write(fill(), instrument())
    assert writer.database.rows("SELECT ticket, strategy, event_group FROM fill_of") == [("", "", "kalshi:E")]
    writer.write(intent(strategy="momentum"), grant())
    assert writer.database.rows("SELECT ticket, strategy FROM fill_of") == [("ticket1", "momentum")]


def test_a_fill_heard_twice_moves_its_position_once(writer):
    writer.write(fill(), fill(at=T0 + S))
    writer.write(fill(at=T0 + 2 * S), fill(2, token_side="SELL", price=500_000))
    assert writer.position() == (0, 0, 100_000, 10_000, 0, 2)
    assert writer.database.rows("SELECT count(*), min(heard_ns) FROM fill WHERE fill = 'fill1'") == [(1, T0)]


def poly(number, **changes):
    return fill(number, account="polymarket:a", instrument="polymarket:M", settlement="MATCHED", **changes)


def test_a_failed_settlement_takes_its_fill_out_of_the_position(writer):
    writer.write(poly(1), poly(2, price=600_000), poly(3, token_side="SELL", price=700_000))
    writer.write(settled(1))
    position = writer.position("polymarket:a", "polymarket:M")
    assert position == (0, 0, 100_000, 10_000, 0, 2)
    assert writer.database.rows("SELECT fill FROM fill WHERE failed") == [("fill1",)]


def test_a_failure_heard_before_its_fill_and_a_word_after_the_first_change_nothing(writer):
    writer.write(settled(1), poly(1), poly(2))
    writer.write(settled(1, "CONFIRMED"), settled(2, "CONFIRMED"), settled(2))
    assert writer.position("polymarket:a", "polymarket:M") == (MICRO, 400_000, 0, 5_000, 0, 1)
    assert writer.database.rows("SELECT fill, settlement FROM settlement ORDER BY fill") == [
        ("fill1", "FAILED"), ("fill2", "CONFIRMED"),
    ]  # fmt: skip


def test_a_payout_closes_the_position_and_outlives_a_late_failure(writer):
    account, name = "polymarket:a", "polymarket:M"
    writer.write(poly(1), poly(2, price=500_000))
    writer.write(entry(1, account=account, instrument=name, size=-2 * MICRO, cash=2 * MICRO))
    assert writer.position(account, name) == (0, 0, 1_100_000, 10_000, 0, 2)
    writer.write(settled(2))
    # One token was paid that never was ours: it is short now, and what was taken in for it is its cost.
    assert writer.position(account, name) == (-MICRO, -MICRO, 600_000, 5_000, 0, 1)


def test_who_said_what_and_why_is_kept_word_for_word(writer):
    limit = Limit(
        id="main", state="RUNNING", order_notional_max_e6=1, market_notional_max_e6=2, open_sagas_max=3,
        unwind_budget_e6=4, set_by="ann", approved_by="ben", reason="more",
    )  # fmt: skip
    halt = Command(
        id="command|main|SET|",
        account_set="main",
        scope="SET",
        state="HALTED",
        set_by="ann",
        reason="storm",
        ts_ns=T0 + S,
    )
    link = Link(
        id="pair", version=2, status="APPROVED", instrument_a="a", instrument_b="b", polarity="SAME", states=[],
        payout_a_e6=[], payout_b_e6=[], approved_by="ben", approved_ts_ns=T0, set_by="ann",
    )  # fmt: skip
    writer.write(limit, halt, link, topics.DECISION_LIMIT)
    assert writer.database.rows(
        "SELECT kind, who, second, why, said->>'state' FROM audit ORDER BY topic, log_offset"
    ) == [
        ("Limit", "ann", "ben", "more", "RUNNING"),
        ("Command", "ann", "", "storm", "HALTED"),
        ("Removed", "", "", "", None),
        ("Link", "ben", "ann", "", None),
    ]


def test_who_signed_off_where_an_entity_may_trade_is_kept_and_so_is_its_removal(writer):
    sign_off = Jurisdiction(
        id="Acme/kalshi/*", entity="Acme", venue="kalshi", category="*", verdict="CLOSE_ONLY", signed_by="ann",
        reason="memo 7", signed_ts_ns=T0 + S, regions=["us"],
    )  # fmt: skip
    writer.write(sign_off, topics.DECISION_JURISDICTION)
    assert writer.database.rows(
        "SELECT kind, who, second, why, said->>'verdict', said->'regions'->>0, extract(epoch FROM at)::bigint"
        " FROM audit WHERE kind <> 'Removed'"
    ) == [("Jurisdiction", "ann", "", "memo 7", "CLOSE_ONLY", "us", (T0 + S) // S)]
    assert writer.database.rows("SELECT count(*) FROM audit WHERE kind = 'Removed'") == [(1,)]


def test_every_log_of_human_words_is_read_and_audited():
    # What else decide's topics hold is computed: nobody types it.
    computed = {"input", "edge", "account", "order", "ledger", "saga", "checkpoint"}
    words = {topic.noun for topic in topics.TOPICS if topic.layer == "decision"} - {
        f"decision.{one}" for one in computed
    }
    assert words == AUDITED
    assert words <= {topic.noun for topic in READ}


def test_a_ticket_made_by_hand_moves_nothing_and_can_be_withdrawn(writer):
    made = dict(
        id="m1", account="kalshi:a", instrument="kalshi:M", side="BUY", size=MICRO, price_e6=1, traded_ts_ns=T0,
        set_by="ann", reason="the API was down",
    )  # fmt: skip
    writer.write(ManualTicket(**made, ts_ns=T0))
    writer.write(ManualTicket(**made | {"reason": "twice"}, withdrawn=True, ts_ns=T0 + S))
    assert writer.database.rows("SELECT who, why, withdrawn FROM manual_ticket") == [("ann", "twice", True)]
    assert writer.database.rows("SELECT count(*) FROM position") == [(0,)]
    assert writer.database.rows("SELECT kind, why FROM audit ORDER BY log_offset") == [
        ("ManualTicket", "the API was down"), ("ManualTicket", "twice"),
    ]  # fmt: skip


# Accounts beside their venues


def test_an_account_that_nets_equals_its_venue_to_the_unit(writer):
    writer.write(report(100 * MICRO, [("kalshi:M", "NO", MICRO)]))  # opens one short
    writer.write(fill(1, size=3 * MICRO), fill(2, outcome="NO", size=4 * MICRO, price=300_000))
    # 3 YES at 0.40 free the dollar of the short and leave 2 long; 4 NO at 0.30 close those and open 2 short.
    cash = 100 * MICRO - 1_200_000 + MICRO + 4 * 700_000 - 2 * MICRO - 10_000
    writer.write(report(cash, [("kalshi:M", "NO", 2 * MICRO)], at=T0 + S))
    (line,) = account_lines(writer.database, INCARNATION)
    assert line.differences == []
    assert (line.our_cash_e6, line.venue_cash_e6, line.is_late) == (cash, cash, False)


def test_an_account_with_tokens_equals_its_venue_to_the_unit_and_says_what_does_not(writer):
    account, name = "polymarket:a", "polymarket:M"
    writer.write(report(50 * MICRO, [(name, "YES", 2 * MICRO)], account=account))
    writer.write(
        poly(1, size=3 * MICRO), poly(2, outcome="NO", size=2 * MICRO, price=550_000), poly(3, token_side="SELL")
    )
    cash = 50 * MICRO - 1_200_000 - 1_100_000 + 400_000 - 15_000
    writer.write(entry(9, "DEPOSIT", "", "NONE", cash=7 * MICRO, account=account))
    writer.write(
        report(cash + 7 * MICRO, [(name, "YES", 4 * MICRO), (name, "NO", 2 * MICRO)], account=account, at=T0 + S)
    )
    (line,) = account_lines(writer.database, INCARNATION)
    assert (line.differences, line.our_cash_e6) == ([], cash + 7 * MICRO)
    writer.write(report(cash, [(name, "YES", 4 * MICRO)], account=account, at=T0 + 2 * S))
    (line,) = account_lines(writer.database, INCARNATION)
    assert line.differences == [
        f"cash: ours {cash + 7 * MICRO}, the venue's {cash}", f"{name} NO: ours {2 * MICRO}, the venue's 0",
    ]  # fmt: skip
    writer.write(fill(8, account=account, instrument=name, at=T0 + 3 * S))
    (line,) = account_lines(writer.database, INCARNATION)
    assert line.is_late


# Any order, any repeats, any cuts

STORY = [
    instrument(), intent(1), intent(2), grant(1, 1), grant(2, 2), saga(1, "FIRST_LEG", 3), saga(1, "DONE", 9), saga(2, "REFUSED", 4),
    update(1, "ACCEPTED"), update(1), fill(1), fill(2, 1, token_side="SELL", price=450_000), poly(3), poly(4, outcome="NO"),
    settled(3), settled(4, "CONFIRMED"), fill(1, at=T0 + S), entry(1, "FEE", "", cash=-5), report(MICRO),
]  # fmt: skip


@pytest.fixture(scope="module")
def kept(postgres_stack):
    """One database for many examples, each an incarnation of its own."""
    with fresh_database(postgres_stack) as made:
        Writer(made, 1).write(*STORY)
        yield made, contents(made, 1, TABLES), itertools.count(2)


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(1, 6), st.booleans())
def test_topics_in_any_order_cut_anywhere_give_the_same_tables(kept, seed, cut, repeats):
    database, wanted, numbers = kept
    writer, chance = Writer(database, next(numbers)), random.Random(seed)
    by_topic = {}
    for record in STORY:
        pair = writer.placed(record)
        by_topic.setdefault(pair[1].noun, []).append(pair)
    order = []
    while by_topic:
        noun = chance.choice(sorted(by_topic))
        order.append(by_topic[noun].pop(0))
        if not by_topic[noun]:
            del by_topic[noun]
    batches = [order[first : first + cut] for first in range(0, len(order), cut)]
    for batch in batches:
        writer.write_placed(batch)
        if repeats and batch[0][1].noun != topics.ORDER_EVENT.noun:
            writer.write_placed([pair for pair in batch if pair[1].noun != topics.ORDER_EVENT.noun])
    assert contents(database, writer.incarnation, TABLES) == wanted


# The tables themselves


def test_steps_are_done_once_by_whoever_comes_first(database, postgres_stack):
    import threading

    url = database._url
    with_errors = []

    def prepare():
        twin = Postgres(url)
        try:
            twin.prepare()
        except Exception as e:
            with_errors.append(e)
        finally:
            twin.close()

    with database.transaction() as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    threads = [threading.Thread(target=prepare) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert with_errors == []
    assert database.rows("SELECT count(*) FROM alembic_version") == [(1,)]


def test_every_step_can_be_taken_back_and_done_again(database):
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import NullPool, create_engine, inspect

    from observe.postgres import MIGRATIONS

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = create_engine("postgresql+psycopg" + database._url.removeprefix("postgresql"), poolclass=NullPool)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        assert inspect(connection).get_table_names() == ["alembic_version"]
        assert inspect(connection).get_view_names() == []
    database.prepare()
    assert database.rows("SELECT count(*) FROM fill_of") == [(0,)]


def test_tables_of_a_newer_program_are_refused_by_name(database):
    with database.transaction() as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Misconfigured, match=r"newer than this program.*9999"):
        database.prepare()


def test_tables_that_are_not_there_yet_are_named(postgres_stack):
    bare = Postgres(postgres_stack.postgres_url)
    try:
        with pytest.raises(Misconfigured, match="python -m observe postgres"):
            bare.rows("SELECT * FROM ticket")
    finally:
        bare.close()
