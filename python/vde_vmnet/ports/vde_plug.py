"""Be a client of an existing VDE switch, the original's way: the uplink becomes reachable through that switch.

The control connection is the life line: it ends when the switch does, and then plugging in is tried again
until somebody answers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from vde_vmnet.errors import PrivilegeError, VdeVmnetError
from vde_vmnet.ports.base import KICKED, Guest, Switch
from vde_vmnet.vde_client import REPLY_SECONDS, PlugTarget, VdeClient
from vde_vmnet.wire import vde

__all__ = ["VdePlugListener", "back_off"]

_log = logging.getLogger(__name__)

#: A switch that restarts is back within a moment; one that stays away is looked for without being a burden.
_FIRST_DELAY, _LAST_DELAY = 0.1, 5.0


def back_off() -> Iterator[float]:
    """Seconds to wait before each further try, without end."""
    delay = _FIRST_DELAY
    while True:
        yield delay
        delay = min(delay * 2, _LAST_DELAY)


class VdePlugListener:
    """One plug in somebody else's switch. See ``ports.base.Listener``."""

    def __init__(self, client: VdeClient, switch: Switch, *, port: int) -> None:
        """``client`` was plugged in before privilege was dropped; ``port`` is its place on our own switch."""
        self._port = port
        self._target: PlugTarget = client.target
        self._first = client
        self._client: VdeClient | None = client
        self._switch = switch
        self._endpoint = -1
        self._guest = Guest(port, "switch", f"VDE switch {client.target.shown}", client.target.shown)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Attach what was plugged in already, and watch it."""
        control = self._target.directory / "ctl"
        if not os.access(control, os.W_OK):
            _log.warning(
                'This user may not use "%s": when the switch restarts, plugging in again will be refused.'
                " Serve as the switch's user with --user, or give the switch a group of that user (-m 660 -g)",
                control,
            )
        # Now, not in the task: the network is not ready before its uplink is on the switch.
        attached = self._attach(self._first)
        self._task = asyncio.ensure_future(self._stay_plugged_in(self._first, attached=attached))

    def how_to_plug_in(self) -> str | None:
        """See ``ports.base.Listener``: guests plug into the switch itself."""
        return f"-netdev vde,id=net0,sock={self._target.directory}"

    async def _stay_plugged_in(self, client: VdeClient, *, attached: bool) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                if attached:
                    with suppress(ConnectionError):
                        await loop.sock_recv(client.control, 1)
                    _log.warning(
                        "The VDE switch at %s is gone; plugging in again when it is back",
                        self._target.shown,
                        extra=self._guest.about("port_down", self._endpoint, "the switch is gone"),
                    )
            finally:
                self._unplug()
            client = self._client = await self._plug_in_again()
            attached = self._attach(client)

    def _attach(self, client: VdeClient) -> bool:
        self._guest = replace(self._guest, since=time.time())
        try:
            self._endpoint = self._switch.attach(
                port=self._port, kind="dgram", fd=client.data.fileno(), name=self._guest.label
            )
        except ValueError:  # it lived too short: its data socket is not connected any more
            return False
        client.data.detach()  # the engine's from here on
        _log.info("Plugged into the %s", self._guest.label, extra=self._guest.about("port_up", self._endpoint))
        return True

    async def _plug_in_again(self) -> VdeClient:
        said = ""
        for delay in back_off():
            await asyncio.sleep(delay)
            try:
                return await self._plug_in()
            except VdeVmnetError as error:
                problem = error
            except PermissionError:
                problem = PrivilegeError(
                    f'The VDE switch at "{self._target.shown}" is back and does not let this user plug in',
                    next_step="Serve as its user with --user, or give it a group of this user (-m 660 -g)",
                )
            except OSError as error:
                problem = VdeVmnetError(f"Plugging into {self._target.shown} again: {error.strerror or error}")
            # No switch there is what is being waited for; anything else is said once.
            level = logging.ERROR if isinstance(problem, PrivilegeError) else logging.DEBUG
            _log.log(level if str(problem) != said else logging.DEBUG, "%s", problem)
            said = str(problem)
        raise AssertionError("back_off has no end")

    async def _plug_in(self) -> VdeClient:
        client = VdeClient.begin(self._target)
        try:
            try:
                async with asyncio.timeout(REPLY_SECONDS):
                    reply = await asyncio.get_running_loop().sock_recv(client.control, vde.REPLY_SIZE)
            except TimeoutError:
                raise client.silent() from None
            except ConnectionError:
                reply = b""
            client.finish(reply)
        except BaseException:
            client.close()
            raise
        return client

    def _unplug(self) -> None:
        if self._endpoint >= 0:
            self._switch.detach(endpoint=self._endpoint)
            self._endpoint = -1
        if self._client is not None:
            self._client.close()
            self._client = None

    def endpoint_down(self, endpoint: int, reason: str) -> bool:
        """See ``ports.base.Listener``: the switch is left, and plugged into again."""
        if endpoint != self._endpoint or self._client is None:
            return False
        _log.warning("The connection to the VDE switch %s failed: %s", self._target.shown, reason)
        # Ends the wait for the control connection.
        with suppress(OSError):
            self._client.control.shutdown(2)
        return True

    def label(self, endpoint: int) -> str | None:
        """See ``ports.base.Listener``."""
        return f"A guest on {self._target.shown}" if endpoint == self._endpoint else None

    def guests(self) -> Mapping[int, Guest]:
        """See ``ports.base.Listener``."""
        return {self._endpoint: self._guest} if self._endpoint >= 0 else {}

    def kick(self, endpoint: int) -> bool:
        """See ``ports.base.Listener``: the switch is left, and plugged into again."""
        return endpoint >= 0 and self.endpoint_down(endpoint, KICKED)

    async def stop(self) -> None:
        """See ``ports.base.Listener``."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._unplug()
