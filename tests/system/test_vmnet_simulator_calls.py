"""The simulated framework's calls as a C program makes them: start, read, write, events, stop; each fault."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.netns import Namespace
from tests.support.vmnet_driver import BRIDGED, HOST, SHARED, SUCCESS, Driver, frame, ours
from tests.support.vmnet_sim import Fabric

pytestmark = pytest.mark.root

FAILURE, INVALID, INCOMPLETE, TOO_BIG, TOO_MANY = "1001", "1003", "1004", "1006", "1008"
ID = "6F4E9D3C-0C3B-4B5D-9A1E-0123456789AB"
OTHER_ID = "00000000-1111-4222-8333-444444444444"


@pytest.fixture(scope="module")
def mac() -> Iterator[Namespace]:
    """One Mac for all of them, with two interfaces."""
    with Namespace("mac") as namespace:
        namespace.run("ip", "link", "add", "en0", "type", "veth", "peer", "en1")
        yield namespace


@pytest.fixture(scope="module")
def running(mac: Namespace) -> Iterator[Fabric]:
    with Fabric(mac) as fabric:
        yield fabric


@pytest.fixture
def fabric(running: Fabric) -> Iterator[Fabric]:
    running.settle()
    yield running
    said = running.report()
    running.forgive()
    assert said == ""


# -- Start: 1.


def test_a_start_answers_later_on_the_callers_queue_with_the_keys_of_its_mode(
    mac: Namespace, fabric: Fabric
) -> None:
    addresses = {"start_address", "end_address", "subnet_mask"}
    always = {"mac_address", "mtu", "max_packet_size", "read_max_packets", "write_max_packets", "interface_id"}
    for mode, more, expected in (
        (SHARED, {}, always | addresses | {"nat66_prefix"}),
        (HOST, {}, always | addresses),
        (BRIDGED, {"shared_interface_name": "en0"}, always),
    ):
        with Driver(mac, fabric) as driver:
            assert driver.start(mode, give=more) == SUCCESS
            assert driver.facts.pop("queue") == "driver" and driver.facts.pop("early") == "0"
            assert set(driver.facts) == expected
            assert driver.facts["max_packet_size"] == "1514" and driver.facts["read_max_packets"] == "256"
            assert driver.stop() == "1000 1000"


@pytest.mark.parametrize(
    ("mode", "description"),
    [
        ("999", {}),
        (SHARED, {"start_address": "192.168.105.1"}),
        (SHARED, {"start_address": "192.168.105.1", "end_address": "192.168.105.254"}),
        (BRIDGED, {}),
        (BRIDGED, {"shared_interface_name": "en7"}),
        (BRIDGED, {"shared_interface_name": "en0", "mtu": "1400"}),
        (SHARED, {"mtu": "100"}),
        (SHARED, {"network_identifier": ID}),
        (HOST, {"nat66_prefix": "fd00:1::"}),
        (SHARED, {"nat66_prefix": "2001:db8::"}),
        (HOST, {"host_ip_address": "192.168.1.1"}),
        (SHARED, {"enable_checksum_offload": "true", "enable_virtio_header": "true"}),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(
    mac: Namespace, fabric: Fabric, mode: str, description: dict[str, str]
) -> None:
    with Driver(mac, fabric) as driver:
        assert driver.start(mode, give=description) == INVALID
        assert set(driver.facts) == {"queue", "early"}
        assert driver.stop(0) == f"{INVALID} LOST", "a handle that never ran cannot be stopped"


@pytest.mark.parametrize(
    ("faults", "answer"),
    [
        ("start_null", "NULL"),
        ("start_lost", "LOST"),
        *((f"start_status={status}", str(status)) for status in (1001, 1002, 1009, 1010)),
    ],
)
def test_starts_that_fail(mac: Namespace, fabric: Fabric, faults: str, answer: str) -> None:
    with Driver(mac, fabric, faults=faults) as driver:
        assert driver.start(SHARED, wait=300) == answer
        assert "bridge" not in mac.run("ip", "-br", "link"), "nothing was made"
        if answer == "LOST":
            driver.kill()


def test_a_start_that_fails_only_at_first_and_one_that_takes_its_time(mac: Namespace, fabric: Fabric) -> None:
    with Driver(mac, fabric, faults="start_status=1001,start_fail_times=2,start_delay_ms=150") as driver:
        assert [driver.start(HOST) for _ in range(3)] == ["1001", "1001", SUCCESS]
        assert driver.stop() == "1000 1000"
    with Driver(mac, fabric, faults="start_delay_ms=5000") as driver:
        assert driver.start(HOST, wait=100) == "LOST"
        assert driver.ask("read 1") == f"{INCOMPLETE} 1" and driver.stop(0) == f"{INCOMPLETE} LOST"
        driver.kill()


# -- Addresses and MAC: 2, 3.


@pytest.mark.parametrize(
    ("start", "end", "mask", "status"),
    [
        ("10.0.0.1", "10.255.255.254", "255.0.0.0", SUCCESS),
        ("172.16.5.1", "172.16.5.254", "255.255.255.0", SUCCESS),
        ("192.168.0.1", "192.168.255.254", "255.255.0.0", SUCCESS),
        ("192.168.255.253", "192.168.255.254", "255.255.255.252", SUCCESS),
        ("8.8.8.1", "8.8.8.254", "255.255.255.0", INVALID),
        ("10.0.0.1", "11.0.0.2", "254.0.0.0", INVALID),
        ("192.168.5.1", "192.168.5.2", "255.255.255.254", INVALID),
        ("192.168.5.9", "192.168.5.8", "255.255.255.0", INVALID),
        ("192.168.5.1", "192.168.6.254", "255.255.255.0", INVALID),
        ("nonsense", "192.168.6.254", "255.255.255.0", INVALID),
    ],
)
def test_subnets(mac: Namespace, fabric: Fabric, start: str, end: str, mask: str, status: str) -> None:
    with Driver(mac, fabric) as driver:
        given = {"start_address": start, "end_address": end, "subnet_mask": mask}
        assert driver.start(HOST, give=given) == status
        if status == SUCCESS:
            assert driver.facts.items() >= given.items()
            assert f"inet {start}/" in mac.run("ip", "address", "show", "bridge100")
            driver.stop()


def test_default_subnets_are_apart_and_the_next_one_is_taken_when_they_are_in_use(
    mac: Namespace, fabric: Fabric
) -> None:
    given = {"start_address": "192.168.64.1", "end_address": "192.168.64.9", "subnet_mask": "255.255.255.0"}
    with Driver(mac, fabric) as first, Driver(mac, fabric) as second, Driver(mac, fabric) as third:
        assert first.start(HOST, give=given) == SUCCESS
        assert second.start(SHARED) == SUCCESS and second.facts["start_address"] == "192.168.65.1"
        assert third.start(HOST) == SUCCESS and third.facts["start_address"] == "192.168.128.1"
        for driver in (first, second, third):
            driver.stop()


def test_a_subnet_belongs_to_one_mode_and_is_free_again_when_its_program_is_killed(
    mac: Namespace, fabric: Fabric
) -> None:
    given = {"start_address": "192.168.105.1", "end_address": "192.168.105.9", "subnet_mask": "255.255.255.0"}
    with Driver(mac, fabric) as second, Driver(mac, fabric) as same:
        first = Driver(mac, fabric)
        assert first.start(SHARED, give=given) == SUCCESS
        assert same.start(SHARED, give=given) == SUCCESS
        same.stop()
        assert second.start(HOST, give=given) == FAILURE
        assert second.start(HOST, give={**given, "subnet_mask": "255.255.0.0"}) == FAILURE
        first.kill()
        assert second.start(HOST, give=given) == SUCCESS
        second.stop()


def test_an_interface_keeps_its_mac_by_its_identifier(mac: Namespace, fabric: Fabric) -> None:
    seen = []
    for identifier in (ID, OTHER_ID, ID):
        with Driver(mac, fabric) as driver:
            assert driver.start(HOST, give={"interface_id": identifier}) == SUCCESS
            assert driver.facts["interface_id"] == identifier
            seen.append(driver.facts["mac_address"])
            octets = [int(octet, 16) for octet in seen[-1].split(":")]
            assert len(octets) == 6 and octets[0] & 3 == 2, "locally administered, unicast"
            assert seen[-1] == ":".join(f"{octet:x}" for octet in octets), "lower case, not padded"
            with Driver(mac, fabric) as rival:
                assert rival.start(HOST, give={"interface_id": identifier}) == FAILURE
            driver.stop()
    assert seen[0] == seen[2] != seen[1]
    with Driver(mac, fabric) as driver:
        assert (
            driver.start(HOST, give={"allocate_mac_address": "false"}) == SUCCESS
            and "mac_address" not in driver.facts
        )
        driver.stop()


def test_thirty_two_interfaces_and_no_more(mac: Namespace, fabric: Fabric) -> None:
    with Driver(mac, fabric) as driver:
        statuses = [driver.start(HOST) for _ in range(33)]
        assert statuses == [SUCCESS] * 32 + [FAILURE]
        driver.kill()


# -- Read and write: 4, 5, 11.


def test_frames_go_to_the_others_of_the_segment_unpadded_and_not_back(mac: Namespace, fabric: Fabric) -> None:
    with Driver(mac, fabric) as one, Driver(mac, fabric) as other:
        assert one.start(HOST) == other.start(HOST) == SUCCESS
        one.write(frame(), frame("01"), frame("02" * 1500))
        assert other.read_ours(3) == [frame(), frame("01"), frame("02" * 1500)]
        assert ours(one.ask("read 200")) == []
        assert other.ask("read 200") == "1000 0", "nothing is success"
        one.stop(), other.stop()


def test_a_ring_of_256_and_a_read_of_as_many(mac: Namespace, fabric: Fabric) -> None:
    with Driver(mac, fabric) as one, Driver(mac, fabric) as other:
        assert one.start(HOST) == other.start(HOST) == SUCCESS
        other.ask("read 256")
        assert one.ask(f"write 256 1 0 {frame('aa' * 50)}") == "1000 256"
        one.ask(f"write 256 1 0 {frame('bb' * 50)}")
        other.ask("callback on")
        assert not other.ask("events 1 5000").startswith("0")
        frames = ours(other.ask("read 256"))
        assert len(frames) >= 250 and set(frames) == {frame("aa" * 50)}, "what came later was lost"
        assert ours(other.ask("read 256")) == []
        one.stop(), other.stop()


def test_room_that_is_too_small_cuts_the_frame(mac: Namespace, fabric: Fabric) -> None:
    with Driver(mac, fabric) as one, Driver(mac, fabric) as other:
        assert one.start(HOST) == other.start(HOST) == SUCCESS
        one.write(frame("0102030405"))
        other.ask("callback on")
        other.ask("events 1 5000")
        found: list[str] = []
        while not found:
            found = ours(other.ask("read 200 16"))
        assert found == [frame("0102")]
        assert "vm_pkt_size 16, less than the 1514" in fabric.report()
        fabric.forgive()
        one.stop(), other.stop()


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("write 1 2 0 " + frame("00" * 46), INVALID, "vm_pkt_iovcnt 2"),
        ("write 1 0 0 " + frame("00" * 46), INVALID, "vm_pkt_iovcnt 0"),
        ("write 1 1 4 " + frame("00" * 46), INVALID, "iov_len 64 and vm_pkt_size 60"),
        ("write 1 1 0 " + frame()[:26], INVALID, ""),
        ("write 1 1 0 " + frame("00" * 1501), TOO_BIG, ""),
        ("write 257 1 0 " + frame("00" * 46), TOO_MANY, "257 packets, of 256"),
        ("write -1 1 0 " + frame("00" * 46), INVALID, "negative"),
        ("read 257", TOO_MANY, "257 packets, of 256"),
        ("read 1 1514 2", INVALID, "vm_pkt_iovcnt 2"),
    ],
)
def test_arguments_of_read_and_write(
    mac: Namespace, fabric: Fabric, command: str, status: str, said: str
) -> None:
    with Driver(mac, fabric) as one, Driver(mac, fabric) as other:
        assert one.start(HOST) == other.start(HOST) == SUCCESS
        assert one.ask(command).split()[0] == status
        assert bool(said) == bool(fabric.report()) and said in fabric.report()
        fabric.forgive()
        assert ours(other.ask("read 200")) == []
        one.stop(), other.stop()


def test_reads_and_writes_that_fail(mac: Namespace, fabric: Fabric) -> None:
    write = f"write 1 1 0 {frame('00' * 46)}"
    with Driver(
        mac, fabric, faults="write_status=1007,write_fail_every=3,read_status=1001,read_fail_times=2"
    ) as driver:
        assert driver.start(HOST) == SUCCESS
        assert [driver.ask(write).split()[0] for _ in range(6)] == [SUCCESS, SUCCESS, "1007"] * 2
        assert [driver.ask("read 1").split()[0] for _ in range(3)] == [FAILURE, FAILURE, SUCCESS]
        driver.stop()
    with Driver(mac, fabric, faults="read_zero_every=2") as one, Driver(mac, fabric) as other:
        assert one.start(HOST) == other.start(HOST) == SUCCESS
        assert one.ask("read 0") == "1000 0"
        other.write(frame("01"))
        assert one.ask("read 200") == "1000 0", "it waits, and is not given"
        assert one.read_ours(1) == [frame("01")]
        one.stop(), other.stop()


# -- Events: 6.


def test_an_event_says_how_much_waits_and_guesses(mac: Namespace, fabric: Fabric) -> None:
    write = f"write 20 1 0 {frame('00' * 46)}"
    for faults, estimate in (("estimate=low", 1), ("estimate=high", 100000), ("estimate=5", 5)):
        with Driver(mac, fabric, faults=faults) as one, Driver(mac, fabric) as other:
            assert one.start(HOST) == other.start(HOST) == SUCCESS
            one.ask("callback on")
            other.ask(write)
            assert set(one.ask("events 1 5000").split()[1:]) == {str(estimate)}
            assert one.ask("events 1 100") == "0", "once, until somebody reads"
            while ours(one.ask("read 200")):
                continue
            other.ask(write)
            assert one.ask("events 1 5000").split()[1:] == [str(estimate)]
            one.stop(), other.stop()


def test_a_client_that_stops_reading_too_early_gets_another_event(mac: Namespace, fabric: Fabric) -> None:
    with Driver(mac, fabric) as one, Driver(mac, fabric) as other:
        assert one.start(HOST) == other.start(HOST) == SUCCESS
        one.ask("callback on")
        other.ask(f"write 100 1 0 {frame('00' * 46)}")
        found = 0
        while found < 100:
            assert one.ask("events 1 5000") != "0"
            found += len(ours(one.ask("read 3")))
        one.stop(), other.stop()


def test_events_with_nothing_left_and_after_the_callback_was_cleared(mac: Namespace, fabric: Fabric) -> None:
    with Driver(mac, fabric, faults="spurious_events=1") as one, Driver(mac, fabric) as other:
        assert one.start(HOST) == other.start(HOST) == SUCCESS
        one.ask("callback on")
        other.write(frame())
        assert one.ask("events 2 5000").startswith("2")
        assert one.ask("callback off") == SUCCESS
        one.ask("read 200")
        other.write(frame())
        assert one.ask("events 1 200") == "0"
        one.stop(), other.stop()


def test_a_callback_that_blocks_is_not_waited_for_by_clear_but_holds_up_stop(
    mac: Namespace, fabric: Fabric
) -> None:
    with Driver(mac, fabric) as one, Driver(mac, fabric) as other:
        assert one.start(HOST) == other.start(HOST) == SUCCESS
        one.ask("callback block")
        other.write(frame())
        assert one.ask("events 1 5000").startswith("1")
        assert one.ask("callback off") == SUCCESS
        assert one.stop(300) == "1000 LOST", "the serial queue is blocked"
        one.ask("unblock")
        other.stop()
        one.kill()


def test_callbacks_may_overlap_on_a_concurrent_queue(mac: Namespace, fabric: Fabric) -> None:
    with Driver(mac, fabric) as one, Driver(mac, fabric) as other:
        assert one.start(HOST, concurrent=True) == other.start(HOST) == SUCCESS
        one.ask("callback block")
        for _ in range(2):
            other.write(frame())
            assert one.ask("events 1 5000").startswith("1"), "while the one before still runs"
            while one.ask("read 200") != "1000 0":
                continue
        one.ask("unblock"), one.ask("unblock")
        assert one.stop() == "1000 1000"
        other.stop()


def test_a_callback_can_be_refused(mac: Namespace, fabric: Fabric) -> None:
    with Driver(mac, fabric, faults="callback_refused") as driver:
        assert driver.start(HOST) == SUCCESS
        assert driver.ask("callback on") == FAILURE
        driver.stop()


# -- Stop: 7. (A second stop is in the tests of misuse.)


@pytest.mark.parametrize(
    ("faults", "answer"),
    [("stop_lost", "1000 LOST"), ("stop_status=1001", "1000 1001"), ("stop_refused", "1001 LOST")],
)
def test_stops_that_fail(mac: Namespace, fabric: Fabric, faults: str, answer: str) -> None:
    with Driver(mac, fabric, faults=faults) as driver:
        assert driver.start(HOST) == SUCCESS
        assert driver.stop(300) == answer
        driver.kill()


def test_names_that_can_be_bridged(mac: Namespace, fabric: Fabric) -> None:
    with Driver(mac, fabric) as driver, Driver(mac, fabric, faults="list_null") as other:
        assert driver.ask("list") == "en0 en1"
        assert other.ask("list") == "NULL"
