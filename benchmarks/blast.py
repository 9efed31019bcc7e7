"""A WebSocket server of one connection that sends prepared Kalshi frames as fast as they are taken.

A process of its own: what is measured must not share its interpreter with what feeds it. It prints its port, waits for
the handshake and the first command, sends, and waits until the other side closes.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import socket
import sys

from benchmarks.samples import MARKETS, kalshi_frames

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLOSE_HEAD = 0x88
_TIMEOUT_S = 60.0
_BLOCK_BYTES = 262_144


def framed(payload: bytes) -> bytes:
    """Return one unmasked text frame (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    return bytes((0x81, 126)) + size.to_bytes(2, "big") + payload


def answer(request: bytes) -> bytes:
    """Return the answer to an upgrade."""
    headers = dict(line.split(b": ", 1) for line in request.split(b"\r\n")[1:] if b": " in line)
    key = {name.lower(): value for name, value in headers.items()}[b"sec-websocket-key"]
    accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


def serve(count: int) -> None:
    """Serve one connection."""
    subscribed = b'{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}'
    stream = b"".join(framed(frame) for frame in (subscribed, *kalshi_frames(count)))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(_TIMEOUT_S)
        print(server.getsockname()[1], flush=True)
        connection, _ = server.accept()
    with connection:
        connection.settimeout(_TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(4096)
        connection.sendall(answer(request))
        connection.recv(65_536)  # the subscription
        for start in range(0, len(stream), _BLOCK_BYTES):
            connection.sendall(memoryview(stream)[start : start + _BLOCK_BYTES])
        with contextlib.suppress(ConnectionResetError):
            while (said := connection.recv(65_536)) and said[0] != _CLOSE_HEAD:
                pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.blast", description=f"Changes of {MARKETS} books.")
    parser.add_argument("count", type=int)
    serve(parser.parse_args().count)
    sys.exit(0)
