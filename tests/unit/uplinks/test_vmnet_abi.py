"""The tables of the framework's interface: complete, typed, and read through a real loader."""

from __future__ import annotations

import ctypes
import re

import pytest

from vde_vmnet.errors import InternalError, UnavailableError
from vde_vmnet.uplinks.vmnet import library
from vde_vmnet.uplinks.vmnet.abi import DATA, FUNCTIONS, KEYS, Binding, OperatingMode, Status
from vde_vmnet.uplinks.vmnet.library import Library


def test_the_tables_say_each_thing_once() -> None:
    assert len(KEYS) == 23
    for names in ([key.symbol for key in KEYS], [function.name for function in FUNCTIONS]):
        assert len(set(names)) == len(names)
    for since in [*(key.since for key in KEYS), *(function.since for function in FUNCTIONS)]:
        assert re.fullmatch(r"\d\d\.\d+", since)
    assert {key.kind for key in KEYS} == {"uint64", "string", "uuid", "bool"}
    assert {function.library for function in FUNCTIONS} == {"vmnet", "system"}


def test_numbers_of_the_headers() -> None:
    assert [int(status) for status in Status] == list(range(1000, 1011))
    assert [int(mode) for mode in OperatingMode] == [1000, 1001, 1002]


@pytest.fixture
def libc() -> Binding:
    """A library that has none of Apple's symbols."""
    return Binding(Library(ctypes.CDLL(None), ctypes.CDLL(None)))


def test_a_missing_function_says_which_macos_brings_it(libc: Binding) -> None:
    assert not libc.has("vmnet_network_create")
    with pytest.raises(UnavailableError, match=r"too old: vmnet_network_create came with macOS 26\.0"):
        libc.call("vmnet_network_create", None, None)
    with pytest.raises(UnavailableError, match=r"vmnet_read came with macOS 10\.10"):
        libc.address("vmnet_read")


def test_a_missing_key_says_which_macos_brings_it(libc: Binding) -> None:
    assert not libc.has_key("vmnet_enable_isolation_key")
    with pytest.raises(UnavailableError, match=r"vmnet_enable_isolation_key came with macOS 11\.0"):
        libc.key("vmnet_enable_isolation_key")


def test_a_missing_key_of_an_option_names_the_option(libc: Binding) -> None:
    message = r"--vmnet-mtu needs macOS 10\.10, and this macOS is too old.*Leave --vmnet-mtu out"
    with pytest.raises(UnavailableError, match=message):
        libc.key("vmnet_mtu_key", option="--vmnet-mtu")


def test_a_libsystem_without_blocks_is_none(libc: Binding) -> None:
    with pytest.raises(InternalError, match=DATA[0]):
        libc.address(DATA[0])


def test_where_there_is_no_framework() -> None:
    with pytest.raises(UnavailableError, match=r"vmnet\.framework cannot be loaded.*--backend=linux"):
        library.load()
