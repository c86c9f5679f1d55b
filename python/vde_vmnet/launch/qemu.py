"""A QEMU command line: what it says about its name and its network, and what it lacks to be on ours. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from vde_vmnet.errors import ConfigurationError

__all__ = [
    "Shared",
    "Wiring",
    "guest_name",
    "is_qemu",
    "option_values",
    "program_name",
    "properties",
    "takes_shared",
    "wire",
]

#: Also what distributions call it when it is theirs to choose the accelerator.
_PROGRAM = re.compile(r"qemu-system-\w+|qemu-kvm|kvm")
#: Options whose value describes a connection; ``-net`` is the oldest of them.
_CONNECTIONS = ("netdev", "nic", "net")
#: QEMU's names for a descriptor: ``-netdev socket``, ``stream``, ``dgram``.
_DESCRIPTOR_KEYS = ("fd", "addr.str", "local.str")


@dataclass(frozen=True)
class Wiring:
    """A command that is on the network when it has the descriptor."""

    command: tuple[str, ...]
    #: The card's address: the one asked for, or the one that the command line gives it.
    mac: str


@dataclass(frozen=True)
class Shared:
    """A vhost-user socket, and what the command lacks so that its guest's memory is shared."""

    path: str
    options: tuple[str, ...]
    #: Otherwise its card is to do without MSI-X.
    kvm: bool


def is_qemu(program: str) -> bool:
    """Whether ``program``, a name or path, is a QEMU system emulator."""
    return _PROGRAM.fullmatch(PurePath(program).name) is not None


def properties(text: str, implied: str) -> dict[str, str]:
    """``value,key=value,...`` or a JSON object as QEMU reads it; ``implied`` is the key of a bare first value.

    A doubled comma is a comma. JSON objects inside JSON become ``outer.inner`` keys.
    """
    if text.startswith("{"):
        try:
            return dict(_flat(json.loads(text), ""))
        except ValueError:
            return {}  # QEMU will say what is wrong with it
    found: dict[str, str] = {}
    for number, one in enumerate(text.replace(",,", "\0").split(",")):
        key, equals, value = one.replace("\0", ",").partition("=")
        if equals:
            found[key] = value
        elif number == 0:
            found[implied] = key
        else:
            found[key] = "on"
    return found


def _flat(value: object, prefix: str) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [
            pair for key, inner in value.items() for pair in _flat(inner, f"{prefix}.{key}" if prefix else key)
        ]
    return [(prefix, str(value))]


def guest_name(command: Sequence[str]) -> str | None:
    """The VM's name, ``-name NAME`` or ``-name guest=NAME``; None without one."""
    named = [properties(value, "guest").get("guest") for _, value in _options(command, "name")]
    return named[-1] if named else None


def _options(command: Sequence[str], *names: str) -> list[tuple[int, str]]:
    """Place and text of the value of each option of these names; QEMU takes one dash or two."""
    wanted = {dashes + name for name in names for dashes in ("-", "--")}
    return [(at + 1, command[at + 1]) for at in range(1, len(command) - 1) if command[at] in wanted]


def option_values(command: Sequence[str], *names: str) -> list[str]:
    """The value of each option of these names, in order."""
    return [text for _, text in _options(command, *names)]


def program_name(command: Sequence[str]) -> str:
    """Without its folder."""
    return PurePath(command[0]).name


def takes_shared(command: Sequence[str], *, descriptor: int, netdev: str) -> bool:
    """Whether the connection is ours to make, and a card that is on it one that vhost-user can have."""
    for _, text in _options(command, *_CONNECTIONS):
        given = properties(text, "type")
        if any(given.get(key) == str(descriptor) for key in _DESCRIPTOR_KEYS) or _on(given, netdev):
            return False
    drivers = [properties(text, "driver") for _, text in _options(command, "device")]
    cards = [card.get("driver", "") for card in drivers if _on(card, netdev)]
    return all(card.startswith("virtio-net") for card in cards)


def wire(
    command: Sequence[str], *, descriptor: int, mac: str, netdev: str, shared: Shared | None = None
) -> Wiring:
    """``command`` with the network card and connection that it lacks.

    Nothing is added when a connection of its own uses ``descriptor``; only the connection, called ``netdev``,
    when a device of its own is on it. ``-netdev socket,fd=`` is the one form that every version of QEMU has,
    for streams and datagrams alike; with ``shared`` it is a vhost-user one, which uses no descriptor.
    Raises ConfigurationError when the name is another connection's, or QEMU would leave into the background.
    """
    if any(one in ("-daemonize", "--daemonize") for one in command):
        raise ConfigurationError(
            "-daemonize puts QEMU in the background, and its network ends with the command that was started",
            next_step="Leave it out, and put `vde_vmnet run` itself in the background",
        )
    for _, text in _options(command, *_CONNECTIONS):
        given = properties(text, "type")
        if any(given.get(key) == str(descriptor) for key in _DESCRIPTOR_KEYS):
            return Wiring(tuple(command), _mac_behind(command, given.get("id")) or given.get("mac", mac))
        if given.get("id") == netdev and given.get("type") != "hubport":
            raise ConfigurationError(
                f'The command has a -netdev "{netdev}" of its own that does not use descriptor {descriptor}',
                next_step=f"Use fd={descriptor} there, or choose another name with --netdev-id",
            )
    added = ["-netdev", f"socket,id={netdev},fd={descriptor}"]
    if shared is not None:
        path = shared.path.replace(",", ",,")
        added = [*shared.options, "-chardev", f"socket,id={netdev}-link,path={path}"]
        added += ["-netdev", f"vhost-user,id={netdev},chardev={netdev}-link"]
    devices = [
        (place, text) for place, text in _options(command, "device") if _on(properties(text, "driver"), netdev)
    ]
    if not devices:
        if any(_on(properties(text, "type"), netdev) for _, text in _options(command, "netdev")):
            return Wiring((*command, *added), mac)  # a hub port: its cards are elsewhere
        card = "virtio-net-ccw" if PurePath(command[0]).name == "qemu-system-s390x" else "virtio-net-pci"
        text = _with(f"{card},netdev={netdev},mac={mac}", _interrupts({"driver": card}, shared))
        return Wiring((*command, *added, "-device", text), mac)
    place, text = devices[0]
    device = properties(text, "driver")
    own = device.get("mac")
    # QEMU's default is the same address for every guest of the world.
    lacks = {} if own is not None else {"mac": mac}
    lacks |= _interrupts(device, shared)
    return Wiring((*command[:place], _with(text, lacks), *command[place + 1 :], *added), own or mac)


def _interrupts(device: Mapping[str, str], shared: Shared | None) -> dict[str, str]:
    """What keeps QEMU 7.2 from a crash, see ``Shared.kvm``."""
    if shared is None or shared.kvm or "vectors" in device:
        return {}
    return {"vectors": "0"} if device.get("driver", "").startswith("virtio-net-pci") else {}


def _on(device: Mapping[str, str], netdev: str) -> bool:
    return device.get("netdev") == netdev


def _mac_behind(command: Sequence[str], netdev: str | None) -> str | None:
    """The address of the device on ``netdev``, when the command line gives it one."""
    for _, text in _options(command, "device"):
        device = properties(text, "driver")
        if netdev is not None and _on(device, netdev):
            return device.get("mac")
    return None


def _with(text: str, more: Mapping[str, str]) -> str:
    if more and text.startswith("{"):
        # In JSON a number is no text.
        typed = {key: int(value) if key == "vectors" else value for key, value in more.items()}
        return json.dumps({**json.loads(text), **typed})
    return ",".join([text, *(f"{key}={value}" for key, value in more.items())])
