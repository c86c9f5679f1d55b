"""What goes wrong with vmnet, on the simulated framework: words, statuses, and what is left."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import watch_end
from tests.support.mac import GATEWAY, SimulatedMac
from tests.support.vde_peer import VdePeer
from tests.system.test_vmnet_uplink import answered
from vde_vmnet.demo.daemon_process import DaemonProcess

pytestmark = pytest.mark.root

SHARED = f"--vmnet-gateway={GATEWAY}"
RESERVE = "--reserve=52:54:00:00:00:01=192.168.105.77,web"
FORWARD = "--forward=80:192.168.105.77:80"
QUICK = "--start-timeout=1.2"
#: What a program cannot give back while macOS may still use it, or does not take it back.
QUEUE = 'leak: the dispatch queue "vde_vmnet" with 1 reference(s)\n'
APPLE = "%%\nnas 1 0:1:2:3:4:5 192.168.105.9\n"


@pytest.fixture
def mac() -> Iterator[SimulatedMac]:
    with SimulatedMac() as simulated:
        yield simulated


@pytest.fixture(scope="module")
def one_mac() -> Iterator[SimulatedMac]:
    """For failures after which nothing is there."""
    with SimulatedMac() as simulated:
        yield simulated


@pytest.mark.parametrize(
    ("macos", "faults", "options", "status", "words"),
    [
        ("15", "start_null", [QUICK], 6, r"general failure \(1001\)\. Another .*192\.168\.105\.0/24"),
        (
            "15",
            "start_status=1001",
            [QUICK],
            6,
            r"yet: general failure \(1001\); trying again for up to 1\.2 s",
        ),
        ("26", "start_status=1002", [], 6, r"out of memory \(1002\)"),
        ("26", "start_status=1003", [], 1, r"invalid argument \(1003\)\. Check --vmnet-gateway"),
        ("26", "start_status=1004", [QUICK], 6, r"setup incomplete \(1004\)"),
        ("26", "start_status=1005", [], 4, r"permission denied \(1005\)\. A profile"),
        ("26", "start_status=1006", [], 6, r"packet too big \(1006\)"),
        ("26", "start_status=1007", [], 6, r"buffers exhausted \(1007\)"),
        ("26", "start_status=1008", [], 6, r"too many packets \(1008\)"),
        ("26", "start_status=1009", [QUICK], 5, r"sharing service busy \(1009\)\. Turn Internet Sharing off"),
        ("26", "start_status=1010", [], 4, r"not authorized \(1010\)\. A profile"),
        ("26", "network_status=1002", [RESERVE], 6, r"make the network: out of memory \(1002\)"),
        (
            "26",
            "network_status=1001",
            [RESERVE, QUICK],
            6,
            r"make the network: general .*another --vmnet-gateway",
        ),
        ("26", "network_status=1001", [RESERVE, QUICK], 6, r"could not make the network yet: general failure"),
        ("26", "network_hang", [RESERVE, QUICK], 6, r"did not make the network within 1\.2 s"),
        ("26", "start_status=1003", [RESERVE], 1, r"start the interface: invalid argument"),
        (
            "15",
            "forward_status=1003",
            [FORWARD],
            1,
            r"forward tcp:80:192\.168\.105\.77:80: invalid .*--for",
        ),
        ("15", "forward_status=1001", [FORWARD], 6, r"forward tcp:80:192\.168\.105\.77:80: general failure"),
        (
            "15",
            "forward_lost",
            [FORWARD, QUICK],
            6,
            r"forward tcp:80:.* within 1\.2 s: macOS never",
        ),
        ("26", "callback_refused", [], 6, r"cannot be used: .*VMNET_FAILURE"),
        ("15", "", ["--vmnet-disable-dhcp"], 3, r"needs macOS 26"),
        ("26", "", ["--vmnet-gateway=8.8.8.1"], 1, r"takes only private subnets"),
        ("26", "", [RESERVE.replace("105", "106")], 1, r"outside the subnet"),
        ("26", "", ["--forward=127.0.0.1:80:192.168.105.77:80"], 1, r"Leave 127\.0\.0\.1 out"),
    ],
)
def test_each_failure_has_its_words_and_status(
    one_mac: SimulatedMac, macos: str, faults: str, options: list[str], status: int, words: str
) -> None:
    ended, log = one_mac.refused(SHARED, *options, macos=macos, faults=faults)
    assert re.search(words, log), log
    assert ended == status, log
    assert "Traceback" not in log


def test_a_start_that_never_calls_back_ends_in_time(mac: SimulatedMac) -> None:
    began = time.monotonic()
    ended, log = mac.refused(SHARED, QUICK, faults="start_lost")
    assert ended == 6
    assert re.search(r"did not start the interface within 1\.2 s: macOS never called back.*restarting", log)
    assert time.monotonic() - began < 25
    mac.expected_report = QUEUE


def test_a_stop_signal_ends_the_waiting_for_it(one_mac: SimulatedMac) -> None:
    process = one_mac.process(SHARED, faults="start_status=1001")
    with process.log.open() as log:
        said = ""
        while "trying again" not in said:
            said += log.read()
            assert process.process.poll() is None
    assert process.stop() == 0
    assert "while the network was being opened" in process.log.read_text()
    assert one_mac.left("sw") == []


@pytest.mark.parametrize(
    ("faults", "words", "report"),
    [
        ("stop_lost", "did not confirm within 3 s that the interface stopped", QUEUE),
        (
            "stop_refused",
            r"refused to stop the interface: general",
            f"leak: an interface was not stopped\n{QUEUE}",
        ),
        ("stop_status=1001", r"stopped the interface with: general failure \(1001\)", ""),
        ("stop_delay_ms=300", "Stopping: SIGTERM", ""),
    ],
)
def test_a_stop_that_goes_wrong_is_a_line_and_an_end(
    mac: SimulatedMac, faults: str, words: str, report: str
) -> None:
    with mac.daemon(SHARED, faults=faults) as daemon:
        pass
    assert re.search(words, daemon.log.read_text())
    mac.expected_report = report


def test_too_early_at_boot_and_then_not(one_mac: SimulatedMac) -> None:
    with one_mac.daemon(SHARED, faults="start_status=1001,start_fail_times=2,start_delay_ms=50") as daemon:
        assert "trying again for up to 30 s" in daemon.log.read_text()


@pytest.mark.parametrize(
    "faults",
    [
        *("estimate=low", "estimate=high", "spurious_events=2", "read_zero_every=2"),
        *("write_status=1001,write_fail_times=1", "write_status=1007,write_fail_every=2"),
        *("write_status=1003,write_fail_times=1", "read_status=1001,read_fail_times=1"),
    ],
)
def test_frames_get_through_whatever_happens_to_others(one_mac: SimulatedMac, faults: str) -> None:
    with one_mac.daemon(SHARED, faults=faults) as daemon, VdePeer(daemon.directory, timeout=0.5) as peer:
        for attempt in range(10):
            try:
                if answered(peer, 7, "192.168.105.77", GATEWAY):
                    break
            except TimeoutError:
                assert attempt < 9, "nothing gets through"


def test_not_root_before_macos_26(one_mac: SimulatedMac) -> None:
    status, log = one_mac.refused(SHARED, macos="15", user="nobody")
    assert status == 4
    assert re.search(r"general failure \(1001\)\. Before macOS 26 vmnet needs root: run with sudo", log)
    assert "trying again" not in log


@pytest.mark.parametrize("options", [(), (RESERVE,)])
def test_not_root_and_not_entitled(one_mac: SimulatedMac, options: tuple[str, ...]) -> None:
    status, log = one_mac.refused(SHARED, *options, faults="not_entitled", user="nobody")
    assert status == 4
    assert re.search(r"\((1010|1002)\)\. Run with sudo; .*com\.apple\.security\.virtualization", log)


def test_one_mode_for_one_subnet(one_mac: SimulatedMac) -> None:
    with one_mac.daemon(SHARED, name="one"):
        status, log = one_mac.refused("--vmnet-mode=host", SHARED, QUICK)
        assert status == 6
        assert re.search(r"may hold 192\.168\.105\.0/24, or hold it in another mode", log)


def keeper_of(daemon: DaemonProcess) -> int:
    pid = daemon.process.pid
    (keeper,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(keeper)


@pytest.fixture
def reserving(mac: SimulatedMac) -> Iterator[tuple[SimulatedMac, DaemonProcess]]:
    """A running daemon of macOS 15 that has entries in a bootptab with somebody else's."""
    mac.fabric.bootptab.write_text(APPLE)
    daemon = mac.process(SHARED, RESERVE, macos="15")
    daemon.wait_ready()
    assert mac.fabric.bootptab.read_text().startswith(APPLE)
    assert "192.168.105.77" in mac.fabric.bootptab.read_text()
    yield mac, daemon
    if daemon.process.poll() is None:
        daemon.process.kill()
    daemon.process.wait()


