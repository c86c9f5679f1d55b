"""``vde_vmnet run`` with commands that are not QEMU: what they find, and as whom."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.package import package_for_all
from tests.support.stream_peer import StreamPeer
from tests.support.vde_peer import VdePeer
from tests.system.running import ISOLATED, RUN, leftovers, run
from vde_vmnet.cli import run as command_line_of_run
from vde_vmnet.demo.daemon_process import DaemonProcess
from vde_vmnet.launch.identity import Account, command_account

#: Says hello on its descriptor and ends with the status that is the answer's first byte.
PEER = """
import os, socket, sys
one = socket.socket(fileno=int(os.environ["VDE_VMNET_FD"]))
one.settimeout(10)
framed = os.environ["VDE_VMNET_FD_TYPE"] == "stream"
source = bytes.fromhex(os.environ["VDE_VMNET_MAC"].replace(":", ""))
hello = b"\\xff" * 6 + source + b"\\x88\\xb5" + b"hello".ljust(46, b"\\0")
one.sendall(len(hello).to_bytes(4, "big") + hello if framed else hello)
answer = one.recv(2000)[4 if framed else 0:]
sys.exit(answer[14])
"""


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("SUDO_UID", raising=False)  # the tests themselves may be run with sudo
    before = leftovers()
    yield
    assert leftovers() == before


@pytest.mark.parametrize("kind", ["stream", "dgram"])
def test_a_command_is_on_a_private_network(kind: str) -> None:
    script = textwrap.dedent(
        """
        import os, subprocess, sys
        from vde_vmnet import Plug
        with Plug(os.environ["VDE_VMNET_NETWORK"]) as other:
            peer = subprocess.Popen([sys.executable, "-c", sys.argv[1]], pass_fds=(3,))
            hello = other.receive(timeout=10)
            assert hello[6:12].hex(":") == os.environ["VDE_VMNET_MAC"] == "02:00:00:00:00:07"
            other.send(hello[6:12] + b"\\2" * 6 + b"\\x88\\xb5" + bytes([42]) * 46)
            sys.exit(peer.wait(10))
        """
    )
    done = run(
        ISOLATED, f"--fd-type={kind}", "--mac=02-00-00-00-00-07", "--", sys.executable, "-c", script, PEER
    )
    assert done.returncode == 42, done.stderr


def answer(peer: StreamPeer | VdePeer, status: int) -> str:
    """Wait for the hello and answer it; the sender's address."""
    (hello,) = peer.receive()
    assert hello[12:19] == b"\x88\xb5hello"
    peer.send(hello[6:12] + b"\2" * 6 + b"\x88\xb5" + bytes([status]) * 46)
    return hello[6:12].hex(":")


@pytest.mark.parametrize(("place", "number"), [("sw", 3), ("sw[9]", 3), ("stream", 3), ("sw", 200)])
def test_a_command_is_on_a_running_network(tmp_path: Path, place: str, number: int) -> None:
    with DaemonProcess(
        tmp_path / "sw",
        (ISOLATED, f"--vde-group={os.getegid()}", f"--stream={tmp_path / 'stream'}"),
        pidfile=tmp_path / "pid",
        log=tmp_path / "log",
    ) as daemon:
        daemon.wait_ready()
        options = (f"--network={tmp_path / place}", "--name=one", f"--fd-number={number}")
        addresses = set()
        for status in (0, 9):
            with (
                StreamPeer(tmp_path / "stream", timeout=10) as peer,
                subprocess.Popen([*RUN, *options, "--", sys.executable, "-c", PEER]) as command,
            ):
                addresses.add(answer(peer, status))
                assert command.wait(10) == status
        assert len(addresses) == 1, "a VM's address stays"
        said = daemon.log.read_text()
        assert ("port 9 " in said) == (place == "sw[9]")
        assert len(re.findall(r"run \d+\) unplugged", said)) == (0 if place == "stream" else 2)
        assert daemon.process.poll() is None


