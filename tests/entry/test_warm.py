"""Programs in forks of one process end by themselves, by Ctrl-C, and with their client."""

import os
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest
from program import ROOT, execute

SLEEP = """
import os, time
from base import entry
with entry():
    print(os.getpid(), flush=True)
    time.sleep(60)
"""


def started():
    """A client whose fork sleeps, and the fork's id."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    client = subprocess.Popen(["python", "-c", SLEEP], **pipes, text=True, cwd=ROOT)
    return client, int(client.stdout.readline())


def test_forks_have_the_words_folder_environment_and_code(tmp_path):
    (tmp_path / "say.py").write_text(
        "import os, sys\nprint(sys.argv, os.getcwd(), os.environ['ODD'], 'torch' in sys.modules)\n"
        "sys.exit(7)\n"
    )
    done = subprocess.run(
        ["python", "say.py", "a b"], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "ODD": "x y"},
    )  # fmt: skip
    assert done.returncode == 7
    assert done.stdout == f"['say.py', 'a b'] {tmp_path} x y True\n"


def test_ctrl_c_reaches_the_fork_once():
    client, _ = started()
    client.send_signal(signal.SIGINT)
    errors = client.communicate(timeout=30)[1]
    assert client.returncode == 130
    assert errors == "interrupted; run the same command to continue\n"


def test_ctrl_c_before_the_fork_is_known_reaches_it(tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        fork = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        line = [sys.executable, "-SE", "script/warm.py", "run", path, "-c", "pass"]
        client = subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        connection, _ = listener.accept()
        with connection:
            for stream in socket.recv_fds(connection, 1 << 20, 3)[1]:
                os.close(stream)
            client.send_signal(signal.SIGINT)
            time.sleep(0.2)  # a client that did not wait would end now
            connection.send(struct.pack("!i", fork.pid))
            assert fork.wait(timeout=30) != 0
            connection.send(struct.pack("!i", 130))
        assert client.communicate(timeout=30)[1] == "" and client.returncode == 130


def test_a_fork_ends_with_its_client():
    client, fork = started()
    client.kill()
    client.wait()
    for _ in range(100):
        try:
            os.kill(fork, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the fork goes on")


def test_without_a_server_it_is_python(tmp_path):
    words = [sys.executable, "-SE", "script/warm.py", "run", str(tmp_path / "none")]
    assert execute([*words, "-c", "print(6 * 7)"]).stdout == "42\n"
