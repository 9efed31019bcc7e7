"""`python -m simulate` as a process: ready file, truth log, SIGTERM."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import websockets

from venues.kalshi.auth import Signer

START_S = 20.0


def start(tmp_path: Path, credentials_file: Path, **settings) -> tuple[subprocess.Popen, dict]:
    config = tmp_path / "config.json"
    ready_file = tmp_path / "ready.json"
    config.write_text(
        json.dumps({"links_file": str(tmp_path / "links.json"), "truth_dir": str(tmp_path / "truth"), **settings})
    )
    command = [sys.executable, "-m", "simulate", "--config", str(config), "--ready-file", str(ready_file)]
    command += ["--credentials-file", str(credentials_file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + START_S
    while not ready_file.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return process, json.loads(ready_file.read_text()) if ready_file.exists() else {}


def test_truth_names_every_frame_a_client_received(tmp_path, credentials_file):
    process, ready = start(tmp_path, credentials_file, markets=5, messages_per_s=500)
    received: dict[str, list[str]] = {"kalshi": [], "polymarket": []}

    pairs = json.loads(Path(ready["links_file"]).read_text())["links"]
    assert len(pairs) == 5
    key = next(key for key in json.loads(credentials_file.read_text())["kalshi"] if key["key_type"] == "rsa")

    async def listen() -> None:
        signer = Signer.from_pem(key["key_id"], key["private_key_pem"])
        headers = signer.headers("GET", "/trade-api/ws/v2", time.time_ns() // 1_000_000)
        tickers = [pair["kalshi"]["ticker"] for pair in pairs]
        tokens = [pair["polymarket"]["yes_token_id"] for pair in pairs]
        async with (
            websockets.connect(ready["kalshi"]["ws_url"], additional_headers=headers) as kalshi,
            websockets.connect(ready["polymarket"]["ws_market_url"]) as polymarket,
            aiohttp.ClientSession() as session,
        ):
            params = {"channels": ["orderbook_delta", "trade"], "market_tickers": tickers, "use_yes_price": True}
            await kalshi.send(json.dumps({"id": 1, "cmd": "subscribe", "params": params}))
            await polymarket.send(json.dumps({"type": "market", "assets_ids": tokens}))

            async def read(name: str, socket) -> None:
                async for text in socket:
                    received[name].append(hashlib.sha1(text.encode()).hexdigest())

            readers = [asyncio.create_task(read("kalshi", kalshi)), asyncio.create_task(read("polymarket", polymarket))]
            await asyncio.sleep(1.0)
            async with session.post(ready["sim_url"] + "/sim/flow", json={"running": False}) as response:
                assert response.status == 200
            await asyncio.sleep(0.3)
            async with session.get(ready["sim_url"] + "/sim/frames?venue=kalshi&connection=1") as response:
                lines = (await response.text()).splitlines()
            assert [json.loads(line)[5] for line in lines] == received["kalshi"]
            async with session.get(ready["sim_url"] + "/sim/stats") as response:
                stats = await response.json()
            assert stats["frames_sent"] == {name: len(frames) for name, frames in received.items()}
            # The server says good-bye by itself on SIGTERM.
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(asyncio.gather(*readers), 10)

    try:
        asyncio.run(listen())
        assert process.wait(10) == 0
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        assert process.stderr is not None
        process.stderr.close()
    assert not (tmp_path / "ready.json").exists()
    for name, frames in received.items():
        lines = [json.loads(line) for line in (tmp_path / "truth" / f"frames-{name}.jsonl").read_text().splitlines()]
        assert len(frames) > 50
        assert [line[5] for line in lines] == frames
        assert [line[1] for line in lines] == list(range(1, len(frames) + 1))
    accounts = json.loads((tmp_path / "truth" / "accounts.json").read_text())
    assert [account["cash_e6"] for account in accounts["polymarket"]] == [100_000_000_000] * 2
    events = [json.loads(line)["event"] for line in (tmp_path / "truth" / "connections.jsonl").read_text().splitlines()]
    assert sorted(events) == ["closed", "closed", "opened", "opened"]


def test_a_script_of_faults_runs_with_the_process(tmp_path, credentials_file):
    process, ready = start(tmp_path, credentials_file, markets=2, faults="seed:1", faults_s=30)
    try:
        assert ready
        faults = tmp_path / "truth" / "faults.jsonl"
        deadline = time.monotonic() + START_S
        # The first fault of this seed finds no client five seconds after the start.
        while not faults.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert json.loads(faults.read_text().splitlines()[0])["event"] == "skipped"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        process.stderr.close()


def test_a_wrong_script_of_faults_ends_with_code_two(tmp_path, credentials_file):
    process, ready = start(tmp_path, credentials_file, faults="seed:many")
    assert (process.wait(START_S), ready) == (2, {})
    assert b"seed:N" in process.stderr.read()
    process.stderr.close()


def test_wrong_settings_end_with_code_two_and_one_line(tmp_path, credentials_file):
    process, ready = start(tmp_path, credentials_file, drive=str(tmp_path / "missing.csv"))
    assert process.wait(START_S) == 2
    assert process.stderr is not None
    message = process.stderr.read().decode()
    process.stderr.close()
    assert ready == {}
    assert message.count("\n") == 1
    assert "does not exist" in message
