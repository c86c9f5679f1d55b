"""A real network for rootless virtual machines: VDE switch and uplink in one daemon."""

__all__ = ["__version__"]

#: Written once, in the Cargo workspace; the package's metadata carries it here.
__version__: str


def __getattr__(name: str) -> str:
    # Reading metadata costs tens of milliseconds, which a daemon that is to be ready soon does not spend.
    if name == "__version__":
        from importlib.metadata import version

        return version("vde_vmnet")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
