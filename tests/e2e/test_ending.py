"""However the daemon ends, nothing of it stays; and what a killed one leaves, the next start removes."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.e2e.test_lifecycle import plug, unplug
from tests.support.daemon import GATEWAY, Daemon, Picture, wait_until
from tests.support.guest import boot
from tests.support.netns import Namespace

pytestmark = pytest.mark.root

OPTIONS = (f"--vmnet-gateway={GATEWAY}", "--vmnet-nat66-prefix=fd12:3456:789a:3::")


@pytest.fixture
def busy_host(host: Namespace) -> Namespace:
    """A host with something of its own that must not be touched."""
    host.run("ip", "link", "add", "up0", "type", "veth", "peer", "up1")
    for device, address in (("up0", "203.0.113.1/24"), ("up1", "203.0.113.2/24")):
        host.run("ip", "address", "add", address, "dev", device)
        host.run("sysctl", "-qw", f"net.ipv6.conf.{device}.accept_dad=0")
        host.run("ip", "link", "set", device, "up")
    host.run("nft", "add", "table", "inet", "mine")
    host.run("nft", "add", "chain", "inet", "mine", "forward", "{ type filter hook forward priority 0; }")
    return host


def until_nothing_runs(host: Namespace, daemon: Daemon) -> None:
    """Services die by the kernel's hand a moment after the keeper."""
    wait_until(lambda: not Picture.take(host, daemon.place).processes, "the daemon's services end")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_cleanly(busy_host: Namespace, number: signal.Signals) -> None:
    with Daemon(busy_host, *OPTIONS) as daemon:
        assert "vmnet-" in busy_host.run("nft", "list", "ruleset") + busy_host.run("ip", "link")
        assert daemon.stop(number) == 0
        after = Picture.take(busy_host, daemon.place)
        daemon.directory.mkdir()
        reference = Picture.take(busy_host, daemon.place)
    assert after.processes == ()
    assert after.files == ()
    assert "vmnet" not in "".join((*after.links, *after.addresses, after.routes, after.rules))
    assert reference.rules == after.rules
    assert "table inet mine" in after.rules


def test_a_clean_end_puts_everything_back(
    busy_host: Namespace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = Picture.take(busy_host, tmp_path_factory.mktemp("empty"))
    with Daemon(busy_host, *OPTIONS) as daemon:
        assert Picture.take(busy_host, daemon.place) != before
        assert daemon.stop() == 0
        assert Picture.take(busy_host, daemon.place) == before


WHO: dict[str, Callable[[Daemon], tuple[int, ...]]] = {
    "both": lambda daemon: (daemon.keeper, daemon.worker),
    "keeper": lambda daemon: (daemon.keeper,),
    "worker": lambda daemon: (daemon.worker,),
}


@pytest.mark.parametrize("who", WHO)
def test_kill_9_and_restart_leave_nothing(
    busy_host: Namespace, who: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = Picture.take(busy_host, tmp_path_factory.mktemp("empty"))
    with Daemon(busy_host, *OPTIONS) as daemon:
        daemon.kill(*WHO[who](daemon))
        until_nothing_runs(busy_host, daemon)
        killed = Picture.take(busy_host, daemon.place)
        assert killed.links == before.links
        assert killed.rules == before.rules
        if who == "worker":
            assert killed == before, "the keeper lived and has undone everything"
            assert daemon.process.process.returncode not in (0, None)
        else:
            assert killed != before, "there is nothing for the next start to do"
        daemon.restart()
        assert daemon.stop() == 0
        assert Picture.take(busy_host, daemon.place) == before


@pytest.mark.guest
def test_a_guest_comes_back_after_kill_9(busy_host: Namespace) -> None:
    with Daemon(busy_host, *OPTIONS) as daemon, boot(daemon, 1) as guest:
        first = guest.request_lease()
        assert first is not None
        daemon.kill(daemon.keeper, daemon.worker)
        until_nothing_runs(busy_host, daemon)
        daemon.restart()
        # QEMU does not notice the end of a switch; its user plugs it in again.
        unplug(guest)
        plug(guest, daemon, 1)
        again = guest.request_lease()
        assert again is not None
        assert again["address"] == first["address"]
        assert guest.run(f"ping -c 1 -W 2 {GATEWAY}").status == 0
