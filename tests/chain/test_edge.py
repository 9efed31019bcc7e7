"""The positive control: on two LIVE books with young ticks an edge makes an order."""

import pytest

ONE = 1_000_000
KALSHI, POLY = "kalshi:KX-1", "polymarket:0xc2"


def other_of(name):
    return POLY if name == KALSHI else KALSHI


@pytest.mark.parametrize("cheap", [KALSHI, POLY])
def test_edge_on_two_live_books_makes_an_order_that_leaves(new_chain, cheap):
    chain = new_chain()
    assert chain.left() == chain.grants() == chain.intents() == []
    chain.cheapen(cheap)
    assert len(chain.intents()) == 1
    (grant,) = chain.grants()
    assert chain.left() == [grant.id]
    # The venue refused it, which ends the saga; the next words of both books make the next one.
    assert chain.sagas()[-1].state == "DONE"
    chain.advance(500)
    chain.level(other_of(cheap), "BUY", 4_700, 45 * ONE)
    chain.advance(200)
    chain.level(cheap, "SELL", 3_900, 40 * ONE)
    assert len(chain.left()) == len(set(chain.left())) == 2


@pytest.mark.parametrize("name", [KALSHI, POLY])
def test_either_half_of_the_provocation_makes_an_order_where_nothing_is_wrong(new_chain, name):
    for provoke in ("cheapen", "raise_other"):
        chain = new_chain()
        getattr(chain, provoke)(name)
        assert len(chain.left()) == 1, provoke


@pytest.mark.parametrize("name", [KALSHI, POLY])
@pytest.mark.parametrize(("side", "price"), [("BUY", 5_000), ("SELL", 4_800)])
def test_gateway_takes_a_grant_on_a_live_book(new_chain, name, side, price):
    chain = new_chain()
    assert chain.hand_over(name, side, price) == ""
    assert len(chain.left()) == 1