def test_kill_9_of_the_daemon(reserving: tuple[SimulatedMac, DaemonProcess]) -> None:
    mac, daemon = reserving
    ended = watch_end(keeper_of(daemon))
    daemon.process.kill()
    ended()
    assert mac.fabric.bootptab.read_text() == APPLE
    assert mac.left("sw") == []
    mac.fabric.settle()
    with mac.daemon(SHARED, RESERVE, macos="15"):
        pass


def test_kill_9_of_the_keeper(reserving: tuple[SimulatedMac, DaemonProcess]) -> None:
    mac, daemon = reserving
    os.kill(keeper_of(daemon), signal.SIGKILL)
    assert daemon.process.wait(10) == 70
    assert "192.168.105.77" in mac.fabric.bootptab.read_text()
    with mac.daemon(SHARED, macos="15") as again:
        assert mac.fabric.bootptab.read_text() == APPLE
        assert "left when it was killed" in again.log.read_text()
    assert mac.left("sw") == []


def test_two_networks_and_their_reservations(reserving: tuple[SimulatedMac, DaemonProcess]) -> None:
    mac, daemon = reserving
    other = ("--vmnet-gateway=192.168.106.1", "--reserve=52:54:00:00:00:02=192.168.106.5")
    with mac.daemon(*other, macos="15", name="other"):
        text = mac.fabric.bootptab.read_text()
        assert "192.168.105.77" in text and "192.168.106.5" in text
        assert daemon.stop() == 0
        text = mac.fabric.bootptab.read_text()
        assert "192.168.105.77" not in text and "192.168.106.5" in text
    assert mac.fabric.bootptab.read_text() == APPLE


def test_a_reservation_that_contradicts_the_file(mac: SimulatedMac) -> None:
    mac.fabric.bootptab.write_text("%%\nnas 1 0:1:2:3:4:5 192.168.105.77\n")
    status, log = mac.refused(SHARED, RESERVE, macos="15")
    assert status == 5
    assert re.search(r"--reserve disagrees with .*bootptab: nas 1", log)
