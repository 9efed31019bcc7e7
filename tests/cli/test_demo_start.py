"""A demo that cannot start says why in one line, on a machine that has never run one."""

import os
import socket
import subprocess
import sys

from infra.stack.settings import PROJECT


def test_a_taken_port_on_a_fresh_machine_is_one_line_and_exit_code_2(tmp_path):
    data = tmp_path / "never-used"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "infra.cli", "demo", "--seconds", "1"],
            cwd=PROJECT,
            env={**os.environ, "CROSSBOOK_STACK_DATA": str(data), "CROSSBOOK_STACK_KAFKA_PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert done.returncode == 2, done.stderr
    assert f"port {port} (kafka) is taken" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
