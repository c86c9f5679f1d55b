"""How ``vde_vmnet run`` ends: statuses, refusals, signals, sudden ends; and what is left."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.daemon import wait_until, watch_end
from tests.system.running import ISOLATED, RUN, children, command_line, leftovers, network_name, run, started
from vde_vmnet.demo.watches import FileWatch


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("SUDO_UID", raising=False)  # the tests themselves may be run with sudo
    before = leftovers()
    yield
    assert leftovers() == before


# -- how it ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "status"), [("true", 0), ("exit 77", 77), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
)
def test_the_status_is_the_command_s(script: str, status: int) -> None:
    assert run(ISOLATED, "--", "sh", "-c", script).returncode == status


def test_commands_that_cannot_be_run(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("#!/no/such/interpreter\n")
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for name in ("no-such-command", "/no/such/command"):
        done = run(ISOLATED, "--", name)
        assert done.returncode == 127
        assert f'Cannot run "{name}": No such file' in done.stderr
    for name in ("plain", str(plain), "/etc"):
        done = run(ISOLATED, "--", name, environment=path)
        assert done.returncode == 126, done.stderr
        assert f'Cannot run "{name}": Permission denied' in done.stderr
        assert "network" not in done.stderr, "nothing was started for it"
    plain.chmod(0o755)
    assert run(ISOLATED, "--", str(plain)).returncode == 127
    plain.write_bytes(b"\x7fELF")
    done = run(ISOLATED, "--", str(plain))
    assert done.returncode == 126 and "Exec format error" in done.stderr


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (("ls",), 1, "There is no --, after which COMMAND stands"),
        (("--",), 1, "There is no COMMAND after --"),
        (("ls", "--", "ls"), 1, '"ls" is no option'),
        (("--nonsense", "--", "ls"), 1, "Unrecognized arguments: --nonsense"),
        (("--pidfile=x", "--", "ls"), 1, "--pidfile is not for vde_vmnet run"),
        (("--vmnet-mode=x", "--", "ls"), 1, 'Unknown vmnet mode "x"'),
        (("--mac=01:00:00:00:00:00", "--", "ls"), 1, "--mac: .* is a multicast address"),
        (("--fd-number=2", "--", "ls"), 1, '--fd-number "2" is not a number from 3 on'),
        (("--fd-number=99999999", "--", "ls"), 1, "--fd-number 99999999: "),
        (("--fd-type=tcp", "--", "ls"), 1, 'Unknown --fd-type "tcp".*stream, dgram'),
        (("--network=/x", ISOLATED, "--", "ls"), 1, "--backend=none is about a private network"),
        (("--network=/no/switch", "--", "ls"), 3, 'No VDE switch answers at "/no/switch"'),
        (("--user=no-such-user", "--", "ls"), 1, 'User "no-such-user" does not exist'),
        (("--", "qemu-system-x86_64", "-daemonize"), 1, "-daemonize puts QEMU in the background"),
    ],
)
def test_refused_with_one_clear_line(argv: Sequence[str], status: int, message: str) -> None:
    done = run(*argv)
    assert done.returncode == status
    assert re.search(message, done.stderr), done.stderr
    assert done.stderr.count("ERROR") == 1 and "Traceback" not in done.stderr


def test_networks_of_the_wrong_kind(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(os.fspath(tmp_path / "d"))
        done = run(f"--network={tmp_path / 'd'}", "--", "true")
        assert done.returncode == 1 and "is a socket of datagrams" in done.stderr, done.stderr
    done = run(f"--network={tmp_path / 'd'}", "--", "true")
    assert done.returncode == 3 and "Nobody serves at" in done.stderr, done.stderr
    done = run(f"--network={tmp_path}", "--fd-type=stream", "--", "true")
    assert done.returncode == 1 and "has no --fd-type=stream: it is a switch directory" in done.stderr


def test_a_private_network_that_cannot_be_says_why() -> None:
    done = run(ISOLATED, "--mgmt=/no/such/folder/mgmt", "--", "true")
    assert done.returncode == 1, done.stderr
    assert 'The private network could not be opened. --mgmt "/no/such/folder/mgmt"' in done.stderr


def test_the_daemon_s_words_can_be_kept(tmp_path: Path) -> None:
    assert run(ISOLATED, f"--log={tmp_path / 'log'}", "--", "true").returncode == 0
    said = (tmp_path / "log").read_text()
    assert "plugged in" in said and "Stopping" in said


# -- signals ------------------------------------------------------------------------------------------


def test_signals_are_passed_on() -> None:
    script = textwrap.dedent(
        """
        import signal, sys
        wanted = {getattr(signal, f"SIG{name}") for name in ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2")}
        signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
        print("ready", flush=True)
        while wanted:
            got = signal.sigwait(wanted)
            wanted.remove(got)
            print(got.name, flush=True)
        sys.exit(9)
        """
    )
    with started(sys.executable, "-c", script) as process:
        assert process.stdout is not None
        for name in ("SIGUSR1", "SIGHUP", "SIGINT", "SIGTERM", "SIGQUIT", "SIGUSR2"):
            process.send_signal(signal.Signals[name])
            assert process.stdout.readline().decode().strip() == name
        assert process.wait(10) == 9


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_minds_no_signal_dies_of_it(number: signal.Signals) -> None:
    with started("sh", "-c", "echo ready; exec cat") as process:
        process.send_signal(number)
        assert process.wait(10) == 128 + number


def test_control_c_at_the_terminal_arrives_once() -> None:
    script = textwrap.dedent(
        """
        import os, select, signal
        wakened, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGINT, lambda *_: None)
        assert os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
        print("ready", flush=True)
        select.select([wakened], [], [], 10)
        # One that is passed on would come right after it.
        select.select([], [], [], 0.5)
        raise SystemExit(len(os.read(wakened, 100)))
        """
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*RUN, ISOLATED, "--", sys.executable, "-c", script])  # noqa: S606 - the child of the terminal
    try:
        said = b""
        while b"ready" not in said:
            assert select.select([terminal], [], [], 20)[0]
            said += os.read(terminal, 1000)
        os.write(terminal, b"\x03")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1, said
    finally:
        os.close(terminal)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_network_starts_ends_it(number: signal.Signals) -> None:
    # The daemon claims its pidfile first of all.
    folder = Path("/run") if os.geteuid() == 0 else Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp"))
    with (
        FileWatch(folder) as watch,
        subprocess.Popen([*RUN, ISOLATED, "--", "cat"]) as process,
    ):
        while not list(folder.glob(".vde_vmnet-run-*")):
            assert select.select([watch.fd], [], [], 10)[0]
            watch.drain()
        process.send_signal(number)
        assert process.wait(20) == 128 + number


# -- sudden ends --------------------------------------------------------------------------------------


def test_kill_9_of_run_takes_everything_along() -> None:
    before = leftovers()
    with started("sh", "-c", "trap '' TERM INT HUP; echo ready; cat") as process:
        everybody = children(process.pid)
        everybody += [one for pid in everybody if "vde_vmnet" in command_line(pid) for one in children(pid)]
        assert len(everybody) == (3 if os.geteuid() == 0 else 2)
        waits = [watch_end(pid) for pid in everybody]
        process.kill()
        for wait in waits:
            wait()
    wait_until(lambda: leftovers() == before, "nothing is left")


def test_a_command_survives_its_network() -> None:
    script = "echo ready; read line; exit 8"
    with started("sh", "-c", script) as process:
        assert process.stdin is not None and process.stderr is not None
        (daemon,) = [pid for pid in children(process.pid) if "vde_vmnet" in command_line(pid)]
        name = network_name(command_line(daemon))
        ends = [watch_end(pid) for pid in (daemon, *children(daemon))]
        os.kill(daemon, signal.SIGKILL)
        for end in ends:
            end()
        said = b""
        while b"ERROR" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        assert b"The network is gone" in said
        process.stdin.write(b"\n")
        assert process.wait(10) == 8
    # kill -9 of a daemon leaves its files: they are the next one's to find, and here the test's.
    left = [Path(path) for path in leftovers() if name in path]
    assert left
    for path in left:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_help_names_every_option() -> None:
    done = run("--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: vde_vmnet run [OPTION]... -- COMMAND")
    for option in ("network", "private", "name", "mac", "fd-number", "fd-type", "netdev-id", "user", "log"):
        assert f"--{option}" in done.stdout
