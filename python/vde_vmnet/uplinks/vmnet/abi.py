"""The binary interface of vmnet.framework and of what it needs from libSystem, as tables; symbols by name.

Each row can be held against Apple's headers: vmnet.h of the macOS 11.3 SDK for the classic functions, the
bindings that others generated from the macOS 26 SDK for the network functions, dispatch/queue.h and xpc/xpc.h.
``since`` is the first macOS that has the symbol. A symbol that is missing means that this macOS is older.
"""

from __future__ import annotations

import ctypes
import enum
from ctypes import POINTER, c_bool, c_char_p, c_int, c_size_t, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any

from vde_vmnet.errors import InternalError, UnavailableError
from vde_vmnet.uplinks.vmnet.library import Library

__all__ = ["DATA", "FUNCTIONS", "KEYS", "Binding", "Function", "Key", "OperatingMode", "Protocol", "Status"]

_STATUS = POINTER(c_uint32)


class Status(enum.IntEnum):
    """``vmnet_return_t``; success is not 0."""

    SUCCESS = 1000
    FAILURE = 1001
    MEM_FAILURE = 1002
    INVALID_ARGUMENT = 1003
    SETUP_INCOMPLETE = 1004
    INVALID_ACCESS = 1005
    PACKET_TOO_BIG = 1006
    BUFFER_EXHAUSTED = 1007
    TOO_MANY_PACKETS = 1008
    SHARING_SERVICE_BUSY = 1009
    NOT_AUTHORIZED = 1010


class OperatingMode(enum.IntEnum):
    """``operating_modes_t``."""

    HOST = 1000
    SHARED = 1001
    BRIDGED = 1002


class Protocol(enum.IntEnum):
    """``protocol`` of port forwarding rules: IPPROTO_TCP and IPPROTO_UDP."""

    TCP = 6
    UDP = 17


@dataclass(frozen=True)
class Key:
    """One key of an XPC dictionary. The string itself is read from the data symbol of this name."""

    symbol: str
    #: XPC type of the value: ``uint64``, ``string``, ``uuid``, ``bool``.
    kind: str
    #: ``desc`` given to start, ``param`` given to its completion, ``event`` given to the event callback.
    where: tuple[str, ...]
    since: str


KEYS: tuple[Key, ...] = (
    Key("vmnet_operation_mode_key", "uint64", ("desc",), "10.10"),
    Key("vmnet_interface_id_key", "uuid", ("desc", "param"), "10.10"),
    Key("vmnet_mac_address_key", "string", ("param",), "10.10"),
    Key("vmnet_allocate_mac_address_key", "bool", ("desc",), "10.15"),
    Key("vmnet_mtu_key", "uint64", ("desc", "param"), "10.10"),
    Key("vmnet_max_packet_size_key", "uint64", ("param",), "10.10"),
    Key("vmnet_read_max_packets_key", "uint64", ("param",), "15.0"),
    Key("vmnet_write_max_packets_key", "uint64", ("param",), "15.0"),
    Key("vmnet_start_address_key", "string", ("desc", "param"), "10.15"),
    Key("vmnet_end_address_key", "string", ("desc", "param"), "10.15"),
    Key("vmnet_subnet_mask_key", "string", ("desc", "param"), "10.15"),
    Key("vmnet_nat66_prefix_key", "string", ("desc", "param"), "10.15"),
    Key("vmnet_nat66_prefix_length_key", "uint64", ("desc",), "10.15"),  # deprecated since 11.0
    Key("vmnet_shared_interface_name_key", "string", ("desc",), "10.15"),
    Key("vmnet_network_identifier_key", "uuid", ("desc",), "11.0"),
    Key("vmnet_host_ip_address_key", "string", ("desc",), "11.0"),
    Key("vmnet_host_subnet_mask_key", "string", ("desc",), "11.0"),
    Key("vmnet_host_ipv6_address_key", "string", ("desc",), "11.0"),
    Key("vmnet_enable_isolation_key", "bool", ("desc",), "11.0"),
    Key("vmnet_enable_tso_key", "bool", ("desc",), "11.0"),
    Key("vmnet_enable_checksum_offload_key", "bool", ("desc",), "12.0"),
    Key("vmnet_enable_virtio_header_key", "bool", ("desc",), "15.4"),
    Key("vmnet_estimated_packets_available_key", "uint64", ("event",), "10.10"),
)


@dataclass(frozen=True)
class Function:
    """One function. ``library`` is the field of ``Library`` in which it is looked up."""

    name: str
    library: str
    #: ctypes type of the result; None is void. Handles, objects and blocks are ``c_void_p``.
    result: Any
    arguments: tuple[Any, ...]
    since: str


def _vmnet(name: str, result: Any, *arguments: Any, since: str) -> Function:
    return Function(name, "vmnet", result, arguments, since)


