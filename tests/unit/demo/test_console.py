"""The command channel, joined to a guest's side made here."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from vde_vmnet.demo.console import CommandChannel, CommandResult, parse_answer
from vde_vmnet.demo.errors import GuestError, GuestTimeoutError
from vde_vmnet.demo.guest_init import READY


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


Answer = Callable[[int, str], bytes]


@contextmanager
def guest(
    answer: Answer, *, greeting: bytes = f"{READY}\r\n".encode(), piece: int = 1 << 16
) -> Iterator[CommandChannel]:
    """A channel to a thread that answers each request with what ``answer`` makes of it, in pieces."""
    ours, theirs = socket.socketpair()

    def send(data: bytes) -> None:
        for start in range(0, len(data), piece):
            theirs.sendall(data[start : start + piece])

    def serve() -> None:
        with theirs:
            send(greeting)
            for line in theirs.makefile("rb"):
                number, _, command = line.split()
                reply = answer(int(number), base64.b64decode(command).decode())
                if not reply:
                    return
                send(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    channel = CommandChannel(ours)
    try:
        yield channel
    finally:
        channel.close()
        thread.join()


def echo(number: int, command: str) -> bytes:
    return f"{number} 3 {encoded(command)}\n".encode()


@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
def test_a_command_comes_back_whole_and_in_pieces(piece: int) -> None:
    with guest(echo, greeting=f"noise\n{READY}\n".encode(), piece=piece) as channel:
        channel.wait_ready(5)
        for command in ("true", "echo 'ä \\ \"' \n second line", "x" * 100_000):
            assert channel.run(command, 5) == CommandResult(3, command)


def test_an_answer_that_came_too_late_is_passed_over() -> None:
    def answer(number: int, command: str) -> bytes:
        return b"0 0 \n" + echo(number, command)

    with guest(answer) as channel:
        channel.wait_ready(5)
        assert channel.run("now", 5).output == "now"
        assert channel.run("again", 5).output == "again"


def test_output_that_is_no_text_is_kept_readable() -> None:
    def answer(number: int, _command: str) -> bytes:
        return f"{number} 0 {base64.b64encode(bytes([255, 65])).decode()}\n".encode()

    with guest(answer) as channel:
        channel.wait_ready(5)
        assert channel.run("cat binary", 5).output == "\ufffdA"


def test_a_guest_that_ends_is_noticed_at_once() -> None:
    with guest(lambda _number, _command: b"") as channel:
        channel.wait_ready(5)
        with pytest.raises(GuestError, match='ended while it was waited for to answer "reboot"'):
            channel.run("reboot", 60)


def test_a_guest_that_never_boots_is_given_up() -> None:
    with (
        guest(echo, greeting=b"panic\n") as channel,
        pytest.raises(GuestTimeoutError, match="too long to boot"),
    ):
        channel.wait_ready(0.05)


def test_a_killed_command_is_a_timeout_that_says_what_it_had_written() -> None:
    def answer(number: int, _command: str) -> bytes:
        return f"{number} 137 {encoded('so far')}\n".encode()

    with guest(answer) as channel:
        channel.wait_ready(5)
        with pytest.raises(
            GuestTimeoutError, match='"sleep 9" was still running in the guest after 1 s: so far'
        ):
            channel.run("sleep 9", 1)


def test_garbage_is_said_to_be_garbage() -> None:
    with guest(lambda _number, _command: b"Segmentation fault\n") as channel:
        channel.wait_ready(5)
        with pytest.raises(GuestError, match="cannot be read"):
            channel.run("true", 5)


@pytest.mark.parametrize("line", [b"", b"1", b"1 0", b"x 0 eA==", b"1 x eA==", b"1 0 e=A", b"1 0 \xff"])
def test_what_is_no_answer_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        parse_answer(line)


def test_an_empty_output_is_an_answer() -> None:
    assert parse_answer(b"12 0 ") == (12, CommandResult(0, ""))
