"""What is held, and the beats in which exits sell it."""

from schemas.decision import Grant
from tests.decide.conftest import KALSHI, ONE, POLY

OTHER = "kalshi:KX-2"
SLIP = 300


def ten_held(make):
    """Return a log of ten YES on Kalshi at .40, bought by arb-1; the book stands at .45 to .47."""
    log = make.accounts().start()
    log.feed(make.instrument(OTHER))
    buy(make, log)
    mark(make, log)
    return log


def alive(log):
    for venue in ("kalshi", "polymarket"):
        log.alive(f"{venue}:main")


def mark(make, log, name=KALSHI, bid=4_500, ask=4_700, *, state="LIVE", version=1):
    seen = make.depth(name, version, [(bid, ONE)], [(ask, ONE)])
    log.feed(make.quote(seen, state=state), source=make.book_source())
    log.feed(make.tick(log.now_ns))


def buy(make, log, name=KALSHI, *, strategy="arb-1", side="BUY", price=4_000, size=10 * ONE, settle=True):
    alive(log)
    leg = make.replace(make.leg(name, side, [(price, size)]), recv_ts_ns=log.now_ns)
    said = log.feed(
        make.intent(
            id=f"{strategy}-{name}", strategy=strategy, link=name, legs=[leg], profit_e6=0, now_ns=log.now_ns,
            recv_ts_ns=log.now_ns,
        )
    )  # fmt: skip
    (grant,) = (record for record in said if isinstance(record, Grant))
    log.done(grant, size, price, name=f"{strategy}-{name}-fill")
    if settle and name == POLY:
        log.settle(grant, f"{strategy}-{name}-fill")
    return grant


def flatten(make, log, scope="SET", name="", **changes):
    fields = dict(flatten_slip_e4=SLIP, ts_ns=log.now_ns)
    return log.feed(make.command("REDUCING", scope, name, **{**fields, **changes}))


def beat(make, log, ms=1_000):
    """Let time pass with everything alive; return the orders that follow."""
    log.now_ns += ms * 1_000_000
    alive(log)
    log.feed(make.tick(log.now_ns))
    return [record for record in log.clock(0) if isinstance(record, Grant)]
