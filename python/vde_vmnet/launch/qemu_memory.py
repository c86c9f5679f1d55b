"""Whether a QEMU command's guest shares its memory, or can: what vhost-user needs. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vde_vmnet.launch.qemu import option_values, program_name, properties

__all__ = ["Sharing", "sharing"]

#: A size that both ``-m`` and a memory backend read the same way; ``-m`` takes a bare number for MiB.
_SIZE = re.compile(r"\d+(?:\.\d+)?[kKmMgGtT]?")
#: What leaves the choice to something that we do not read, or starts from a state that has other devices.
_OPAQUE = ("readconfig", "mem-path", "incoming", "loadvm", "initfd", "xen-domid")


@dataclass(frozen=True)
class Sharing:
    """A guest that shares its memory when ``options`` are added."""

    options: tuple[str, ...]
    #: Without it QEMU 7.2 crashes when such a guest uses MSI-X.
    kvm: bool


def sharing(command: Sequence[str], *, name: str) -> Sharing | None:
    """None when it does not share its memory and we cannot have it do so; ``name`` is for what is added."""
    if any(option_values(command, one) for one in _OPAQUE):
        return None
    machine: dict[str, str] = {}
    for text in option_values(command, "machine", "M"):
        machine |= properties(text, "type")
    kvm = _has_kvm(command, machine)
    objects = [properties(text, "qom-type") for text in option_values(command, "object")]
    backends = {one.get("id"): one for one in objects}
    named = [machine["memory-backend"]] if "memory-backend" in machine else []
    for text in option_values(command, "numa"):
        node = properties(text, "type")
        if node.get("type") == "node" and "memdev" not in node:
            return None
        named += [node["memdev"]] if "memdev" in node else []
    if named:
        return Sharing((), kvm) if all(_is_shared(backends.get(one, {})) for one in named) else None
    sizes = [properties(text, "size").get("size", "") for text in option_values(command, "m")]
    if not sizes or not _SIZE.fullmatch(sizes[-1]):
        return None
    size = sizes[-1] + ("M" if sizes[-1][-1].isdigit() else "")
    memory = f"{name}-memory"
    added = ("-object", f"memory-backend-memfd,id={memory},size={size},share=on")
    return Sharing((*added, "-machine", f"memory-backend={memory}"), kvm)


def _is_shared(backend: dict[str, str]) -> bool:
    kind, share = backend.get("qom-type"), backend.get("share")
    if kind == "memory-backend-memfd":
        return share in (None, "on", "yes", "true", "True")
    return kind == "memory-backend-file" and share in ("on", "yes", "true", "True")


def _has_kvm(command: Sequence[str], machine: dict[str, str]) -> bool:
    accelerators = [properties(text, "accel").get("accel", "") for text in option_values(command, "accel")]
    return (
        any(one in ("-enable-kvm", "--enable-kvm") for one in command)
        or program_name(command) in ("kvm", "qemu-kvm")
        or (accelerators or machine.get("accel", "").split(":"))[0] == "kvm"
    )
