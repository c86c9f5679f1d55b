"""Prometheus' text: by Prometheus' own parser, and by its rules for names."""

import re
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from vde_vmnet.control import models
from vde_vmnet.control.metrics import METRICS, Snapshot, render

ROOT = Path(__file__).parents[3]


def port(number: int, kind: models.PortKind, **counted: int) -> models.PortCounters:
    drops = {"queue_full": counted.pop("lost")} if "lost" in counted else {}
    counters = models.Counters(drops=drops, **counted)
    return models.PortCounters(port=number, kind=kind, name='evil "name"\n', counters=counters)


SNAPSHOT = Snapshot(
    version="1.2.3",
    uplink="none",
    started=1700000000.25,
    ports=[
        port(1, "vde", rx_frames=5, rx_bytes=600, tx_frames=2, tx_bytes=120, queued_frames=3, lost=7),
        port(65535, "uplink"),
    ],
    down=frozenset({1}),
    stations=4,
    leases=2,
    events={"port_up": 3},
)


def samples() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(render(SNAPSHOT))
        for sample in family.samples
    }


def test_what_is_counted_is_what_is_told() -> None:
    found = samples()
    one = {("port", "1"), ("kind", "vde")}
    assert found["vde_vmnet_received_frames_total", frozenset(one)] == 5
    assert found["vde_vmnet_received_bytes_total", frozenset(one)] == 600
    assert found["vde_vmnet_sent_frames_total", frozenset(one)] == 2
    assert found["vde_vmnet_sent_bytes_total", frozenset(one)] == 120
    assert found["vde_vmnet_queued_frames", frozenset(one)] == 3
    assert found["vde_vmnet_dropped_frames_total", frozenset(one | {("reason", "queue_full")})] == 7
    assert found["vde_vmnet_port_up", frozenset(one)] == 0
    assert found["vde_vmnet_port_up", frozenset({("port", "65535"), ("kind", "uplink")})] == 1
    assert found["vde_vmnet_start_time_seconds", frozenset()] == 1700000000.25
    assert found["vde_vmnet_stations", frozenset()] == 4
    assert found["vde_vmnet_leases", frozenset()] == 2
    assert found["vde_vmnet_events_total", frozenset({("kind", "port_up")})] == 3
    assert found["vde_vmnet_info", frozenset({("version", "1.2.3"), ("uplink", "none")})] == 1
    assert {name for name, _ in found} == {metric.name for metric in METRICS}, "one is not tried here"


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_keep_to_the_conventions(metric: object) -> None:
    assert metric in METRICS
    for one in METRICS:
        assert re.fullmatch(r"vde_vmnet_[a-z_]+", one.name)
        assert (one.kind == "counter") == one.name.endswith("_total")
        assert one.help.endswith(".")
    text = render(SNAPSHOT)
    assert text.endswith("\n") and "evil" not in text, "nothing that a guest chooses is a label"


def test_every_metric_is_documented_and_in_the_dashboard_if_it_is_a_counter() -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text()
    dashboard = (ROOT / "examples/grafana-dashboard.json").read_text()
    for metric in METRICS:
        assert f"`{metric.name}`" in page and metric.help in page, metric.name
        assert metric.kind == "gauge" or metric.name in dashboard
    named = set(re.findall(r"vde_vmnet_[a-z_]+", dashboard))
    assert named <= {metric.name for metric in METRICS}


def test_every_kind_of_event_is_raised_somewhere() -> None:
    code = "".join(
        path.read_text()
        for path in (ROOT / "python/vde_vmnet").rglob("*.py")
        if path.name not in ("models.py",)
    )
    for kind in get_args(models.EventKind):
        assert f'"{kind}"' in code, f"nothing ever says {kind}"
