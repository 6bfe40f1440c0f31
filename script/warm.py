"""Start the programs of a chain in forks of one process, which imports torch and timm once.

python script/warm.py serve SOCKET MODULE...: imports the modules, then answers until its standard
input ends. python script/warm.py run SOCKET WORDS...: does what `python WORDS` does, in a fork with
fresh state; without a server it becomes that python. Linux alone.
"""

import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import sys
import threading
import warnings
from contextlib import suppress

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that the client hands on to its fork."""


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
    os.setsid()  # Ctrl-C reaches the client, which hands it on, once
    message, streams, *_ = socket.recv_fds(connection, 1 << 20, 3)
    words, folder, environment = json.loads(message)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    connection.send(struct.pack("!i", os.getpid()))
    threading.Thread(target=end_with, args=(connection,), daemon=True).start()
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


def end_with(connection: socket.socket) -> None:
    """End this process when its client has gone."""
    with suppress(ConnectionResetError):  # it has gone, too
        connection.recv(1)
    os.killpg(0, signal.SIGKILL)


def serve(path: str, modules: list[str]) -> None:
    """Answer every connection in a fork, until the standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(path)
        except FileNotFoundError:  # the chain has ended, and its folder with it
            return
        listener.listen(64)  # clients may come while the modules are imported
        for name in modules:
            with suppress(ImportError):  # the program that needs it says so
                importlib.import_module(name)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            with warnings.catch_warnings():  # Python 3.12 warns of the threads of NumPy
                warnings.simplefilter("ignore", DeprecationWarning)
                fork = os.fork()
            if fork == 0:
                listener.close()
                code = work(connection)
                connection.send(struct.pack("!i", code))
                os._exit(code & 255)
            connection.close()
    with suppress(OSError):  # the chain made the folder for the sockets
        os.unlink(path)
        os.rmdir(os.path.dirname(path))


def ask(path: str, words: list[str]) -> int:
    """Have the server run a command with this process's streams; returns its exit code."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
        except OSError:  # no server: do it alone
            os.execvp("python", ["python", *words])
        # A signal that comes before the fork's number is known waits for it.
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        message = json.dumps([words, os.getcwd(), dict(os.environ)]).encode()
        socket.send_fds(connection, [message], [0, 1, 2])
        answer = connection.recv(4)
        if not answer:
            print("error: the process that starts programs has ended", file=sys.stderr)
            return 1
        (fork,) = struct.unpack("!i", answer)
        for number in FORWARDED:
            signal.signal(number, lambda number, _: os.kill(fork, number))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        answer = connection.recv(4)
    return struct.unpack("!i", answer)[0] & 255 if answer else 1


if __name__ == "__main__":
    role, path, *rest = sys.argv[1:]
    if role == "run":
        sys.exit(ask(path, rest))
    serve(path, rest)
