"""XPC dictionaries and arrays, as far as vmnet needs them: made from entries, read by known keys.

XPC ends the process on bad input, so what is passed here has been checked: keys come from the framework, and
values have the types that abi.py lists.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from vde_vmnet.uplinks.vmnet.abi import KEYS, Binding

__all__ = ["Entry", "Value", "description", "parameters", "strings"]

Value = int | bool | str | UUID


@dataclass(frozen=True)
class Entry:
    """One line of an interface description."""

    #: Symbol of the key.
    symbol: str
    value: Value
    #: What the user gave to have it; empty for what every start has.
    option: str = ""


@contextmanager
def description(binding: Binding, entries: Sequence[Entry]) -> Iterator[int]:
    """An XPC dictionary of the entries, released at the end of the block.

    Raises UnavailableError that names the option when this macOS does not know a key.
    """
    keys = [binding.key(entry.symbol, option=entry.option) for entry in entries]
    dictionary: int = binding.call("xpc_dictionary_create", None, None, 0)
    try:
        for key, entry in zip(keys, entries, strict=True):
            match entry.value:
                case bool():
                    binding.call("xpc_dictionary_set_bool", dictionary, key, entry.value)
                case int():
                    binding.call("xpc_dictionary_set_uint64", dictionary, key, entry.value)
                case str():
                    binding.call("xpc_dictionary_set_string", dictionary, key, entry.value.encode())
                case UUID():
                    binding.call("xpc_dictionary_set_uuid", dictionary, key, entry.value.bytes)
        yield dictionary
    finally:
        binding.call("xpc_release", dictionary)


def parameters(binding: Binding, dictionary: int) -> dict[str, Value]:
    """What vmnet reports about a started interface, by the symbol of the key; absent keys are left out."""
    found: dict[str, Value] = {}
    for key in KEYS:
        if "param" not in key.where or not binding.has_key(key.symbol):
            continue
        name = binding.key(key.symbol)
        if binding.call("xpc_dictionary_get_value", dictionary, name) is None:
            continue
        match key.kind:
            case "uint64":
                found[key.symbol] = int(binding.call("xpc_dictionary_get_uint64", dictionary, name))
            case "string":
                text = binding.call("xpc_dictionary_get_string", dictionary, name)
                if text is not None:
                    found[key.symbol] = text.decode(errors="replace")
            case "uuid":
                address = binding.call("xpc_dictionary_get_uuid", dictionary, name)
                if address is not None:
                    found[key.symbol] = UUID(bytes=ctypes.string_at(address, 16))
    return found


def strings(binding: Binding, array: int) -> list[str]:
    """The strings of an XPC array; others are left out."""
    texts = (
        binding.call("xpc_array_get_string", array, index)
        for index in range(binding.call("xpc_array_get_count", array))
    )
    return [text.decode(errors="replace") for text in texts if text is not None]
