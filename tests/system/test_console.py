"""The console of a running daemon, with a bare socket and with Debian's vdeterm, unixterm and unixcmd."""

import os
import pty
import re
import select
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.vde_peer import VdePeer, frame
from tests.support.vde_switch import VdeSwitch
from vde_vmnet.demo.daemon_process import DaemonProcess

PROMPT = b"\nvde$ "


@pytest.fixture
def daemon() -> Iterator[DaemonProcess]:
    with tempfile.TemporaryDirectory(prefix="vde-") as name:
        place = Path(name)
        # The service user makes the console's socket here.
        place.chmod(0o777)
        with DaemonProcess(
            place / "sw",
            ("--backend=none", f"--vde-group={os.getegid()}", f"--mgmt={place / 'mgmt'}"),
            pidfile=place / "pid",
            log=place / "log",
        ) as process:
            process.wait_ready()
            yield process
        assert process.process.returncode == 0, process.words()
        assert [entry.name for entry in place.iterdir()] == ["log"]


def mgmt(daemon: DaemonProcess) -> Path:
    return daemon.directory.with_name("mgmt")


class Terminal:
    """A bare connection, at its first prompt."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(os.fspath(mgmt(daemon)))
        self.banner = self.until(PROMPT)

    def until(self, end: bytes) -> bytes:
        data = b""
        while not data.endswith(end):
            piece = self.socket.recv(4096)
            assert piece, data
            data += piece
        return data

    def ask(self, line: str) -> str:
        self.socket.send(line.encode() + b"\n")
        return self.until(PROMPT).decode()


def test_what_is_plugged_in_and_learned_is_shown(daemon: DaemonProcess) -> None:
    terminal = Terminal(daemon)
    assert terminal.banner.startswith(b"VDE switch V.")
    assert f"pid {daemon.process.pid} " in terminal.ask("showinfo")
    with VdePeer(daemon.directory, port=3, description="three") as three, VdePeer(daemon.directory) as one:
        three.send(frame(-1, 3, b"hello"))
        one.receive()
        shown = terminal.ask("port/print")
        assert re.search(r"Port 0003 .*\n.*\n IN:  pkts          1 .* 60\n.*\n  -- endpoint .*three", shown)
        assert "to port: 003" in terminal.ask("hash/find 02:00:00:00:00:03")
    terminal.socket.send(b"logout\n")
    assert terminal.until(b"9999 END OF SESSION") and terminal.socket.recv(1) == b""
    terminal.socket.close()


def test_it_is_for_its_owner_alone(daemon: DaemonProcess) -> None:
    assert stat.S_IMODE(mgmt(daemon).stat().st_mode) == 0o600


def test_shutdown_ends_the_daemon(daemon: DaemonProcess) -> None:
    terminal = Terminal(daemon)
    terminal.socket.send(b"shutdown\n")
    terminal.until(b"9999 END OF SESSION")
    terminal.socket.close()
    assert daemon.process.wait(10) == 0


def test_hostile_clients_cost_only_themselves(daemon: DaemonProcess) -> None:
    patient = Terminal(daemon)
    rude = [Terminal(daemon) for _ in range(15)]
    with socket.socket(socket.AF_UNIX) as seventeenth:
        seventeenth.connect(os.fspath(mgmt(daemon)))
        seventeenth.settimeout(10)
        assert seventeenth.recv(100) == b""
    rude[0].socket.sendall(os.urandom(100_000))
    rude[1].socket.setblocking(False)
    try:
        while True:
            rude[1].socket.send(b"help\n" * 20)  # and never reads
    except BlockingIOError:
        assert "1000 Success" in patient.ask("port/showinfo")
    for terminal in (patient, *rude):
        terminal.socket.close()


def test_unixcmd_with_its_own_script(daemon: DaemonProcess, tmp_path: Path) -> None:
    """As with vde_switch, to the exit status, which is 255 with either for this version of unixcmd."""

    def run(console: Path, command: str) -> tuple[int, list[str]]:
        argv = ["unixcmd", "-s", str(console), "-f", "/etc/vde2/vdecmd", command]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
        return done.returncode, done.stdout.replace("\0", "").splitlines()

    with VdeSwitch(tmp_path / "sw", "-M", str(tmp_path / "mgmt"), "-n", "4096") as switch:
        theirs = switch.directory.with_name("mgmt")
        assert run(mgmt(daemon), "port/showinfo") == run(theirs, "port/showinfo")
        assert run(mgmt(daemon), "nonsense") == run(theirs, "nonsense")
    assert run(mgmt(daemon), "ds/showinfo")[1] == [f"ctl dir {daemon.directory}", "std mode 0660"]


@pytest.mark.parametrize("program", ["vdeterm", "unixterm"])
def test_interactive_programs(daemon: DaemonProcess, program: str) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen([program, str(mgmt(daemon))], stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = b""

        def until(end: bytes) -> None:
            nonlocal said
            while end not in said:
                assert select.select([ours], [], [], 10)[0], said
                said += os.read(ours, 4096)

        until(b"vde[" if program == "vdeterm" else b"vde$ ")
        os.write(ours, b"ds/showinfo\n")
        until(f"ctl dir {daemon.directory}".encode())
        until(b"Success")
        os.write(ours, b"logout\n")
        process.wait(10)
    os.close(ours)
