"""Each benchmark runs and says what it must; no figure is asserted, for they depend on the machine."""

import json
import math

import pytest

from benchmarks import __main__ as bench
from benchmarks import doorstep, gateway, legs, sign
from benchmarks.leg_world import Course, World
from benchmarks.measure import TINY, Figure, machine
from core.domain.errors import InvariantBroken
from infra.stack.settings import PROJECT
from venues.polymarket.auth import Wallet

CPU_BOUND = ["book", "codec", "normalize", "derive", "sign"]


@pytest.mark.parametrize("name", CPU_BOUND)
def test_a_benchmark_of_the_processor_runs(name):
    figures = bench.measure(name, TINY)
    assert figures
    for figure in figures:
        assert figure.value > 0
        assert math.isfinite(figure.value)


@pytest.mark.mock
def test_frames_pass_from_a_socket_to_a_topic(monkeypatch):
    monkeypatch.setenv("CROSSBOOK_BOOTSTRAP", "127.0.0.1:1")  # nothing answers: the mock cluster alone
    figures = bench.measure("frames", TINY)
    assert {figure.name for figure in figures} >= {"socket to topic, mock cluster", "memory to topic, mock cluster"}
    assert all(figure.value > 0 for figure in figures)


@pytest.mark.mock
@pytest.mark.timeout(180)
def test_orders_pass_from_a_grant_to_the_venue(monkeypatch):
    monkeypatch.setenv("CROSSBOOK_BOOTSTRAP", "127.0.0.1:1")  # nothing answers: the mock cluster alone
    figures = {figure.name: figure for figure in bench.measure("gateway", TINY)}
    for venue in ("kalshi", "polymarket"):
        whole = figures[f"mock cluster, {venue}: grant to first byte, p50"]
        assert "orders" in whole.note
        assert "connections opened" in whole.note
        hops = [figures[f"mock cluster, {venue}:   of it {name}, p50"].value for name in gateway.HOPS]
        assert all(0 < hop < whole.value for hop in hops)
        assert f"mock cluster: first bytes apart, 4 {venue} orders together, p50" in figures
    assert "mock cluster: first bytes apart, one of each venue together, p50" in figures
    assert all(figure.value > 0 for figure in figures.values())


def test_signatures_are_compared_with_the_venues_own_clients_or_said_not_to_be(monkeypatch, tmp_path):
    names = [figure.peer for figure in bench.measure("sign", TINY) if figure.unit == "/s"]
    if (PROJECT / "build/official/bin/python").exists():
        assert [name.rpartition(" ")[0] for name in names] == ["py-clob-client-v2", "polymarket-client"]
    monkeypatch.setenv("CROSSBOOK_OFFICIAL_PYTHON", str(tmp_path / "none"))
    alone = [figure for figure in bench.measure("sign", TINY) if figure.unit == "/s"]
    assert [figure.peer for figure in alone] == [""]
    assert "make official" in alone[0].note


def test_a_client_that_signs_otherwise_ends_the_comparison():
    wallet = Wallet("11" * 32)
    theirs = {"salt": 1, "timestamp": 2, "makerAmount": 8_000_000, "takerAmount": 20_000_000, "signature": "0x"}
    with pytest.raises(InvariantBroken, match="the client signs 0x over"):
        sign._check_same("the client", wallet, theirs)
    ours = sign._order(wallet, salt=1, timestamp_ms=2)
    sign._check_same("the client", wallet, theirs | {"signature": ours.signature})


def test_the_first_byte_of_an_order_is_noted_whatever_pieces_it_comes_in(monkeypatch):
    class Server:
        def connection_made(self, transport):
            pass

        def data_received(self, data):
            pass

    monkeypatch.setattr(doorstep.web_protocol, "RequestHandler", Server)
    door = doorstep.Doorstep()
    door.watch()
    first, second = Server(), Server()
    first.connection_made(None)
    second.connection_made(None)
    first.data_received(b"POST /orders HTTP/1.1\r\n\r\n")
    second.data_received(b'POST /order HTTP/1.1\r\n\r\n{"salt":7}')
    first.data_received(b'{"client_order_id":"a"}')
    first.data_received(b"GET /time HTTP/1.1\r\n\r\n")
    first.data_received(b'{"client_order_id":"no order"}')
    assert door.accepted == 2
    assert [name for name, _ in door.orders()] == ["a", "7"]
    assert door.orders()[0][1] <= door.orders()[1][1]


def test_the_report_names_the_machine_the_command_and_every_figure(tmp_path, capsys):
    report = tmp_path / "bench.json"
    assert bench.main(["book", "--effort", "tiny", "--report", str(report)]) == 0
    written = json.loads(report.read_text())
    printed = capsys.readouterr().out
    assert written["command"] in printed.replace("\n", "")
    assert written["machine"]["python"] in printed
    for figure in written["book"]:
        assert figure["name"] in printed


def test_an_unknown_name_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as caught:
        bench.main(["nothing"])
    assert caught.value.code == 2
    assert "codec" in capsys.readouterr().err


def test_a_ratio_above_one_is_better_for_times_and_for_rates():
    assert Figure("time", 2.0, "us", peer="p", peer_value=6.0).ratio == 3.0
    assert Figure("rate", 6.0, "/s", peer="p", peer_value=2.0).ratio == 3.0
    assert Figure("alone", 6.0, "/s").ratio is None


def test_an_aim_is_an_upper_bound_for_times_and_a_lower_one_for_rates():
    assert Figure("time", 2.0, "us", aim=3.0).meets_aim
    assert not Figure("rate", 2.0, "/s", aim=3.0).meets_aim
    assert Figure("time", 2.0, "us").meets_aim is None


def test_the_machine_is_described_without_its_name():
    facts = machine()
    assert facts["cores"]
    assert set(facts) == {"cpu", "cores", "load_1min", "memory_gib", "system", "python", "packages"}


@pytest.mark.parametrize(("arguments", "effort"), [([], "full"), (["--quick"], "quick")])
def test_all_effort_is_spent_unless_told_otherwise(tmp_path, monkeypatch, arguments, effort):
    monkeypatch.setitem(bench.EFFORTS, effort, TINY)
    report = tmp_path / "bench.json"
    assert bench.main(["sign", *arguments, "--report", str(report)]) == 0
    assert json.loads(report.read_text())["effort"] == effort


@pytest.mark.parametrize("leg_order", legs.ORDERS)
def test_legs_meet_edges_in_the_order_that_was_asked_and_the_same_seed_gives_the_same_figures(leg_order):
    course = Course(way_ms=5, edge_s=0.5)
    world = World(course, leg_order, seed=3)
    outcome = world.run(15.0)
    assert outcome == World(course, leg_order, seed=3).run(15.0)
    assert outcome.sagas == sum(outcome.ends.values()) > 0
    assert {saga.leg_order for saga in world._sagas.values()} == {leg_order}
    assert world._task.reserved_e6() == 0


def test_both_orders_of_legs_are_reported_for_every_setting():
    figures = legs.run(TINY)
    assert len({figure.name for figure in figures}) == len(legs.COURSES) * len(legs.ORDERS)
