"""Fuzz targets of the Python side; ``python -m tests.fuzz --seconds N`` runs each for N seconds."""
