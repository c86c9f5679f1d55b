"""What can go wrong with a guest; all of it is "something is not on this machine or did not come up"."""

from __future__ import annotations

from vde_vmnet.errors import UnavailableError

__all__ = ["CheckFailedError", "GuestError", "GuestTimeoutError"]


class GuestError(UnavailableError):
    """The guest ended, did not boot, or answered with something that is no answer."""


class GuestTimeoutError(GuestError):
    """The guest did not answer in time; it may still be running."""


class CheckFailedError(Exception):
    """One row of the demo did not hold; the message says what was seen instead."""
