"""One engine for each test, closed after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vde_vmnet._engine import Engine


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()
