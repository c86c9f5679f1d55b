"""What ``vde_vmnet top`` shows, from looks at the counters and the keys that were pressed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rich.cells import set_cell_size

from vde_vmnet.control.models import CountersReply, NetworkInfo, Port
from vde_vmnet.observe.snapshot import Rate, amount, bits, rates, total_rate
from vde_vmnet.observe.tables import clean, duration
from vde_vmnet.observe.views import peer_text

__all__ = ["KEYS", "Model", "Screen", "look", "press", "render", "sparkline"]

_BARS = "▁▂▃▄▅▆▇█"
_PLAIN_BARS = ".:-=+*%#"
#: Samples that are kept for a port; more than any screen shows.
_HISTORY = 120
_STEPS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class _Sort:
    name: str
    #: Whether the largest comes first, before it is turned round.
    down: bool


#: Key -> by what it sorts; pressed again it turns the order round.
KEYS = {
    "n": _Sort("port", down=False),
    "m": _Sort("name", down=False),
    "i": _Sort("from guest", down=True),
    "o": _Sort("to guest", down=True),
    "f": _Sort("frames", down=True),
    "d": _Sort("drops", down=True),
}


@dataclass(frozen=True)
class Model:
    """Everything the screen depends on."""

    network: NetworkInfo
    ports: tuple[Port, ...] = ()
    counters: CountersReply | None = None
    rates: dict[int, Rate] = field(default_factory=dict)
    total: Rate = field(default_factory=Rate)
    #: Bytes a second both ways, oldest first.
    history: dict[int, tuple[float, ...]] = field(default_factory=dict)
    sort: str = "n"
    turned: bool = False
    paused: bool = False
    interval: float = 1.0
    #: First row shown, for more ports than lines.
    offset: int = 0
    done: bool = False


@dataclass(frozen=True)
class Screen:
    """How much there is to draw on, and with which characters."""

    width: int
    height: int
    unicode: bool = True


def look(model: Model, ports: Sequence[Port], counters: CountersReply) -> Model:
    """The model after one more look."""
    if model.paused:
        return model
    if model.counters is None:
        return replace(model, ports=tuple(ports), counters=counters)
    now = rates(model.counters, counters)
    history = {
        number: (*model.history.get(number, ()), one.rx_bytes + one.tx_bytes)[-_HISTORY:]
        for number, one in now.items()
    }
    return replace(
        model,
        ports=tuple(ports),
        counters=counters,
        rates=now,
        total=total_rate(model.counters, counters),
        history=history,
    )


def press(model: Model, key: str) -> Model:
    """The model after a key; one that means nothing changes nothing."""
    if key in ("q", "Q", "\x03", "\x04"):
        return replace(model, done=True)
    if key in KEYS:
        return replace(model, sort=key, turned=key == model.sort and not model.turned, offset=0)
    if key in (" ", "p"):
        return replace(model, paused=not model.paused)
    if key in ("+", "-"):
        at = min(range(len(_STEPS)), key=lambda index: abs(_STEPS[index] - model.interval))
        at = max(0, min(len(_STEPS) - 1, at + (1 if key == "-" else -1)))
        return replace(model, interval=_STEPS[at])
    if key in ("j", "\x1b[B"):
        return replace(model, offset=min(model.offset + 1, max(0, len(model.ports) - 1)))
    if key in ("k", "\x1b[A"):
        return replace(model, offset=max(0, model.offset - 1))
    return model


def sparkline(values: Sequence[float], width: int, *, unicode: bool = True) -> str:
    """The newest ``width`` values, the largest of them as a full bar; padded on the left."""
    bars = _BARS if unicode else _PLAIN_BARS
    shown = list(values[-width:]) if width > 0 else []
    top = max(shown, default=0.0)
    if top <= 0:
        return (bars[0] * len(shown)).rjust(width)
    return "".join(bars[min(len(bars) - 1, int(value / top * len(bars)))] for value in shown).rjust(width)


def render(model: Model, screen: Screen) -> list[str]:
    """``screen.height`` lines at most, each exactly as wide as the screen. The third is the table's head."""
    network = model.network
    uptime = network.uptime_seconds
    if model.counters is not None:
        uptime = model.counters.time - network.started
    sort = KEYS[model.sort]
    state = "paused" if model.paused else f"every {model.interval:g} s"
    total = model.total
    received = f"received {bits(total.rx_bytes)}, {amount(total.rx_frames)} frames/s"
    sent = f"sent {bits(total.tx_bytes)}, {amount(total.tx_frames)} frames/s"
    what = f"{network.uplink.kind} {network.uplink.mode or ''}".rstrip()
    titles = ("PORT", "KIND", "NAME", "ADDRESS", "FROM GUEST", "TO GUEST", "FRAMES/S", "DROPS/S")
    head = [
        f"{network.name}  {what}  up {duration(uptime)}  {len(model.ports)} ports  {state}",
        f"{received}  {sent}  dropped {amount(total.drops)}/s",
        _row(titles, "", "PEER", screen),
    ]
    turned = " (turned)" if model.turned else ""
    keys = "  ".join(f"{key} {one.name}" for key, one in KEYS.items())
    foot = f"q quit  space pause  + - speed  sorted by {sort.name}{turned}: {keys}"
    room = max(0, screen.height - len(head) - 1)
    ordered = _ordered(model)
    offset = min(model.offset, max(0, len(ordered) - room))
    body = [_port_row(model, port, screen) for port in ordered[offset : offset + room]]
    body += [""] * (room - len(body))
    lines = [*head, *body, foot][: screen.height]
    return [set_cell_size(clean(line), screen.width) for line in lines]


def _ordered(model: Model) -> list[Port]:
    """By number where the rest is the same."""

    def key(port: Port) -> tuple[float, str]:
        now = model.rates.get(port.number, Rate())
        numbers = {"i": now.rx_bytes, "o": now.tx_bytes, "f": now.frames, "d": now.drops, "n": port.number}
        return numbers.get(model.sort, 0.0), port.name.lower() if model.sort == "m" else ""

    by_number = sorted(model.ports, key=lambda port: port.number)
    return sorted(by_number, key=key, reverse=KEYS[model.sort].down is not model.turned)


def _port_row(model: Model, port: Port, screen: Screen) -> str:
    now = model.rates.get(port.number)
    numbers = (
        ("", "", "", "")
        if now is None
        else (
            bits(now.rx_bytes),
            bits(now.tx_bytes),
            amount(now.frames),
            amount(now.drops),
        )
    )
    number = "uplink" if port.kind == "uplink" else str(port.number)
    kind = port.kind if port.up else "down"
    address = port.addresses[0] if port.addresses else port.macs[0] if port.macs else ""
    spark = sparkline(model.history.get(port.number, ()), _spark_width(screen), unicode=screen.unicode)
    return _row((number, kind, port.name, address, *numbers), spark, peer_text(port), screen)


def _spark_width(screen: Screen) -> int:
    return max(0, min(40, (screen.width - 90) // 2)) if screen.width >= 100 else 0


def _row(cells: Sequence[str], spark: str, peer: str, screen: Screen) -> str:
    """Widths are fixed but for the sparkline and the peer, which get what is left."""
    number, kind, name, address, *rest = (clean(cell) for cell in cells)
    text = set_cell_size(number, 7) + set_cell_size(kind, 8) + set_cell_size(name, 14) + " "
    text += set_cell_size(address, 18) + "".join(
        cell.rjust(width) for cell, width in zip(rest, (13, 13, 9, 9), strict=True)
    )
    width = _spark_width(screen)
    return f"{text}  {spark.rjust(width)}{'  ' if width else ''}{peer}"
