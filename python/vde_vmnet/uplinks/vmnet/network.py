"""Networks of macOS 26: configured first, made, and then an interface started in them.

Configurations and networks are CoreFoundation objects. A network holds its subnet until it is released.
"""

from __future__ import annotations

import ctypes
import logging
import queue
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from vde_vmnet.config.model import UplinkConfig
from vde_vmnet.errors import ConflictError, UplinkError
from vde_vmnet.uplinks.vmnet import failures
from vde_vmnet.uplinks.vmnet.abi import Binding, Protocol, Status
from vde_vmnet.uplinks.vmnet.patience import Patience, RefusedError
from vde_vmnet.uplinks.vmnet.request import MODES

__all__ = ["Network", "make"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Network:
    """A made network and what macOS says about it."""

    handle: int
    #: The subnet and its mask; None when macOS reports none.
    subnet: IPv4Address
    mask: IPv4Address
    prefix: IPv6Address
    prefix_length: int

    def report(self) -> dict[str, str | int]:
        """With the names that vmnet-helper gives these values."""
        return {
            "net_ipv4_subnet": str(self.subnet),
            "net_ipv4_mask": str(self.mask),
            "net_ipv6_prefix": str(self.prefix),
            "net_ipv6_prefix_len": self.prefix_length,
        }


def make(binding: Binding, config: UplinkConfig, situation: failures.Situation, patience: Patience) -> Network:
    """Configure and make a network, as often as it takes.

    Raises what ``failures.explain`` makes of a status, ConflictError when macOS gives another subnet than the
    one asked for, UplinkError when it never answers.
    """
    handle = patience.insist(lambda: _attempt(binding, config, situation, patience), situation)
    network = _read(binding, handle)
    if config.ipv4 is not None:
        got = IPv4Network((network.subnet, str(network.mask)), strict=False)
        if got != config.ipv4.network:
            binding.call("CFRelease", handle)
            raise ConflictError(
                f"--vmnet-gateway {config.ipv4.gateway}: macOS made the network {got} instead of"
                f" {config.ipv4.network}",
                next_step="Choose another subnet",
            )
    return network


def _attempt(binding: Binding, config: UplinkConfig, situation: failures.Situation, patience: Patience) -> int:
    """The network. Raises RefusedError, UplinkError when macOS never answers, and for a setting its error."""
    status = ctypes.c_uint32(0)
    configuration = binding.call(
        "vmnet_network_configuration_create", int(MODES[config.mode]), ctypes.byref(status)
    )
    if configuration is None:
        raise RefusedError(status.value)
    try:
        for call, arguments, option in _settings(config):
            answer = binding.call(f"vmnet_network_configuration_{call}", configuration, *arguments)
            if answer is not None and answer != Status.SUCCESS:
                said = failures.explain(answer, situation)
                raise type(said)(f"{option}: {said.message}", next_step=said.next_step)
        handle = _within(
            patience,
            lambda: binding.call("vmnet_network_create", configuration, ctypes.byref(status)),
            situation,
        )
    finally:
        binding.call("CFRelease", configuration)
    if handle is None:
        raise RefusedError(status.value)
    return handle


def _settings(config: UplinkConfig) -> list[tuple[str, tuple[object, ...], str]]:
    """Calls without their common prefix, their arguments, and the option behind each."""
    calls: list[tuple[str, tuple[object, ...], str]] = []
    if config.ipv4 is not None:
        # The gateway, not the network's address: that is accepted too, and then no interface starts.
        addresses = (config.ipv4.gateway.packed, config.ipv4.network.netmask.packed)
        calls.append(("set_ipv4_subnet", addresses, f"--vmnet-gateway {config.ipv4.gateway}"))
    if config.nat66_prefix is not None:
        prefix = config.nat66_prefix
        calls.append(
            ("set_ipv6_prefix", (prefix.network_address.packed, prefix.prefixlen), "--vmnet-nat66-prefix")
        )
    if config.mtu is not None:
        calls.append(("set_mtu", (config.mtu,), f"--vmnet-mtu {config.mtu}"))
    if not config.dhcp:
        calls.append(("disable_dhcp", (), "--vmnet-disable-dhcp"))
    for one in config.reservations:
        mac = bytes.fromhex(str(one.mac).replace(":", ""))
        calls.append(("add_dhcp_reservation", (mac, one.address.packed), f"--reserve {one.mac}={one.address}"))
    for rule in config.forwards:
        protocol = int(Protocol[rule.protocol.upper()])
        # Internal port before external port: the other way round than in the call on an interface.
        ports = (rule.guest_port, rule.host_port)
        arguments = (protocol, int(socket.AF_INET), *ports, rule.guest.packed)
        calls.append(("add_port_forwarding_rule", arguments, f"--forward {rule}"))
    return calls


def _within(patience: Patience, call: Callable[[], int | None], situation: failures.Situation) -> int | None:
    """The result of a call that has been seen never to return; its thread is then left behind."""
    results: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    threading.Thread(target=lambda: results.put(call()), daemon=True, name="vmnet_network_create").start()
    try:
        return results.get(timeout=patience.left)
    except queue.Empty:
        raise failures.lost(situation, patience.seconds) from None


def _read(binding: Binding, handle: int) -> Network:
    subnet, mask = ctypes.create_string_buffer(4), ctypes.create_string_buffer(4)
    binding.call("vmnet_network_get_ipv4_subnet", handle, subnet, mask)
    prefix, length = ctypes.create_string_buffer(16), ctypes.c_uint8(0)
    binding.call("vmnet_network_get_ipv6_prefix", handle, prefix, ctypes.byref(length))
    try:
        return Network(
            handle, IPv4Address(subnet.raw), IPv4Address(mask.raw), IPv6Address(prefix.raw), length.value
        )
    except ValueError as error:
        raise UplinkError(f"vmnet reports a network that cannot be: {error}") from error
