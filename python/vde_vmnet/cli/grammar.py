"""What commands take, read off their parsers: for completion scripts and manual pages. Pure."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass

__all__ = ["Command", "Operand", "Option", "describe"]

#: Metavar -> what a shell can offer for it.
_KINDS = {
    "VDESWITCH": "network",
    "PATH": "file",
    "FILE": "file",
    "PIDFILE": "file",
    "SOCKET": "file",
    "DIR": "directory",
    "DIRECTORY": "directory",
    "USER": "user",
    "GROUP": "group",
    "INTERFACE": "interface",
    "IF": "interface",
    "PORT": "port",
}
_WORDS = re.compile(r"\(([\w|-]+)\)")


@dataclass(frozen=True)
class Operand:
    """A value: of an option, or an argument by itself."""

    metavar: str
    help: str = ""
    #: Whether it can be given again and again.
    repeated: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """All that it can be, where these are a few words."""
        found = self._alternatives
        return () if any(word.isupper() for word in found) else found

    @property
    def kind(self) -> str:
        """What a shell can offer: ``words``, ``file``, ``network``, ``port``… or nothing, which is empty."""
        names = [word for word in self._alternatives if word.isupper()] or [self.metavar]
        return "words" if self.words else _KINDS.get(names[0], "")

    @property
    def _alternatives(self) -> tuple[str, ...]:
        match = _WORDS.fullmatch(self.metavar)
        return tuple(match[1].split("|")) if match else ()


@dataclass(frozen=True)
class Option:
    """One option by its names, the short one first."""

    names: tuple[str, ...]
    #: None for one without a value.
    value: Operand | None
    help: str

    @property
    def long(self) -> str:
        """The name that completion offers."""
        return self.names[-1]


@dataclass(frozen=True)
class Command:
    """The program itself, with an empty name, or one of its commands."""

    name: str
    says: str
    options: tuple[Option, ...]
    operands: tuple[Operand, ...]


def describe(name: str, says: str, parser: argparse.ArgumentParser) -> Command:
    """What ``parser`` takes."""
    options, operands = [], []
    for action in parser._actions:
        hidden = action.help == argparse.SUPPRESS
        text = "" if hidden else _expanded(parser, action)
        metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        value = Operand(metavar, text, repeated=action.nargs in ("*", "+"))
        if not action.option_strings:
            operands.append(value)
        elif not hidden:
            options.append(Option(tuple(action.option_strings), None if action.nargs == 0 else value, text))
    return Command(name, says, tuple(options), tuple(operands))


def _expanded(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """The help text with its ``%(default)s``."""
    text = action.help or ""
    return text % {**vars(action), "prog": parser.prog} if "%(" in text else text
