"""A started interface of vmnet: how it is started, with patience, and how it is stopped, without trust.

Handlers are called on the interface's own serial queue, by threads that macOS makes. No call is trusted to
answer: whoever waits, waits for a time that ends.
"""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from vde_vmnet._engine import Completion, EngineError
from vde_vmnet.addresses import Forward
from vde_vmnet.errors import InternalError, UnavailableError, UplinkError
from vde_vmnet.uplinks.vmnet import failures, xpc
from vde_vmnet.uplinks.vmnet.abi import Binding, Protocol, Status
from vde_vmnet.uplinks.vmnet.offload import Offload
from vde_vmnet.uplinks.vmnet.patience import Patience, RefusedError

if TYPE_CHECKING:
    from vde_vmnet._engine import BlockRuntime, Engine

__all__ = ["Begin", "Interface", "shared_interfaces", "start"]

_log = logging.getLogger(__name__)

#: What macOS before 15 does not report: the documented limit of a call, and a frame of an MTU of 1500.
_DOCUMENTED_PACKETS = 200
_ETHERNET_HEADER = 14
_USUAL_MTU = 1500
# Chosen: a start that is refused at once may still give its reason through the handler.
_REASON_SECONDS = 0.2
# Chosen: a stop takes macOS under 0.1 s; launchd kills us 20 s after SIGTERM.
_STOP_SECONDS = 3.0

#: Starts an interface: gets a queue and a handler's block, returns the handle or None.
Begin = Callable[[int, int], "int | None"]


class Interface:
    """An ``Endpoint`` (see uplinks/base.py): a running interface and the queue of its handlers."""

    def __init__(
        self,
        binding: Binding,
        name: str,
        handle: int,
        queue: int,
        parameters: dict[str, xpc.Value],
        offload: Offload,
    ) -> None:
        self.name = name
        #: What vmnet reported, by symbol of the key.
        self.parameters = parameters
        self.offload = offload
        self._binding = binding
        self._handle = handle
        self._queue = queue
        self._closed = False
        #: Runs when the interface has stopped; what was held for it is given back there.
        self.on_stopped = ExitStack()

    def attach(self, engine: Engine, port: int) -> int:
        """See Endpoint. Raises UplinkError too."""
        address, mtu = self._binding.address, self._number("vmnet_mtu_key", _USUAL_MTU)
        try:
            return engine.attach_vmnet(
                port=port,
                name=self.name,
                interface=self._handle,
                queue=self._queue,
                functions={
                    "read": address("vmnet_read"),
                    "write": address("vmnet_write"),
                    "set_event_callback": address("vmnet_interface_set_event_callback"),
                },
                blocks=_blocks(self._binding),
                read_max_packets=self._number("vmnet_read_max_packets_key", _DOCUMENTED_PACKETS),
                write_max_packets=self._number("vmnet_write_max_packets_key", _DOCUMENTED_PACKETS),
                max_packet_size=self._number("vmnet_max_packet_size_key", mtu + _ETHERNET_HEADER),
                offload=self.offload.value,
                mtu=mtu,
            )
        except (ValueError, EngineError) as error:
            raise UplinkError(
                f"The interface of vmnet cannot be used: {error}",
                next_step="Start the daemon again; if it stays so, restart this Mac",
            ) from error

    def forward(self, rule: Forward, situation: failures.Situation, patience: Patience) -> None:
        """Add a port forwarding rule to this interface, which it ends with. For macOS before 26.

        Raises UplinkError and others of ``failures``, UnavailableError before macOS 10.15.
        """
        completion = Completion(blocks=_blocks(self._binding))
        protocol = int(Protocol[rule.protocol.upper()])
        if self._binding.has("vmnet_interface_add_ip_port_forwarding_rule"):
            status = self._binding.call(
                "vmnet_interface_add_ip_port_forwarding_rule",
                *(self._handle, protocol, rule.host_port, int(socket.AF_INET)),
                *(rule.guest.packed, rule.guest_port, completion.block),
            )
        else:
            status = self._binding.call(
                "vmnet_interface_add_port_forwarding_rule",
                *(
                    self._handle,
                    protocol,
                    rule.host_port,
                    _in_addr(rule.guest),
                    rule.guest_port,
                    completion.block,
                ),
            )
        if status == Status.SUCCESS:
            answer = completion.wait(patience.left)
            if answer is None:
                raise failures.lost(situation, patience.seconds)
            status = answer[0]
        if status != Status.SUCCESS:
            raise failures.explain(status, situation)

    def close(self) -> None:
        """Stop it; a stop that is never confirmed costs a log line and ``_STOP_SECONDS``, no more."""
        if self._closed:
            return
        self._closed = True
        completion = Completion(blocks=_blocks(self._binding))
        status = self._binding.call("vmnet_stop_interface", self._handle, self._queue, completion.block)
        if status != Status.SUCCESS:
            _log.warning("vmnet refused to stop the interface: %s", failures.words(status))
            return
        answer = completion.wait(_STOP_SECONDS)
        if answer is None:
            # Its handlers may still come, so the queue stays; both end with this process.
            _log.warning(
                "vmnet did not confirm within %g s that the interface stopped; ending anyway", _STOP_SECONDS
            )
            return
        if answer[0] != Status.SUCCESS:
            _log.warning("vmnet stopped the interface with: %s", failures.words(answer[0]))
        self._binding.call("dispatch_release", self._queue)
        self.on_stopped.close()

    def release_in_keeper(self) -> None:
        """Never called: no keeper has a copy of an interface. Raises InternalError."""
        raise InternalError("An interface of vmnet was taken through a fork")

    def _number(self, symbol: str, otherwise: int) -> int:
        value = self.parameters.get(symbol)
        return value if isinstance(value, int) and value > 0 else otherwise


