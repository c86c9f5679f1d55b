"""Benchmarks: ours side by side with Debian's ``vde_switch``, interleaved in one run. See README.md."""

__all__: list[str] = []
