"""A double of the framework behind ``Binding``: remembers the calls, answers as it is told."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from vde_vmnet.uplinks.vmnet import interface
from vde_vmnet.uplinks.vmnet.abi import DATA, FUNCTIONS, Binding, Status

__all__ = ["Double", "fill", "tell"]

_ADDRESSES = {name: 4096 + 16 * number for number, name in enumerate([*(one.name for one in FUNCTIONS), *DATA])}


class Double(Binding):
    """Answers success, which is also every handle, unless ``answers`` has a value or a callable for a function.

    ``missing``: beginnings of the names that this macOS does not have.
    """

    def __init__(self, *, missing: tuple[str, ...] = (), **answers: Any) -> None:
        self.missing = missing
        self.answers = answers
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def has(self, name: str) -> bool:
        """See Binding."""
        return not name.startswith(self.missing) if self.missing else True

    def _key(self, symbol: str) -> bytes | None:
        return symbol.removesuffix("_key").encode() if self.has(symbol) else None

    def address(self, name: str) -> int:
        """See Binding."""
        return _ADDRESSES[name]

    def call(self, name: str, *arguments: Any) -> Any:
        """See Binding."""
        assert name in _ADDRESSES and self.has(name), name
        self.calls.append((name, arguments))
        answer = self.answers.get(name, int(Status.SUCCESS))
        return answer(*arguments) if callable(answer) else answer

    def called(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of all calls of a function."""
        return [arguments for called, arguments in self.calls if called == name]


class _Told:
    """In place of the engine's Completion."""

    answers: list[tuple[int, int] | None]
    waits: list[float]

    def __init__(self, **_: Any) -> None:
        self.block = 77

    def wait(self, timeout: float) -> tuple[int, int] | None:
        self.waits.append(timeout)
        return self.answers.pop(0)


def tell(monkeypatch: pytest.MonkeyPatch, *answers: tuple[int, int] | None) -> list[float]:
    """Completions give these answers, in order; None is a lost callback. Returns the times waited for."""
    waits: list[float] = []
    monkeypatch.setattr(
        interface, "Completion", type("Told", (_Told,), {"answers": list(answers), "waits": waits})
    )
    return waits


def fill(pointer: Any, data: bytes) -> None:
    """Write into memory that a caller handed over."""
    ctypes.memmove(pointer, data, len(data))
