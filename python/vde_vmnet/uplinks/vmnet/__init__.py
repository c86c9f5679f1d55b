"""The vmnet uplink: Apple's vmnet.framework, by our own declaration of its interface.

What is not per frame is here; reading, writing and the event callback are the engine's. Nothing opened here
survives a fork, so the process that was started opens it and serves (see uplinks/base.py). Importing this
loads neither the framework nor the engine: the keeper imports it too.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Network
from typing import TYPE_CHECKING
from uuid import UUID

from vde_vmnet.addresses import Forward, Reservation
from vde_vmnet.config.model import Mode, UplinkConfig
from vde_vmnet.errors import ConfigurationError, UnavailableError, UplinkError, VdeVmnetError
from vde_vmnet.recovery import UndoRecord
from vde_vmnet.uplinks.base import OpenedEndpoint, OpenedUplink, nothing
from vde_vmnet.uplinks.leases import LeaseFile
from vde_vmnet.uplinks.vmnet import failures, library, offload, request, reservations, xpc
from vde_vmnet.uplinks.vmnet.abi import KEYS, Binding
from vde_vmnet.uplinks.vmnet.paths import MACOS
from vde_vmnet.uplinks.vmnet.patience import Patience

if TYPE_CHECKING:
    from vde_vmnet.uplinks.vmnet.interface import Begin, Interface

__all__ = ["VmnetUplink"]

_log = logging.getLogger(__name__)


class VmnetUplink:
    """vmnet.framework as the way out. One per network."""

    name = "vmnet"
    needs_keeper = False
    survives_fork = False

    def __init__(self, config: UplinkConfig, network_id: str) -> None:
        self._config = config
        self._network_id = network_id

    def unavailable_reason(self) -> str | None:
        """Why this uplink cannot be used here and now by this caller, as one sentence, or None.

        Loads the framework: not for a process that forks afterwards.
        """
        if not library.is_macos():
            return "The vmnet uplink needs macOS"
        try:
            binding = Binding(library.load())
        except UnavailableError as error:
            return error.message
        if os.geteuid() != 0 and not binding.has("vmnet_network_create"):
            return "The vmnet uplink needs root before macOS 26"
        return None

    def prepare(self, undo: UndoRecord) -> None:
        """Reservations, for the DHCP server of a macOS before 26.

        Raises PrivilegeError, ConflictError, UplinkError.
        """
        reservations.write(self._network_id, self._config.reservations, undo)

    def open(self, undo: UndoRecord, prepare: Callable[[], None] = nothing) -> OpenedUplink:  # noqa: ARG002
        """Start the interface. Blocks until it runs, at most for ``--start-timeout``.

        Raises ConfigurationError, ConflictError (another program or mode is in the way), PrivilegeError,
        UnavailableError (not a Mac, or one that is too old for an option), UplinkError.
        """
        if not library.is_macos():
            raise UnavailableError(
                "The vmnet uplink needs macOS", next_step="Use --backend=linux, or --backend=none"
            )
        request.check(self._config)
        binding = Binding(library.load())
        options = request.network_options(self._config)
        network_api = binding.has("vmnet_network_create")
        patience = Patience(self._config.start_timeout)
        interface, report = (
            self._start_in_network(binding, options, patience)
            if options and network_api
            else self._start_classic(binding, prepare, patience, network_api=network_api)
        )
        facts = {**_reported(binding, interface.parameters), **report}
        shown = tuple((name, str(value)) for name, value in facts.items())
        return OpenedUplink(
            interface, shown, {**facts, "mode": self._config.mode.value}, leases=_leases(binding, facts)
        )

    def open_guest_mac(self, mac: str, undo: UndoRecord) -> OpenedEndpoint:  # noqa: ARG002
        """Raises UplinkError."""
        raise UplinkError(f"No descriptor for {mac}: the uplink hears every guest")

    def forward(self, rule: Forward, *, on: bool) -> None:  # noqa: ARG002
        """Raises UnavailableError."""
        raise UnavailableError(
            f"{rule} cannot be opened while the network runs", next_step="Start the daemon again with --forward"
        )

    def reload(self) -> str:
        """Nothing: there is no service of ours."""
        return ""

    def reserve(self, one: Reservation, *, on: bool) -> None:  # noqa: ARG002
        """Raises UnavailableError."""
        raise UnavailableError(
            f"Nothing can be kept for {one.mac} while the network runs: macOS is told at the start",
            next_step="Start the daemon again with --reserve",
        )

    def _start_classic(
        self, binding: Binding, prepare: Callable[[], None], patience: Patience, *, network_api: bool
    ) -> tuple[Interface, dict[str, str | int]]:
        from vde_vmnet.uplinks.vmnet import interface

        config = self._config
        if not network_api:
            request.too_old(config)
        if config.mode is Mode.BRIDGED:
            _check_interface(config.interface, interface.shared_interfaces(binding))
        if config.nat66_prefix is not None and config.mode is Mode.HOST:
            _log.warning("--vmnet-nat66-prefix has no effect: vmnet gives IPv6 prefixes in shared mode only")
        entries = request.classic(config, self._network_id, self._offload())
        if config.reservations:
            prepare()

        def begin(queue: int, block: int) -> int | None:
            with xpc.description(binding, entries) as description:
                handle: int | None = binding.call("vmnet_start_interface", description, queue, block)
                return handle

        started = self._start(binding, begin, patience, network_api=network_api)
        try:
            for rule in config.forwards:
                situation = self._situation(f"forward {rule}", network_api=network_api, what="--forward")
                started.forward(rule, situation, patience)
        except BaseException:
            started.close()
            raise
        return started, {}

    def _start_in_network(
        self, binding: Binding, options: list[str], patience: Patience
    ) -> tuple[Interface, dict[str, str | int]]:
        from vde_vmnet.uplinks.vmnet import network

        for loss in request.losses(self._config, options):
            _log.warning("%s", loss)
        situation = self._situation("make the network", network_api=True)
        made = network.make(binding, self._config, situation, patience)
        entries = request.in_network(self._config, self._offload())

        def begin(queue: int, block: int) -> int | None:
            with xpc.description(binding, entries) as description:
                handle: int | None = binding.call(
                    "vmnet_interface_start_with_network", made.handle, description, queue, block
                )
                return handle

        try:
            started = self._start(binding, begin, patience, network_api=True)
        except VdeVmnetError:
            binding.call("CFRelease", made.handle)
            raise
        started.on_stopped.callback(binding.call, "CFRelease", made.handle)
        return started, made.report()

    def _start(self, binding: Binding, begin: Begin, patience: Patience, *, network_api: bool) -> Interface:
        from vde_vmnet.uplinks.vmnet import interface

        return interface.start(
            binding,
            f"vmnet {self._config.mode.value}",
            begin,
            self._situation("start the interface", network_api=network_api),
            patience,
            self._offload(),
        )

    def _offload(self) -> offload.Offload:
        return offload.choose(self._config, library.macos_version())

    def _situation(self, doing: str, *, network_api: bool, what: str = "") -> failures.Situation:
        plan = self._config.ipv4
        return failures.Situation(
            doing=doing,
            mode=self._config.mode,
            root=os.geteuid() == 0,
            network_api=network_api,
            subnet=str(plan.network) if plan is not None else None,
            interface=self._config.interface,
            option=what,
        )


def _check_interface(wanted: str | None, names: Sequence[str]) -> None:
    if names and wanted not in names:
        raise ConfigurationError(
            f'--vmnet-interface "{wanted}" does not exist or cannot be bridged',
            next_step=f"This Mac has: {', '.join(names)}",
        )


def _leases(binding: Binding, facts: Mapping[str, str | int]) -> LeaseFile | None:
    """What bootpd handed out on this network; None where somebody else hands addresses out."""
    start, mask = (
        binding.key(symbol).decode() for symbol in ("vmnet_start_address_key", "vmnet_subnet_mask_key")
    )
    try:
        network = IPv4Network(f"{facts[start]}/{facts[mask]}", strict=False)
    except (KeyError, ValueError):
        return None
    return LeaseFile(MACOS.dhcpd_leases, network)


def _reported(binding: Binding, parameters: dict[str, xpc.Value]) -> dict[str, str | int]:
    """What vmnet reported under the names that the framework itself has for it."""
    found: dict[str, str | int] = {}
    for key in KEYS:
        value = parameters.get(key.symbol)
        if value is not None:
            shown = str(value).upper() if isinstance(value, UUID) else value
            found[binding.key(key.symbol).decode()] = shown
    return found
