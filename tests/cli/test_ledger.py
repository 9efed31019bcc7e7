"""`crossbook ledger enter`: the record that follows from what a human types, and what is refused."""

import pytest

from core.domain.errors import Misconfigured
from decide.postings import ENTERED
from infra.cli.ledger_desk import SIGNS, Typed, check, posting_of, sums
from infra.cli.limits_desk import Signed
from schemas.decision import Entry, Limit, Profile

ONE = 1_000_000
ANN = Signed("ann", "", "more to trade with")
NOW = 1_795_000_000_000_000_000
ACCOUNT = "kalshi:main"


def typed(kind="deposit", account=ACCOUNT, **changes):
    return Typed(kind, account, **{"amount": "100", "reference": "ach-7", **changes})


def made(one=None, signed=ANN, at_ns=NOW):
    return posting_of(one or typed(), signed, "main", at_ns=at_ns, now_ns=NOW)


def profile(name=ACCOUNT, account_set="main"):
    return Profile(id=name, venue=name.partition(":")[0], account_set=account_set, entity="Test", currency="USD")


def limit(*, two_people):
    return Limit(
        id="main", state="RUNNING", order_notional_max_e6=1, market_notional_max_e6=1, open_sagas_max=1,
        unwind_budget_e6=1, set_by="a", reason="r", two_people=two_people,
    )  # fmt: skip


def test_a_deposit_says_who_why_and_when():
    record = made(at_ns=NOW - 5)
    assert (record.id, record.account_set, record.account) == ("posting|kalshi:main|ach-7", "main", ACCOUNT)
    assert (record.kind, record.cash_e6, record.instrument, record.size) == ("DEPOSIT", 100 * ONE, "", 0)
    assert (record.set_by, record.reason, record.at_ns, record.ts_ns) == ("ann", "more to trade with", NOW - 5, NOW)


def test_without_a_reference_each_is_one_of_its_own():
    assert made(typed(reference="")).id == f"posting|{ACCOUNT}|{NOW}"


@pytest.mark.parametrize("kind", sorted(ENTERED))
def test_each_kind_moves_cash_its_own_way(kind):
    sign = SIGNS.get(kind)
    if sign is not None:
        assert made(typed(kind.lower(), amount="2.50")).cash_e6 == sign * 2_500_000
        with pytest.raises(Misconfigured, match="without a sign"):
            made(typed(kind, amount="-2.50"))
        return
    assert made(typed(kind, amount="-2.50")).cash_e6 == -2_500_000
    assert made(typed(kind, amount="+2.50")).cash_e6 == 2_500_000
    with pytest.raises(Misconfigured, match="with \\+ or -"):
        made(typed(kind, amount="2.50"))


def test_tokens_that_were_split_are_an_amount_and_a_size():
    name = "polymarket:0xc1"
    record = made(typed("conversion", "polymarket:main", amount="-10", size="+10", instrument=name, outcome="no"))
    assert (record.cash_e6, record.size, record.instrument, record.outcome) == (-10 * ONE, 10 * ONE, name, "NO")


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (typed("opening"), "not entered by hand"),
        (typed("settlement"), "not entered by hand"),
        (typed("gift"), "not entered by hand"),
        (typed(amount=""), "name what moved"),
        (typed(amount="0"), "name what moved"),
        (typed(amount="1e3"), "plain decimal"),
        (typed(amount="0.00000001"), "finer"),
        (typed(reference="a|b"), "not possible"),
        (typed(size="5"), "belong together"),
        (typed(size="5", instrument="kalshi:M", outcome="maybe"), "yes or no"),
        (typed(size="5", instrument="polymarket:M", outcome="yes"), "no instrument of kalshi"),
        (typed("interest", size="5", instrument="kalshi:M", outcome="yes"), "cash alone"),
    ],
)
def test_what_cannot_be_is_refused_by_name(one, words):
    with pytest.raises(Misconfigured, match=words):
        made(one)


def test_nobody_enters_without_a_reason_or_what_is_still_to_come():
    with pytest.raises(Misconfigured, match="who and why"):
        made(signed=Signed("ann", "", " "))
    with pytest.raises(Misconfigured, match="time to come"):
        made(at_ns=NOW + 1)


def test_accounts_of_another_set_and_references_that_are_taken_are_refused():
    profiles = {ACCOUNT: profile(), "kalshi:x": profile("kalshi:x", "spare")}
    record = made()
    check(record, None, profiles, {})
    with pytest.raises(Misconfigured, match="no account of main: kalshi:main"):
        check(made(typed(account="kalshi:x")), None, profiles, {})
    with pytest.raises(Misconfigured, match="was entered by ann already"):
        check(record, None, profiles, {record.id: record})


def test_two_people_enter_where_the_set_asks_for_two():
    profiles = {ACCOUNT: profile()}
    for second in ("", "ann"):
        with pytest.raises(Misconfigured, match="another than ann"):
            check(made(signed=Signed("ann", second, "why")), limit(two_people=True), profiles, {})
    check(made(signed=Signed("ann", "bob", "why")), limit(two_people=True), profiles, {})
    check(made(), limit(two_people=False), profiles, {})


def test_sums_leave_out_what_is_only_provisional():
    def entry(number, kind, cash, **changes):
        fields = dict(id=str(number), account=ACCOUNT, kind=kind, outcome="NONE", cash_e6=cash, now_ns=1)
        return Entry(**{**fields, "log_partition": 0, "log_offset": number, **changes})

    found = sums(
        [
            entry(1, "OPENING", 5),
            entry(2, "FEE", -2),
            entry(3, "FEE", -1),
            entry(4, "SETTLEMENT", 9, phase="PROVISIONAL"),
        ]
    )
    assert found == {(ACCOUNT, "OPENING"): 5, (ACCOUNT, "FEE"): -3}
