"""Starting and stopping an interface: patience, lost callbacks, handles given back; and port forwards on it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest

from tests.unit.uplinks.vmnet_double import Double, tell
from vde_vmnet.addresses import Forward
from vde_vmnet.config.model import Mode
from vde_vmnet.errors import ConflictError, InternalError, PrivilegeError, UplinkError, VdeVmnetError
from vde_vmnet.uplinks.vmnet import interface, patience
from vde_vmnet.uplinks.vmnet.failures import Situation

ROOT = Situation("start the interface", Mode.SHARED, root=True, network_api=False)
USER = Situation("start the interface", Mode.SHARED, root=False, network_api=False)
OK, PARAMETERS, HANDLE = 1000, 31, 41


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(patience, "_LONGEST_PAUSE", 0.002)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("vde_vmnet")
    former, logger.propagate = logger.propagate, True
    yield caplog
    logger.propagate = former


def begin(queue: int, block: int) -> int | None:
    assert (queue, block) == (OK, 77)
    return HANDLE


def start(
    binding: Double, situation: Situation = ROOT, seconds: float = 30.0, how: interface.Begin = begin
) -> interface.Interface:
    return interface.start(binding, "vmnet shared", how, situation, patience.Patience(seconds))


def test_started_read_out_and_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = tell(monkeypatch, (OK, PARAMETERS), (OK, 0))
    binding = Double(
        xpc_dictionary_get_value=lambda _, key: None if key == b"vmnet_nat66_prefix" else 1,
        xpc_dictionary_get_uint64=1500,
        xpc_dictionary_get_string=b"192.168.105.1",
        xpc_dictionary_get_uuid=None,
    )
    started = start(binding)
    assert waits[0] == pytest.approx(30, abs=1)
    assert binding.called("xpc_release") == [(PARAMETERS,)]
    assert started.parameters["vmnet_mtu_key"] == 1500
    assert started.parameters["vmnet_start_address_key"] == "192.168.105.1"
    assert "vmnet_nat66_prefix_key" not in started.parameters
    given_back: list[str] = []
    started.on_stopped.callback(given_back.append, "network")
    for _ in range(2):
        started.close()
    assert binding.called("vmnet_stop_interface") == [(HANDLE, OK, 77)]
    assert binding.called("dispatch_release") == [(OK,)]
    assert given_back == ["network"]
    with pytest.raises(InternalError):
        started.release_in_keeper()


def test_early_at_boot_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    tell(monkeypatch, (1001, 0), (1001, 0), (OK, 0))
    binding = Double()
    start(binding)
    assert len(binding.called("dispatch_release")) == 2, "each attempt gives its queue back"
    (warning,) = [record.getMessage() for record in log.records if record.levelname == "WARNING"]
    assert "general failure (1001); trying again for up to 30 s" in warning


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, *[(1001, 0)] * 1000)
    with pytest.raises(UplinkError, match="general failure"):
        start(Double(), seconds=0.02)


def test_a_busy_service_is_waited_for_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vde_vmnet.uplinks.vmnet.failures._BUSY_SECONDS", 0.01)
    tell(monkeypatch, *[(1009, 0)] * 1000)
    with pytest.raises(ConflictError, match="Internet Sharing"):
        start(Double())


def test_an_ordinary_user_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = tell(monkeypatch, (1001, 0))
    with pytest.raises(PrivilegeError, match="sudo"):
        start(Double(), USER)
    assert len(waits) == 1


def test_a_lost_callback_ends_in_time_and_keeps_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = tell(monkeypatch, None)
    binding = Double()
    with pytest.raises(UplinkError, match=r"within 2 s: macOS never called back"):
        start(binding, seconds=2)
    assert waits == [pytest.approx(2, abs=0.5)]
    assert binding.called("dispatch_release") == []


@pytest.mark.parametrize(("answer", "said"), [(None, "1001"), ((1003, 0), "1003"), ((OK, 0), "1001")])
def test_no_handle_is_a_failure_with_or_without_a_reason(
    monkeypatch: pytest.MonkeyPatch, answer: tuple[int, int] | None, said: str
) -> None:
    waits = tell(monkeypatch, answer)
    with pytest.raises(VdeVmnetError, match=said):
        start(Double(), USER, how=lambda *_: None)
    assert waits == [interface._REASON_SECONDS]


def test_a_stop_that_is_never_confirmed_is_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    tell(monkeypatch, (OK, 0), None)
    binding = Double()
    start(binding).close()
    assert "did not confirm within 3 s" in log.text
    assert binding.called("dispatch_release") == []


@pytest.mark.parametrize(("answers", "status"), [(((OK, 0),), 1001), (((OK, 0), (1001, 0)), OK)])
def test_a_stop_that_fails_is_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch,
    log: pytest.LogCaptureFixture,
    answers: tuple[tuple[int, int], ...],
    status: int,
) -> None:
    tell(monkeypatch, *answers)
    start(Double(vmnet_stop_interface=status)).close()
    assert "general failure (1001)" in log.text


class Engine:
    """Takes what an engine would."""

    def attach_vmnet(self, **what: object) -> int:
        self.what = what
        return 5


def test_limits_that_macos_does_not_report(monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, (OK, 0))
    binding, engine = Double(), Engine()
    assert start(binding).attach(engine, 0) == 5  # type: ignore[arg-type]
    assert engine.what["max_packet_size"] == 1514
    assert engine.what["read_max_packets"] == engine.what["write_max_packets"] == 200
    assert engine.what["interface"] == HANDLE
    assert engine.what["functions"] == {
        "read": binding.address("vmnet_read"),
        "write": binding.address("vmnet_write"),
        "set_event_callback": binding.address("vmnet_interface_set_event_callback"),
    }


def test_a_forward_with_either_function(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = Forward.parse("udp:5353:192.168.105.2:53")
    tell(monkeypatch, (OK, 0), (OK, 0))
    new = Double()
    start(new).forward(rule, ROOT, patience.Patience(5))
    packed = b"\xc0\xa8\x69\x02"
    assert new.called("vmnet_interface_add_ip_port_forwarding_rule") == [(HANDLE, 17, 5353, 2, packed, 53, 77)]

    tell(monkeypatch, (OK, 0), (OK, 0))
    old = Double(missing=("vmnet_interface_add_ip_port",))
    start(old).forward(rule, ROOT, patience.Patience(5))
    address = int.from_bytes(packed, sys.byteorder)
    assert old.called("vmnet_interface_add_port_forwarding_rule") == [(HANDLE, 17, 5353, address, 53, 77)]


@pytest.mark.parametrize(
    ("answers", "status", "said"),
    [([(OK, 0)], 1001, "1001"), ([(OK, 0), (1003, 0)], OK, "1003"), ([(OK, 0), None], OK, "never called back")],
)
def test_a_forward_that_is_refused(
    monkeypatch: pytest.MonkeyPatch, answers: list[tuple[int, int] | None], status: int, said: str
) -> None:
    tell(monkeypatch, *answers)
    started = start(Double(vmnet_interface_add_ip_port_forwarding_rule=status))
    with pytest.raises(VdeVmnetError, match=said):
        started.forward(Forward.parse("80:192.168.105.2:80"), ROOT, patience.Patience(5))


def test_interfaces_to_join() -> None:
    names = [b"en0", b"en5", None]
    binding = Double(xpc_array_get_count=3, xpc_array_get_string=lambda _, index: names[index])
    assert list(interface.shared_interfaces(binding)) == ["en0", "en5"]
    assert binding.called("xpc_release") == [(OK,)]
    assert list(interface.shared_interfaces(Double(vmnet_copy_shared_interface_list=None))) == []
