"""socket_vmnet and socket_vmnet_client as Lima calls them: command lines, pidfile, stop command, sudoers."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import wait_until
from tests.support.netns import Namespace
from tests.support.stream_peer import StreamPeer, framed
from tests.support.vde_peer import frame
from vde_vmnet.demo.accounts import unprivileged_account

BIN = Path(sys.executable).parent
SERVER, CLIENT = BIN / "socket_vmnet", BIN / "socket_vmnet_client"


@pytest.fixture
def var_run() -> Iterator[Path]:
    """Lima's paths.varRun."""
    with tempfile.TemporaryDirectory(prefix="lima-") as name:
        Path(name).chmod(0o775)
        yield Path(name)


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, argv)), check=False, capture_output=True, text=True, timeout=20)


@pytest.mark.root
@pytest.mark.parametrize("mode", ["shared", "host"])
def test_lima_s_start_and_stop_commands(host: Namespace, var_run: Path, mode: str) -> None:
    group = unprivileged_account().group
    pidfile, path = var_run / f"{mode}_socket_vmnet.pid", var_run / f"socket_vmnet.{mode}"
    command = (
        f"{SERVER} --pidfile={pidfile} --socket-group={group} --vmnet-mode={mode}"
        " --vmnet-gateway=192.168.105.1 --vmnet-dhcp-end=192.168.105.254 --vmnet-mask=255.255.255.0"
        f" {path}"
    )
    daemon = subprocess.Popen(
        host.command(*command.split()), cwd=var_run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: pidfile.exists() or daemon.poll() is not None, "the pidfile is there", 20)
        pid = int(pidfile.read_text().strip())
        os.kill(pid, 0)  # alive
        assert oct(path.stat().st_mode & 0o777) == "0o770" and path.group() == group
        with StreamPeer(path) as one, StreamPeer(path) as two:
            two.send(frame(-1, 2))
            while one.receive()[0][6:12] != frame(-1, 2)[6:12]:
                pass  # the host says hello too
        assert run("/usr/bin/pkill", "-F", pidfile).returncode == 0
        wait_until(lambda: not pidfile.exists(), "the pidfile vanishes", 5)
        _, said = daemon.communicate(timeout=10)
    finally:
        daemon.kill()
        daemon.communicate()
    assert daemon.returncode == 0, said
    assert "INFO " in said and not list(var_run.iterdir())
    assert "vmnet-" not in host.run("ip", "link")


def test_usage_and_errors_are_that_program_s() -> None:
    for argv in ([], ["--vmnet-mode=nat", "/x"], ["--unknown", "/x"], ["--vmnet-dhcp-end=1.2.3.4", "/x"]):
        done = run(SERVER, *argv)
        assert done.returncode == 1 and "Usage: socket_vmnet [OPTION]... SOCKET" in done.stdout, argv
        assert done.stderr.count("\n") <= 2
    assert run(SERVER, "--vmnet-gateway=192.168.105.1", "/no/where/socket").returncode == 1
    assert run(SERVER, "--version").stdout.strip()
    options = (
        *("--socket-group=", "--vmnet-mode=", "--vmnet-interface=", "--vmnet-gateway=", "--vmnet-dhcp-end="),
        *("--vmnet-mask=", "--vmnet-interface-id=", "--vmnet-network-identifier=", "--vmnet-nat66-prefix="),
        *("--vmnet-disable-dhcp", "-p, --pidfile=", "-h, --help", "-v, --version"),
    )
    shown = run(SERVER, "--help").stdout
    assert all(option in shown for option in options)


@pytest.fixture
def server(var_run: Path) -> Iterator[Path]:
    """The path of a network without a host."""
    path = var_run / "socket"
    command = [sys.executable, "-m", "vde_vmnet", "--backend=none", f"--vde-group={os.getegid()}"]
    with tempfile.TemporaryDirectory() as place:
        pidfile = Path(place) / "pid"
        daemon = subprocess.Popen(
            [*command, f"--pidfile={pidfile}", f"--stream={path}"], stderr=subprocess.DEVNULL
        )
        try:
            wait_until(pidfile.exists, "ready")
            yield path
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(20)


@pytest.mark.parametrize("dashes", [(), ("--",)])
def test_the_client_gives_its_command_descriptor_3(server: Path, dashes: tuple[str, ...]) -> None:
    with StreamPeer(server) as other:
        script = f"import os; os.write(3, {framed(frame(-1, 7, b'from 3'))!r}); os.read(3, 1)"
        client = subprocess.Popen([CLIENT, str(server), *dashes, sys.executable, "-c", script])
        try:
            assert other.receive() == [frame(-1, 7, b"from 3")]
            other.send(frame(7, 1))
            assert client.wait(10) == 0
        finally:
            client.kill()
            client.wait()


def test_the_client_s_status_is_the_command_s_and_its_own_failures_are_1(server: Path) -> None:
    assert run(CLIENT, server, "sh", "-c", "exit 42").returncode == 42
    assert run(CLIENT, server, "/no/where").returncode == 1
    assert run(CLIENT, server.parent / "none", "true").returncode == 1
    for argv in ((), (server,), ("--unknown", server, "true")):
        done = run(CLIENT, *argv)
        assert done.returncode == 1 and "Usage: socket_vmnet_client SOCKET COMMAND" in done.stdout


def test_the_sudoers_text_allows_what_lima_runs_and_is_valid(tmp_path: Path) -> None:
    done = run(BIN / "vde_vmnet", "sudoers", "--lima", "--socket-vmnet=/opt/socket_vmnet/bin/socket_vmnet")
    assert done.returncode == 0
    assert (
        "    /opt/socket_vmnet/bin/socket_vmnet --pidfile=/private/var/run/lima/shared_socket_vmnet.pid"
        " --socket-group=admin --vmnet-mode=shared --vmnet-gateway=192.168.105.1"
        " --vmnet-dhcp-end=192.168.105.254 --vmnet-mask=255.255.255.0"
        " /private/var/run/lima/socket_vmnet.shared, \\\n"
        "    /usr/bin/pkill -F /private/var/run/lima/shared_socket_vmnet.pid\n"
    ) in done.stdout
    checker = shutil.which("visudo")
    assert checker is not None, "it comes with Debian's package sudo"
    (tmp_path / "lima").write_text(done.stdout)
    (tmp_path / "lima").chmod(0o440)
    assert run(checker, "-c", "-f", tmp_path / "lima").returncode == 0


@pytest.mark.parametrize("argv", [("--lima", "--group=a b"), ("--lima", "--var-run=relative")])
def test_sudoers_refuses_what_cannot_be_meant(argv: tuple[str, ...]) -> None:
    done = run(BIN / "vde_vmnet", "sudoers", *argv)
    assert done.returncode == 1 and not done.stdout