def _system(name: str, result: Any, *arguments: Any) -> Function:
    return Function(name, "system", result, arguments, "10.10")


FUNCTIONS: tuple[Function, ...] = (
    # interface_ref (xpc_object_t desc, dispatch_queue_t, block (status, xpc_object_t param)); NULL on error
    _vmnet("vmnet_start_interface", c_void_p, c_void_p, c_void_p, c_void_p, since="10.10"),
    # vmnet_return_t (interface_ref, interface_event_t mask, dispatch_queue_t, block (mask, event)), NULL or not
    _vmnet(
        "vmnet_interface_set_event_callback", c_uint32, c_void_p, c_uint32, c_void_p, c_void_p, since="10.10"
    ),
    # vmnet_return_t (interface_ref, struct vmpktdesc *, int *count)
    _vmnet("vmnet_write", c_uint32, c_void_p, c_void_p, POINTER(c_int), since="10.10"),
    _vmnet("vmnet_read", c_uint32, c_void_p, c_void_p, POINTER(c_int), since="10.10"),
    # vmnet_return_t (interface_ref, dispatch_queue_t, block (status))
    _vmnet("vmnet_stop_interface", c_uint32, c_void_p, c_void_p, c_void_p, since="10.10"),
    # xpc array of strings or NULL; the caller releases it
    _vmnet("vmnet_copy_shared_interface_list", c_void_p, since="10.15"),
    # vmnet_return_t (interface_ref, uint8_t protocol, uint16_t external_port, struct in_addr internal_address,
    #                 uint16_t internal_port, block (status) or NULL); in_addr is 4 bytes in network order
    _vmnet(
        "vmnet_interface_add_port_forwarding_rule",
        c_uint32,
        *(c_void_p, c_uint8, c_uint16, c_uint32, c_uint16, c_void_p),
        since="10.15",
    ),
    # vmnet_return_t (interface_ref, uint8_t protocol, uint16_t external_port, uint8_t address_family,
    #                 const void *internal_address, uint16_t internal_port, block (status) or NULL)
    _vmnet(
        "vmnet_interface_add_ip_port_forwarding_rule",
        c_uint32,
        *(c_void_p, c_uint8, c_uint16, c_uint8, c_void_p, c_uint16, c_void_p),
        since="12.0",
    ),
    # -- macOS 26: a network is made first, interfaces are started in it
    # vmnet_network_configuration_ref (vmnet_mode_t, vmnet_return_t *)
    _vmnet("vmnet_network_configuration_create", c_void_p, c_uint32, _STATUS, since="26.0"),
    # void (vmnet_network_configuration_ref)
    _vmnet("vmnet_network_configuration_disable_nat44", None, c_void_p, since="26.0"),
    _vmnet("vmnet_network_configuration_disable_nat66", None, c_void_p, since="26.0"),
    _vmnet("vmnet_network_configuration_disable_dhcp", None, c_void_p, since="26.0"),
    _vmnet("vmnet_network_configuration_disable_dns_proxy", None, c_void_p, since="26.0"),
    _vmnet("vmnet_network_configuration_disable_router_advertisement", None, c_void_p, since="26.0"),
    # vmnet_return_t (configuration, const char *interface_name)
    _vmnet("vmnet_network_configuration_set_external_interface", c_uint32, c_void_p, c_char_p, since="26.0"),
    # vmnet_return_t (configuration, const struct in_addr *address, const struct in_addr *mask)
    _vmnet("vmnet_network_configuration_set_ipv4_subnet", c_uint32, c_void_p, c_char_p, c_char_p, since="26.0"),
    # vmnet_return_t (configuration, const struct in6_addr *prefix, uint8_t length)
    _vmnet("vmnet_network_configuration_set_ipv6_prefix", c_uint32, c_void_p, c_char_p, c_uint8, since="26.0"),
    # vmnet_return_t (configuration, uint32_t mtu)
    _vmnet("vmnet_network_configuration_set_mtu", c_uint32, c_void_p, c_uint32, since="26.0"),
    # vmnet_return_t (configuration, const ether_addr_t *client, const struct in_addr *reservation)
    _vmnet(
        "vmnet_network_configuration_add_dhcp_reservation",
        c_uint32,
        *(c_void_p, c_char_p, c_char_p),
        since="26.0",
    ),
    # vmnet_return_t (configuration, uint8_t protocol, sa_family_t family, uint16_t internal_port,
    #                 uint16_t external_port, const void *internal_address): internal before external here
    _vmnet(
        "vmnet_network_configuration_add_port_forwarding_rule",
        c_uint32,
        *(c_void_p, c_uint8, c_uint8, c_uint16, c_uint16, c_char_p),
        since="26.0",
    ),
    # vmnet_network_ref (configuration, vmnet_return_t *)
    _vmnet("vmnet_network_create", c_void_p, c_void_p, _STATUS, since="26.0"),
    # void (network, struct in_addr *subnet, struct in_addr *mask)
    _vmnet("vmnet_network_get_ipv4_subnet", None, c_void_p, c_void_p, c_void_p, since="26.0"),
    # void (network, struct in6_addr *prefix, uint8_t *length)
    _vmnet("vmnet_network_get_ipv6_prefix", None, c_void_p, c_void_p, POINTER(c_uint8), since="26.0"),
    # interface_ref (network, xpc_object_t desc, dispatch_queue_t, block (status, param))
    _vmnet("vmnet_interface_start_with_network", c_void_p, *(c_void_p,) * 4, since="26.0"),
    # void (CFTypeRef): configurations and networks are CoreFoundation objects
    _vmnet("CFRelease", None, c_void_p, since="10.10"),
    # -- libdispatch
    _system("dispatch_queue_create", c_void_p, c_char_p, c_void_p),
    _system("dispatch_release", None, c_void_p),
    # -- Blocks runtime; called by the engine
    _system("_Block_copy", c_void_p, c_void_p),
    _system("_Block_release", None, c_void_p),
    # -- XPC
    _system("xpc_dictionary_create", c_void_p, c_void_p, c_void_p, c_size_t),
    _system("xpc_dictionary_set_bool", None, c_void_p, c_char_p, c_bool),
    _system("xpc_dictionary_set_uint64", None, c_void_p, c_char_p, c_uint64),
    _system("xpc_dictionary_set_string", None, c_void_p, c_char_p, c_char_p),
    _system("xpc_dictionary_set_uuid", None, c_void_p, c_char_p, c_char_p),
    _system("xpc_dictionary_get_value", c_void_p, c_void_p, c_char_p),
    _system("xpc_dictionary_get_uint64", c_uint64, c_void_p, c_char_p),
    _system("xpc_dictionary_get_string", c_char_p, c_void_p, c_char_p),
    _system("xpc_dictionary_get_uuid", c_void_p, c_void_p, c_char_p),
    _system("xpc_array_get_count", c_size_t, c_void_p),
    _system("xpc_array_get_string", c_char_p, c_void_p, c_size_t),
    _system("xpc_retain", c_void_p, c_void_p),
    _system("xpc_release", None, c_void_p),
)

