"""Two gateways on two hosts that share nothing but the network to Kafka and the registry.

Kalshi is traded from a host called `us`, Polymarket from one called `eu`: namespaces with a network, a name, files and
processes of their own (`hosts.py`). `two_hosts.py` plays the story once; each test judges one sentence of it.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

from infra.stack.jars import fetch
from tests.e2e.hosts import PROJECT, lab, why_not

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(240)]

STORY_S = 180.0
SIZE = 10_000_000
NOTICE_S = 2.0
"""Of late Beats and acknowledgements, after which a gateway stops."""
FLIGHT_S = 0.3
"""From the last word of Kafka to the first byte at the venue, on a busy machine."""
WRITER = {"us": "kalshi:main/us/", "eu": "polymarket:main/eu/"}


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Play the story in a lab of its own, which ends with the process that tells it."""
    reason = why_not()
    if reason:
        # Where the project is judged nothing is left out.
        leave = pytest.fail if "CROSSBOOK_CI_RUN" in os.environ else pytest.skip
        leave(f"no hosts of our own on this machine: {reason}")
    fetch()  # in the lab there is no internet
    folder = tmp_path_factory.mktemp("lab")
    servers = folder / "servers"
    servers.mkdir()
    with (folder / "lab.log").open("w") as log:
        process = subprocess.Popen(
            lab([sys.executable, "-m", "tests.e2e.two_hosts", str(folder)]),
            cwd=PROJECT,
            # Temporary stacks look there for those of the dead, and in a lab every foreign process looks dead.
            env={**os.environ, "TMPDIR": str(servers)},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
    try:
        code = process.wait(STORY_S)
        assert code == 0, (folder / "lab.log").read_text()[-4_000:]
        yield json.loads((folder / "story.json").read_text())
    finally:
        process.kill()  # and with it everything in the lab
        process.wait()
        process.stdin.close()
        shutil.rmtree(servers, ignore_errors=True)


def test_each_host_fills_the_orders_of_its_own_venue_under_its_own_name(story):
    for host, orders in story["filled"].items():
        for order in orders:
            said = story["orders"][order]
            assert (said["statuses"][-1], said["filled"], said["submittings"]) == ("FILLED", SIZE, 1)
            assert [writer.startswith(WRITER[host]) for writer in said["writers"]] == [True]


def test_hosts_reach_kafka_and_their_own_venue_and_nothing_else(story):
    for reached in story["reaches"].values():
        kafka, own, *foreign = reached.values()
        assert (kafka, own) == ("", "")
        assert len(foreign) == 3
        assert all(foreign), reached
    assert [said["elsewhere"] for said in story["venues"].values()] == [0, 0]


def test_hosts_see_only_files_of_their_own(story):
    for host, venue in (("us", "kalshi"), ("eu", "polymarket")):
        assert f"execute-{venue}-main.log" in story["files"][host]
        assert "hosts" not in story["files"][host]
        assert story["keys"][host] == [venue]


def test_gateway_with_a_certificate_of_somebody_else_hears_nothing_of_kafka(story):
    said = story["misplaced"]["no certificate"]
    assert said["code"] == 2
    assert "must not start" in said["words"]
    assert "(waited 2 s)" in said["words"]


def test_account_whose_keys_are_elsewhere_is_refused_at_the_start(story):
    said = story["misplaced"]["no keys"]
    assert said["code"] == 2
    assert "holds no kalshi account 'main'" in said["words"]


def test_account_signed_off_for_the_other_region_is_refused_before_its_venue_hears_of_it(story):
    said = story["misplaced"]["keys"]
    assert said["code"] == 2
    words = "must not start: kalshi:main is not to be traded from here: Acme on kalshi: orders leave from us alone, "
    assert words + "this host is in eu (CROSSBOOK_REGION)" in said["words"]
    assert story["misplaced"]["writers"] == []


def test_host_that_is_cut_off_takes_back_what_rests_and_sends_nothing(story):
    cut = story["cut"]
    assert story["open"] == {"us": 1, "eu": 1}
    # It notices by the age of the last Beat, which is older than the cut by less than one.
    assert NOTICE_S - 0.5 < cut["resting_gone_after_s"] < NOTICE_S + 2.0
    # Only what had its Submitting back before: nothing that needed Kafka.
    assert all(after_s < FLIGHT_S for after_s in cut["arrived_after_s"]), cut["arrived_after_s"]
    assert cut["statuses_heard"] == ["ACCEPTED"], "nobody could hear of the cancel"


def test_other_host_trades_on_meanwhile(story):
    assert len(story["meanwhile"]) >= 5
    for order in story["meanwhile"]:
        assert story["orders"][order]["statuses"][-1] == "FILLED"
        assert all(writer.startswith(WRITER["us"]) for writer in story["orders"][order]["writers"])
    assert story["cut"]["open_at_us"] == 1


def test_host_that_is_back_tells_what_it_did_and_trades_on(story):
    resting = story["orders"][story["resting"]["eu"]]
    assert (resting["statuses"], resting["filled"]) == (["ACCEPTED", "CANCELLED"], 0)
    late = story["orders"][story["late"]]
    assert (late["statuses"], late["submittings"]) == (["EXPIRED_UNSENT"], 0)
    for order in story["after"].values():
        assert story["orders"][order]["statuses"][-1] == "FILLED"
    for order in story["caught"]:
        caught = story["orders"][order]
        assert caught["submittings"] <= 1
        ends = ("FILLED", SIZE) if caught["filled"] else ("EXPIRED_UNSENT", 0)
        assert (caught["statuses"][-1], caught["filled"]) in {ends, ("REJECTED", 0)}
    # The same processes all the while: nobody had to start them again.
    assert story["gateways"] == {"us": None, "eu": None}
    assert {host: len(writers) for host, writers in story["writers"].items()} == {"us": 1, "eu": 1}


def test_intent_of_two_legs_is_filled_by_two_hosts(story):
    pair = story["pairs"][-1]
    assert pair == {"state": "DONE", "reason": "FILLED", "standing": [SIZE, SIZE]}
    intent = story["intents"][len(story["pairs"]) - 1]
    first, second = (story["orders"][order] for order in story["granted"][intent])
    assert (first["filled"], second["filled"]) == (SIZE, SIZE)
    assert [writer.startswith(WRITER["eu"]) for writer in first["writers"]] == [True]
    assert [writer.startswith(WRITER["us"]) for writer in second["writers"]] == [True]


def test_accounts_grant_nothing_to_a_host_they_do_not_hear(story):
    assert story["cut"]["intent"] == ["REFUSED", "NOT_READY"]


def test_halt_said_on_one_host_takes_back_what_rests_on_both(story):
    halt = story["halt"]
    assert halt["open_before"] == {"us": 1, "eu": 1}
    assert halt["code"] == 0
    assert set(halt["gone_after_s"]) == {"us", "eu"}
    assert halt["afterwards"] == ["REFUSED", "HALTED"]
    assert [said["open"] for said in story["venues"].values()] == [[], []]


def test_nothing_is_sent_twice_and_nothing_filled_is_missed(story):
    for host, said in story["venues"].items():
        account = WRITER[host].partition("/")[0]
        told = [order for order in story["orders"].values() if account in order["accounts"]]
        assert set(said["attempts"].values()) == {1}
        names = [name for name, _ in said["arrived"]]
        assert len(names) == len(set(names)) == len(said["attempts"])
        assert len(names) <= sum(order["submittings"] for order in told)
        assert said["filled"] == sum(order["filled"] for order in told)
