"""One word of a few: the text of an option to a member of its enum."""

from __future__ import annotations

import enum
from typing import TypeVar

from vde_vmnet.errors import ConfigurationError

__all__ = ["choice"]

_Choice = TypeVar("_Choice", bound=enum.Enum)


def choice(kind: type[_Choice], text: str | None, what: str, default: _Choice) -> _Choice:
    """The member whose value is ``text``; ``default`` for None. Raises ConfigurationError that lists them."""
    if text is None:
        return default
    try:
        return kind(text)
    except ValueError:
        names = ", ".join(str(member.value) for member in kind)
        raise ConfigurationError(f'{what} "{text}"', next_step=f"Choose one of: {names}") from None
