"""Which modules are loaded, and in which order."""

import gzip
import lzma
from pathlib import Path

import pytest

from vde_vmnet.demo.kernel_modules import load_order, module_bytes, parse_dependencies

# Debian's cloud kernel, shortened.
MODULES_DEP = """\
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/net/core/failover.ko:
kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko
kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko \
kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/char/hw_random/virtio-rng.ko.xz: kernel/drivers/virtio/virtio.ko
a line that is something else
"""


def test_each_module_comes_after_what_it_needs_and_once() -> None:
    dependencies = parse_dependencies(MODULES_DEP)
    order = load_order(dependencies, ["virtio_pci", "virtio_net"])
    assert len(order) == len(set(order)) == 6
    for path in order:
        for needed in dependencies[path]:
            assert order.index(needed) < order.index(path)


@pytest.mark.parametrize("name", ["virtio-rng", "virtio_rng"])
def test_hyphen_and_underscore_are_the_same(name: str) -> None:
    assert load_order(parse_dependencies(MODULES_DEP), [name])[-1].endswith("virtio-rng.ko.xz")


def test_what_is_not_a_module_is_built_in() -> None:
    assert load_order(parse_dependencies(MODULES_DEP), ["af_packet"]) == []


def test_compressed_modules_are_unpacked(tmp_path: Path) -> None:
    content = b"\x7fELF module"
    for name, data in (
        ("a.ko", content),
        ("a.ko.xz", lzma.compress(content)),
        ("a.ko.gz", gzip.compress(content)),
    ):
        (tmp_path / name).write_bytes(data)
        assert module_bytes(tmp_path / name) == content
