"""bench/scenarios: what the project promises is asked, with the limit that it promises; names are unique."""

from __future__ import annotations

from collections import Counter

import pytest
from bench.compare import DPDK, NOBODY, PASST, QEMU_TAP, QEMU_USER, REFERENCE, Relation, Row, Subject, Target
from bench.scenarios import GROUPS, SCENARIOS, Scenario

#: Scenario, rival, row, and what is promised of the ratio to the rival's.
_PROMISES = [
    ("vhost-tcp", QEMU_TAP, "to_guest", Relation.AT_LEAST, 1.1),
    ("vhost-tcp", QEMU_TAP, "to_host", Relation.AT_LEAST, 1.1),
    ("vhost-switch-tcp", REFERENCE, "to_host", Relation.AT_LEAST, 3.0),
    ("vhost-switch-tcp", REFERENCE, "to_guest", Relation.AT_LEAST, 2.0),
    ("vhost-switch-tcp", REFERENCE, "to_host_cpu", Relation.AT_MOST, 0.2),
    ("vhost-switch-tcp", REFERENCE, "to_guest_cpu", Relation.AT_MOST, 0.2),
    ("guest-to-guest", REFERENCE, "guests", Relation.AT_LEAST, 4.0),
    ("guest-tcp", REFERENCE, "to_guest", Relation.AT_LEAST, 1.25),
    ("guest-tcp", REFERENCE, "to_host", Relation.AT_LEAST, 1.25),
    ("guest-tcp", REFERENCE, "to_guest_cpu", Relation.AT_MOST, 0.6),
    ("guest-tcp", REFERENCE, "to_host_cpu", Relation.AT_MOST, 0.6),
    ("stream-tcp", PASST, "to_guest", Relation.AT_LEAST, 1.5),
    ("stream-tcp", PASST, "to_host", Relation.AT_LEAST, 1.5),
    ("user-tcp", QEMU_USER, "to_guest", Relation.AT_LEAST, 1.2),
    ("user-tcp", QEMU_USER, "to_host", Relation.AT_LEAST, 1.2),
    ("user-tcp-long", QEMU_USER, "to_guest", Relation.AT_LEAST, 1.2),
    ("user-tcp-long", QEMU_USER, "to_host", Relation.AT_LEAST, 1.2),
    ("user-vhost-tcp", QEMU_USER, "to_guest", Relation.AT_LEAST, 1.2),
    ("user-vhost-tcp", QEMU_USER, "to_host", Relation.AT_LEAST, 1.2),
    ("pairs-1-64", REFERENCE, "frames_per_second", Relation.AT_LEAST, 1.35),
    ("pairs-4-64", REFERENCE, "frames_per_second", Relation.AT_LEAST, 4.0),
    ("round-trip", REFERENCE, "p50", Relation.AT_MOST, 0.9),
    ("round-trip-busy-poll", REFERENCE, "p50", Relation.AT_MOST, 0.9),
]
#: Those that ours is held to by itself. "Within 3 %" of the same without idle neighbours.
_OWN = [
    ("vhost-frames", DPDK, "million_per_second", Relation.AT_LEAST, 5.0),
    ("vhost-frames", DPDK, "kept", Relation.AT_LEAST, 0.97),
    ("idle-plugs", NOBODY, "pairs_1", Relation.AT_LEAST, 0.97),
    ("idle-plugs", NOBODY, "pairs_4", Relation.AT_LEAST, 0.97),
    ("idle-plugs", NOBODY, "p50", Relation.AT_MOST, 1.03),
    ("capture-64", NOBODY, "frames", Relation.AT_LEAST, 0.9),
    ("capture-1514", NOBODY, "frames", Relation.AT_LEAST, 0.9),
    ("idle-guests-vde", NOBODY, "to_guest", Relation.AT_LEAST, 0.97),
    ("idle-guests-vde", NOBODY, "to_host", Relation.AT_LEAST, 0.97),
    ("idle-guests-vhost-user", NOBODY, "to_guest", Relation.AT_LEAST, 0.97),
    ("idle-guests-vhost-user", NOBODY, "to_host", Relation.AT_LEAST, 0.97),
]


def _find(name: str, key: str) -> tuple[Scenario, Row]:
    (scenario,) = (one for one in SCENARIOS if one.name == name)
    (row,) = (one for one in scenario.rows if one.key == key)
    return scenario, row


@pytest.mark.parametrize(("name", "rival", "key", "relation", "limit"), _PROMISES)
def test_what_is_promised_against_a_rival_is_judged(
    name: str, rival: str, key: str, relation: Relation, limit: float
) -> None:
    scenario, row = _find(name, key)
    assert scenario.rival == rival
    assert row.has_ratio
    assert row.target == Target(Subject.RATIO, relation, limit)


@pytest.mark.parametrize(("name", "rival", "key", "relation", "limit"), _OWN)
def test_what_is_promised_of_ours_is_judged(
    name: str, rival: str, key: str, relation: Relation, limit: float
) -> None:
    scenario, row = _find(name, key)
    assert scenario.rival == rival
    assert row.target == Target(Subject.OURS, relation, limit)


def test_names_are_one_scenarios_or_one_groups() -> None:
    names = Counter([*GROUPS, *(scenario.name for scenario in SCENARIOS)])
    assert max(names.values()) == 1
    for scenario in SCENARIOS:
        assert max(Counter(row.key for row in scenario.rows).values()) == 1


def test_a_curve_has_its_points_at_different_places() -> None:
    curves: dict[tuple[str, str], list[float]] = {}
    for scenario in SCENARIOS:
        for row in scenario.rows:
            if row.curve is not None:
                curves.setdefault((scenario.name, row.curve.name), []).append(row.at)
    assert curves
    for places in curves.values():
        assert places == sorted(set(places))
