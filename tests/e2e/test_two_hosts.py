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
WRITER = {"us": "kalshi:main/us/", "eu": "polymarket:main/eu/"}


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Play the story in a lab of its own, which ends with the process that tells it."""
    reason = why_not()
    if reason:
        pytest.skip(f"no hosts of our own on this machine: {reason}")
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


def test_account_of_the_other_venue_is_refused_at_the_start(story):
    assert story["misplaced"]["code"] == 2
    assert "holds no kalshi account 'main'" in story["misplaced"]["words"]


def test_host_that_is_cut_off_takes_back_what_rests_and_sends_nothing(story):
    cut = story["cut"]
    assert story["open"] == {"us": 1, "eu": 1}
    # It notices by the age of the last Beat, which is older than the cut by less than one.
    assert NOTICE_S - 0.5 < cut["resting_gone_after_s"] < NOTICE_S + 2.0
    assert cut["sent_meanwhile"] == 0
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
    # The same processes all the while: nobody had to start them again.
    assert story["gateways"] == {"us": None, "eu": None}
    assert {host: len(writers) for host, writers in story["writers"].items()} == {"us": 1, "eu": 1}


def test_nothing_is_sent_twice(story):
    for host, said in story["venues"].items():
        assert set(said["attempts"].values()) == {1}
        granted = [
            order
            for order, told in story["orders"].items()
            if told["submittings"] and WRITER[host][:-4] in told["accounts"]
        ]
        assert len(said["attempts"]) == len(granted)
        names = [name for name, _ in said["arrived"]]
        assert len(names) == len(set(names)) == len(granted)