#: Data symbols of libSystem whose *address* is what counts.
DATA: tuple[str, ...] = ("_NSConcreteStackBlock",)

_BY_NAME = {function.name: function for function in FUNCTIONS}
_KEYS_BY_SYMBOL = {key.symbol: key for key in KEYS}


class Binding:
    """Symbols of an opened ``Library``, typed by the tables above."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def has(self, name: str) -> bool:
        """Whether this macOS has the function."""
        return self._find(_BY_NAME[name]) is not None

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the table, with the GIL released.

        Raises UnavailableError that names the version when this macOS does not have it.
        """
        return self._function(name)(*arguments)

    def address(self, name: str) -> int:
        """The address of a function, or of one of ``DATA``. Raises UnavailableError."""
        if name in DATA:
            try:
                return ctypes.addressof(ctypes.c_char.in_dll(self._library.system, name))
            except ValueError:
                raise InternalError(f"libSystem has no {name}") from None
        address = ctypes.cast(self._function(name), c_void_p).value
        assert address is not None  # noqa: S101 - a symbol that was found has an address
        return address

    def has_key(self, symbol: str) -> bool:
        """Whether this macOS knows the key."""
        return self._key(symbol) is not None

    def key(self, symbol: str, *, option: str = "") -> bytes:
        """The string of a key. Raises UnavailableError that names the version, and the option that needs it."""
        value = self._key(symbol)
        if value is None:
            raise _too_old(symbol, _KEYS_BY_SYMBOL[symbol].since, option)
        return value

    def _key(self, symbol: str) -> bytes | None:
        assert symbol in _KEYS_BY_SYMBOL, symbol  # noqa: S101 - a slip of ours
        try:
            # The symbol is a variable that holds the address of the string.
            return c_char_p.in_dll(self._library.vmnet, symbol).value
        except ValueError:
            return None

    def _find(self, function: Function) -> Any:
        try:
            found = getattr(getattr(self._library, function.library), function.name)
        except AttributeError:
            return None
        found.restype, found.argtypes = function.result, function.arguments
        return found

    def _function(self, name: str) -> Any:
        found = self._find(_BY_NAME[name])
        if found is None:
            raise _too_old(name, _BY_NAME[name].since)
        return found


def _too_old(symbol: str, since: str, option: str = "") -> UnavailableError:
    needs = f"{option} needs macOS {since}, and this macOS is too old: it has no {symbol}"
    return UnavailableError(
        needs if option else f"This macOS is too old: {symbol} came with macOS {since}",
        next_step=f"Leave {option} out, or update macOS" if option else "Update macOS",
    )
