"""What a program does wrong is noticed: reported in these words, and fatal where the real thing is."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.netns import Namespace
from tests.support.vmnet_client import program
from tests.support.vmnet_sim import Fabric

pytestmark = pytest.mark.root

#: Mistake: what is reported, and whether the process ends by it.
MISTAKES = {
    "none": ("", False),
    "size_not_reset": ("vmnet_read: packet 0 has vm_pkt_size 60, less than the 1514", False),
    "stale_iovec": ("vmnet_read: packet 0 has iov_len 60, less than its vm_pkt_size 1514", False),
    "two_iovecs": ("vmnet_read: packet 0 has vm_pkt_iovcnt 2, not 1", False),
    "flags": ("vmnet_read: packet 0 has vm_flags 0x1, not 0", False),
    "too_many": ("vmnet_read: 257 packets, of 256 that one call may carry", False),
    "read_after_stop": ("vmnet_read: called after the interface was stopped", False),
    "not_stopped": ("leak: an interface was not stopped", False),
    "stopped_twice": ("vmnet_stop_interface: the interface was stopped before", True),
    "released": ("CFRelease: of an interface that vmnet_start_interface gave", True),
    "child_of_fork": ("vmnet_stop_interface: called in a child of the process that loaded", False),
    "released_twice": ("was released for the last time before this call", True),
    "null_key": ("xpc_dictionary_set_value: NULL where a key belongs", True),
    "borrowed_released": ("xpc_release: a borrowed uint64 was released", True),
    "wrong_type": ("xpc_array_get_count: the object is of type dictionary, not array", True),
    "null_object": ("xpc_release: NULL where an XPC object belongs", True),
    "no_object": ("is no object of this library", True),
    "unknown_key": ('a start with the key "number", which this macOS does not have', False),
    "xpc_leak": ("leak: an XPC object with 1 reference(s): dictionary", False),
    "queue_leak": ('leak: the dispatch queue "forgotten" with 1 reference(s)', False),
    "semaphore_low": ("the semaphore is at 0, below the 1 it was made with", True),
    "deadlock": ('dispatch_sync on the serial queue "misuse" from work that runs on it', True),
    "block_leak": ("leak: 1 heap block(s)", False),
    "block_twice": ("was released more often than it was copied", True),
}


@pytest.fixture(scope="module")
def mac() -> Iterator[Namespace]:
    with Namespace("mac") as namespace:
        yield namespace


@pytest.fixture(scope="module")
def fabric(mac: Namespace) -> Iterator[Fabric]:
    with Fabric(mac) as running:
        yield running


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_noticed(mac: Namespace, fabric: Fabric, mistake: str) -> None:
    said, fatal = MISTAKES[mistake]
    fabric.settle()
    fabric.forgive()
    done = subprocess.run(
        mac.command("prlimit", "--core=0", str(program("misuse")), mistake),
        env={**os.environ, **fabric.environment()},
        check=False,
    )
    assert done.returncode == (-signal.SIGABRT if fatal else 0)
    assert said in fabric.report() and bool(said) == bool(fabric.report())
    if not fatal:
        assert len(fabric.report().splitlines()) <= 1
