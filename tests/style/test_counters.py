"""No counter is declared that can never rise."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "rust" / "engine"
STATS = ENGINE / "src" / "stats.rs"


def reasons() -> list[str]:
    body = re.search(r"pub enum DropReason \{(.*?)\n\}", STATS.read_text(), re.DOTALL)
    assert body is not None
    return re.findall(r"^    (\w+),$", body[1], re.MULTILINE)


def words(reason: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", reason).lower()


@pytest.mark.parametrize("reason", reasons())
def test_every_reason_to_drop_is_given_somewhere_and_explained(reason: str) -> None:
    code = "".join(
        path.read_text().split("#[cfg(test)]")[0]
        for path in (ENGINE / "src").rglob("*.rs")
        if path not in (STATS,)
    )
    assert re.search(rf"DropReason::{reason}\b", code), f"nothing is ever dropped as {reason}"
    page = (ROOT / "docs" / "concepts" / "engine.md").read_text()
    assert f"`{words(reason)}`" in page


@pytest.mark.parametrize("field", ["rx_frames", "rx_bytes", "tx_frames", "tx_bytes", "queued_frames", "drops"])
def test_every_counter_of_the_engine_is_told(field: str) -> None:
    contract = (ROOT / "python/vde_vmnet/_engine.pyi").read_text()
    counters = contract.split("class EndpointCounters")[1].split("class ")[0]
    assert re.search(rf"^    {field}: ", counters, re.MULTILINE)
    metrics = (ROOT / "python/vde_vmnet/control/metrics.py").read_text()
    assert f"counters.{field}" in metrics
