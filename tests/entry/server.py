"""Run programs in forks of a process that has imported torch and timm: python server.py SOCKET.

Importing takes a program seconds, and a chain starts twenty of them. This file is also the client:
with SEEDSEG_SERVER=SOCKET, `python server.py WORDS` does what `python WORDS` does.
"""

import json
import os
import runpy
import select
import signal
import socket
import sys


def execute(words: list[str]) -> None:
    """Do what `python WORDS` does, for a file, -m, -c and - (the standard input)."""
    if words[0] == "-":
        words = ["-c", sys.stdin.read(), *words[1:]]
    if words[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *words[2:]], ""
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    elif words[0] == "-m":
        sys.argv, sys.path[0] = words[1:], os.getcwd()
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = words, os.path.dirname(os.path.abspath(words[0]))
        runpy.run_path(words[0], run_name="__main__")


def work(connection: socket.socket) -> int:
    """Take a command's words, folder, environment and streams; run it; returns its exit code."""
    message, streams, *_ = socket.recv_fds(connection, 1 << 20, 3)
    words, folder, environment = json.loads(message)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        execute(words)
        return 0
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def serve(path: str) -> None:
    """Answer every connection in a fork, until the standard input ends."""
    import tensorboardX  # noqa: F401
    import timm  # noqa: F401
    import torch
    import torch._dynamo  # every optimizer imports it
    import tyro  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    torch.set_num_threads(1)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                code = work(connection)
                connection.send(bytes([code & 255]))
                os._exit(code)
            connection.close()


def ask(words: list[str]) -> int:
    """Have the server run a command with this process's streams; returns its exit code."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["SEEDSEG_SERVER"])
        message = json.dumps([words, os.getcwd(), dict(os.environ)]).encode()
        socket.send_fds(connection, [message], [0, 1, 2])
        answer = connection.recv(1)
    return answer[0] if answer else 1


if __name__ == "__main__":
    if "SEEDSEG_SERVER" in os.environ:
        sys.exit(ask(sys.argv[1:]))
    serve(sys.argv[1])
