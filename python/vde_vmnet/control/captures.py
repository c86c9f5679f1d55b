"""Captures: frames as pcapng, from the engine straight to the client's connection.

The connection is given to the engine, whose own thread for each capture writes to it at idle priority: no frame
passes through Python, and a client that does not read costs its own capture only. It ends when the client
shuts its writing half down or leaves, after the frames or the time that were asked for, or by ``DELETE``.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

from vde_vmnet._engine import EngineError
from vde_vmnet.control import models
from vde_vmnet.control.network import Network
from vde_vmnet.control.operations import HandedOver, Operation, Parameter, Refused, Request
from vde_vmnet.control.telling import done

__all__ = ["Captures"]

_NUMBER = Parameter("number", "Number of the capture.", int)
_MEDIA_TYPE = "application/x-pcapng"
#: The body ends with the connection: there is no length, and nothing around the pieces.
_HEAD = (
    f"HTTP/1.1 200 OK\r\ncontent-type: {_MEDIA_TYPE}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
).encode()


class Captures:
    """Of one network."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def operations(self) -> list[Operation]:
        """For the table in ``handlers.py``."""
        return [
            Operation("GET", "/capture", "The captures that go on.", self._list, models.Captures),
            Operation(
                "POST",
                "/capture",
                "Capture frames, as a pcapng file that ends with the connection.",
                self._start,
                None,
                body=models.CaptureRequest,
                body_required=False,
                changes=True,
                media_type=_MEDIA_TYPE,
            ),
            Operation(
                "DELETE",
                "/capture/{number}",
                "End a capture; its client gets the rest.",
                self._end,
                models.Done,
                parameters=(_NUMBER,),
                changes=True,
            ),
        ]

    async def _list(self, _: Request) -> models.Captures:
        going = sorted(self._network.engine.captures().items())
        return models.Captures(captures=[models.Capture(number=number, **one) for number, one in going])

    async def _start(self, request: Request) -> HandedOver:
        wanted: models.CaptureRequest = request.body
        # A copy: the server closes its own, and the connection lives on.
        fd = os.dup(request.scope["control"]["fileno"]())
        try:
            number = self._network.engine.start_capture(
                fd=fd,
                ports=wanted.ports,
                snaplen=wanted.snap_length or 262_144,
                program=wanted.program,
                limit=wanted.frames,
                prefix=_HEAD,
            )
        except ValueError as error:
            os.close(fd)
            raise Refused("invalid_request", str(error), "Compile the filter with libpcap") from None
        except EngineError as error:
            os.close(fd)
            raise Refused("busy", str(error), "End one of them; see GET /v1/capture") from None
        except BaseException:
            os.close(fd)
            raise
        done(request, f"Capture {number} begins")
        if wanted.seconds is not None:
            asyncio.get_running_loop().call_later(wanted.seconds, self._time_is_over, number)
        return HandedOver()

    async def _end(self, request: Request) -> models.Done:
        number = request.parameters["number"]
        if self._network.engine.stop_capture(capture=number) is None:
            raise Refused("not_found", f"There is no capture {number}", "See those that go on: GET /v1/capture")
        return done(request, f"Capture {number} ends")

    def _time_is_over(self, number: int) -> None:
        with suppress(EngineError):  # the engine has ended, and with it all captures
            self._network.engine.stop_capture(capture=number)
