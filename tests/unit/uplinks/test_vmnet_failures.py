"""Each status in each situation: who is to blame, what it says, what to do."""

from __future__ import annotations

import re

import pytest

from vde_vmnet.config.model import Mode
from vde_vmnet.errors import ConfigurationError, ConflictError, PrivilegeError, UplinkError, VdeVmnetError
from vde_vmnet.uplinks.vmnet.abi import Status
from vde_vmnet.uplinks.vmnet.failures import Situation, explain, lost, patience, words

ROOT = Situation("start the interface", Mode.SHARED, root=True, network_api=False)
PINNED = Situation("start the interface", Mode.HOST, root=True, network_api=False, subnet="192.168.105.0/24")
BRIDGED = Situation("start the interface", Mode.BRIDGED, root=True, network_api=True, interface="en9")
USER = Situation("start the interface", Mode.SHARED, root=False, network_api=False)
USER_26 = Situation("make the network", Mode.SHARED, root=False, network_api=True)


@pytest.mark.parametrize(
    ("status", "situation", "kind", "next_step"),
    [
        (Status.FAILURE, USER, PrivilegeError, r"Before macOS 26 vmnet needs root: run with sudo"),
        (Status.FAILURE, USER_26, PrivilegeError, r"sudo; .*com\.apple\.security\.virtualization"),
        (Status.MEM_FAILURE, USER_26, PrivilegeError, r"com\.apple\.security\.virtualization"),
        (Status.NOT_AUTHORIZED, USER, PrivilegeError, "sudo"),
        (Status.NOT_AUTHORIZED, ROOT, PrivilegeError, "profile"),
        (Status.INVALID_ACCESS, ROOT, PrivilegeError, "profile"),
        (Status.FAILURE, ROOT, UplinkError, "VMware Fusion"),
        (Status.FAILURE, PINNED, UplinkError, r"192\.168\.105\.0/24.*another mode.*another --vmnet-gateway"),
        (Status.FAILURE, BRIDGED, UplinkError, '"en9" up'),
        (Status.MEM_FAILURE, ROOT, UplinkError, "restart this Mac"),
        (Status.INVALID_ARGUMENT, PINNED, ConfigurationError, "--vmnet-gateway, --vmnet-dhcp-end"),
        (Status.INVALID_ARGUMENT, BRIDGED, ConfigurationError, "another --vmnet-interface"),
        (Status.INVALID_ARGUMENT, ROOT, ConfigurationError, "--vmnet-nat66-prefix"),
        (Status.SETUP_INCOMPLETE, ROOT, UplinkError, "restart this Mac"),
        (Status.BUFFER_EXHAUSTED, ROOT, UplinkError, "restart this Mac"),
        (Status.PACKET_TOO_BIG, ROOT, UplinkError, "restart this Mac"),
        (Status.TOO_MANY_PACKETS, ROOT, UplinkError, "restart this Mac"),
        (Status.SHARING_SERVICE_BUSY, ROOT, ConflictError, "Internet Sharing off .*--vmnet-mode=bridged"),
        (Status.SHARING_SERVICE_BUSY, USER, ConflictError, "Internet Sharing off"),
        (4711, ROOT, UplinkError, "restart this Mac"),
    ],
)
def test_each_status_blames_and_helps(
    status: int, situation: Situation, kind: type[VdeVmnetError], next_step: str
) -> None:
    error = explain(status, situation)
    assert type(error) is kind
    assert str(int(status)) in error.message and situation.doing in error.message
    assert re.search(next_step, error.next_step)


def test_every_status_has_words() -> None:
    assert len({words(status) for status in Status}) == len(Status)
    assert words(Status.SHARING_SERVICE_BUSY) == "sharing service busy (1009)"
    assert words(9) == "unknown status 9"


def test_a_lost_answer_says_how_long_was_waited() -> None:
    assert re.search(r"within 2\.5 s.*never called back.*--start-timeout", str(lost(ROOT, 2.5)))


def test_what_is_worth_trying_again() -> None:
    assert patience(Status.FAILURE, ROOT) == float("inf"), "macOS may still be booting"
    assert patience(Status.FAILURE, USER) == 0, "nothing will give an ordinary user the right"
    assert patience(Status.INVALID_ARGUMENT, ROOT) == 0
    assert 0 < patience(Status.SHARING_SERVICE_BUSY, ROOT) < 30