def start(
    binding: Binding,
    name: str,
    begin: Begin,
    situation: failures.Situation,
    patience: Patience,
    offload: Offload = Offload.NONE,
) -> Interface:
    """Start an interface by ``begin``, as often as it takes; ``offload`` is what it asks for.

    Raises what ``failures.explain`` makes of the last status, UplinkError when macOS never answers.
    """
    return patience.insist(lambda: _attempt(binding, name, begin, situation, patience, offload), situation)


def _attempt(
    binding: Binding,
    name: str,
    begin: Begin,
    situation: failures.Situation,
    patience: Patience,
    offload: Offload,
) -> Interface:
    """Raises RefusedError; UplinkError when the handler is not called in time."""
    completion = Completion(
        blocks=_blocks(binding), retain=binding.address("xpc_retain"), release=binding.address("xpc_release")
    )
    queue: int = binding.call("dispatch_queue_create", b"vde_vmnet", None)
    try:
        handle = begin(queue, completion.block)
    except UnavailableError:  # a key that this macOS does not have
        binding.call("dispatch_release", queue)
        raise
    answer = completion.wait(max(patience.left, _REASON_SECONDS) if handle else _REASON_SECONDS)
    if answer is None and handle:
        # The handler may still come on the queue, so it stays; it ends with this process.
        raise failures.lost(situation, patience.seconds)
    status, dictionary = answer if answer is not None else (int(Status.FAILURE), 0)
    parameters = {}
    if dictionary:
        parameters = xpc.parameters(binding, dictionary)
        binding.call("xpc_release", dictionary)
    if handle and status == Status.SUCCESS:
        return Interface(binding, name, handle, queue, parameters, offload)
    binding.call("dispatch_release", queue)
    raise RefusedError(status if status != Status.SUCCESS else int(Status.FAILURE))


def shared_interfaces(binding: Binding) -> Sequence[str]:
    """Names that bridged mode can join; empty when macOS does not tell."""
    array = binding.call("vmnet_copy_shared_interface_list")
    if array is None:
        return ()
    try:
        return xpc.strings(binding, array)
    finally:
        binding.call("xpc_release", array)


def _blocks(binding: Binding) -> BlockRuntime:
    return {
        "stack_block": binding.address("_NSConcreteStackBlock"),
        "copy": binding.address("_Block_copy"),
        "release": binding.address("_Block_release"),
    }


def _in_addr(address: IPv4Address) -> int:
    """``struct in_addr`` by value: the four bytes in network order, as an integer of this machine."""
    return int.from_bytes(address.packed, sys.byteorder)
