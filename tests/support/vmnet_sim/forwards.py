"""Port forwarding of a running interface's network."""

from __future__ import annotations

from ipaddress import ip_address

from tests.support.vmnet_sim.requests import Client, Request
from tests.support.vmnet_sim.services import Forward, Plan, load_filter
from tests.support.vmnet_sim.subnets import RefusedError
from tests.support.vmnet_sim.world import SHARED

__all__ = ["answer"]


def answer(verb: str, client: Client, request: Request) -> Request:
    """``forward_add``, ``forward_remove`` or ``forward_list``. Raises RefusedError, OSError."""
    network = client.interfaces.get(int(request["interface"]))
    if network is None or network.plan is None or network.mode != SHARED:
        raise RefusedError(1001, "only shared networks forward ports")
    plan = network.plan
    match verb:
        case "forward_add":
            _add(plan, request)
        case "forward_remove":
            _remove(plan, request)
        case _:
            version = int(request["family"])
            rules = [one for one in plan.forwards if one.address.version == version]
            texts = [f"{one.protocol}/{one.port}/{one.address}/{one.guest_port}" for one in rules]
            return {"rules": ",".join(texts)} if texts else {}
    return {}


def _add(plan: Plan, request: Request) -> None:
    rule = Forward(
        int(request["protocol"]),
        int(request["external"]),
        ip_address(request["address"]),
        int(request["internal"]),
    )
    if rule.address.version == 4 and rule.address not in plan.network:
        raise RefusedError(1003, f"{rule.address} is not of {plan.network}")
    if _find(plan, rule.protocol, rule.port, rule.address.version) is not None:
        raise RefusedError(1001, f"port {rule.port} is forwarded already")
    plan.forwards.append(rule)
    load_filter(plan)


def _remove(plan: Plan, request: Request) -> None:
    rule = _find(plan, int(request["protocol"]), int(request["external"]), int(request["family"]))
    if rule is None:
        raise RefusedError(1001, f"port {request['external']} is not forwarded")
    plan.forwards.remove(rule)
    load_filter(plan)


def _find(plan: Plan, protocol: int, port: int, version: int) -> Forward | None:
    wanted = (protocol, port, version)
    return next((one for one in plan.forwards if (one.protocol, one.port, one.address.version) == wanted), None)
