"""``--reserve`` before macOS 26: entries of ``/etc/bootptab`` for as long as the network runs.

Runs in the keeper, or in a process that needs none.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Sequence

from vde_vmnet.addresses import Reservation
from vde_vmnet.bootptab_file import edit, restart
from vde_vmnet.errors import ConflictError, PrivilegeError, UplinkError
from vde_vmnet.recovery import RestoreBootptab, UndoRecord
from vde_vmnet.uplinks.vmnet import paths
from vde_vmnet.wire import bootptab

__all__ = ["write"]

_log = logging.getLogger(__name__)


def write(network_id: str, reservations: Sequence[Reservation], undo: UndoRecord) -> None:
    """Put the reservations in, recorded first, and have the DHCP server read them.

    Raises ConflictError when the file has something else for a machine or an address, PrivilegeError or
    UplinkError when it cannot be written.
    """
    place = paths.MACOS

    def change(text: str) -> str:
        line = bootptab.in_the_way(text, network_id, reservations)
        if line is not None:
            raise ConflictError(
                f"--reserve disagrees with {place.bootptab}: {line.strip()}",
                next_step="Reserve what that line says, or remove it",
            )
        return bootptab.with_entries(text, network_id, reservations)

    undo.push(RestoreBootptab(str(place.bootptab), network_id, place.restart_bootpd))
    try:
        edit(place.bootptab, change)
    except PermissionError:
        raise PrivilegeError(
            f"--reserve: {place.bootptab} may not be written by user id {os.geteuid()}",
            next_step="Run with sudo; from macOS 26 on reservations need no file",
        ) from None
    except OSError as error:
        raise UplinkError(f"--reserve: cannot write {place.bootptab}: {error.strerror}") from error
    refused = restart(place.restart_bootpd)
    if refused is not None:
        _log.warning(
            "--reserve: macOS's DHCP server was not told (%s) and may hand out other addresses until: sudo %s",
            *(refused, shlex.join(place.restart_bootpd)),
        )