def test_the_terminal_and_other_descriptors_are_the_command_s(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, sys
        os.write(int(sys.argv[1]), b"hello")
        os.write(2, b"error")
        os.write(1, os.read(0, 100))
        """
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = subprocess.run(
            [*RUN, ISOLATED, "--fd-number=60", "--", sys.executable, "-c", script, str(theirs.fileno())],
            input=b"from standard input",
            pass_fds=(theirs.fileno(),),
            capture_output=True,
            check=True,
            timeout=30,
        )
        assert done.stdout == b"from standard input"
        assert done.stderr.endswith(b"\nerror")
        assert ours.recv(10) == b"hello"


def test_a_descriptor_that_somebody_hands_on_is_not_taken() -> None:
    read, write = os.pipe()
    try:
        command = ["sh", "-c", f"{shutil.which('true')} <&{read}"]
        taken = subprocess.run(
            [*RUN, ISOLATED, f"--fd-number={read}", "--", *command],
            pass_fds=(read,),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        os.close(read)
        os.close(write)
    assert taken.returncode == 1
    assert f"Descriptor {read} is open already" in taken.stderr and "--fd-number" in taken.stderr


@pytest.mark.parametrize(("mode", "running"), [("0777", True), ("0700", False)])
def test_the_usual_network_if_there_is_one_for_this_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, running: bool
) -> None:
    assert usual(tmp_path / "sw", monkeypatch) is None
    with DaemonProcess(
        tmp_path / "sw", (ISOLATED, f"--vde-mode={mode}"), pidfile=tmp_path / "pid", log=tmp_path / "log"
    ) as daemon:
        daemon.wait_ready()
        account = command_account("daemon", {}) if os.geteuid() == 0 else None
        expected = str(tmp_path / "sw") if running or account is None else None
        assert usual(tmp_path / "sw", monkeypatch, account) == expected


def usual(place: Path, monkeypatch: pytest.MonkeyPatch, account: Account | None = None) -> str | None:
    monkeypatch.setattr(command_line_of_run, "DEFAULT_NETWORK", place)
    return command_line_of_run._usual_network(account)


# -- as whom ------------------------------------------------------------------------------------------


@pytest.mark.root
def test_under_sudo_the_command_is_the_caller_s(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, sys
        assert os.getresuid() == (1, 1, 1) and os.getresgid() == (1, 1, 1), os.getresuid()
        assert 0 not in os.getgroups()
        assert os.environ["USER"] == "daemon" and "SUDO_UID" not in os.environ
        status = open("/proc/self/status").read()
        assert "CapEff:\\t0000000000000000" in status and "CapPrm:\\t0000000000000000" in status
        assert os.stat(os.environ["VDE_VMNET_NETWORK"]).st_uid == 1
        """
    )
    environment = {"SUDO_UID": "1", "SUDO_USER": "daemon"}
    done = run(ISOLATED, "--", "/usr/bin/python3", "-c", script, environment=environment)
    assert done.returncode == 0, done.stderr
    assert "runs as root" not in done.stderr
    done = run(ISOLATED, "--user=root", "--", "id", "-u", environment=environment)
    assert done.stdout == "0\n" and "runs as root" not in done.stderr
    assert "runs as root" in run(ISOLATED, "--", "true").stderr


@pytest.mark.root
def test_under_sudo_a_running_network_admits_the_caller_not_root(tmp_path: Path) -> None:
    with DaemonProcess(
        tmp_path / "sw",
        (ISOLATED, "--vde-mode=0700", "--user=nobody", f"--stream={tmp_path / 'stream'}"),
        pidfile=tmp_path / "pid",
        log=tmp_path / "log",
    ) as daemon:
        daemon.wait_ready()
        for place in ("sw", "stream"):
            refused = run(f"--network={tmp_path / place}", "--", "true", environment={"SUDO_UID": "1"})
            assert refused.returncode == 4, refused.stderr
            assert f'This user may not use "{tmp_path / place}"' in refused.stderr
            assert run(f"--network={tmp_path / place}", "--", "true").returncode == 0


@pytest.fixture
def package() -> Iterator[Path]:
    with package_for_all() as place:
        yield place


@pytest.mark.root
def test_an_ordinary_user_has_a_network_of_his_own(package: Path) -> None:
    command = [
        *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"),
        *("/usr/bin/python3", "-m", "vde_vmnet", "run"),
    ]

    def as_nobody(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *argv],
            capture_output=True,
            text=True,
            timeout=30,
            cwd="/",
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(package)},
            check=False,
        )

    done = as_nobody("--", "sh", "-c", 'id -u; echo "$VDE_VMNET_NETWORK"; exit 5')
    assert done.returncode == 5, done.stderr
    assert re.fullmatch(r"65534\n(/var)?/tmp/vde_vmnet-run-[0-9a-f]{8}\n", done.stdout)
    assert "isolated" not in done.stderr
    assert as_nobody("--vmnet-gateway=192.168.105.1", "--", "true").returncode == 0
    asked = as_nobody("--backend=linux", "--", "true")
    assert asked.returncode == 4
    assert as_nobody("--user=root", "--", "true").returncode == 4
