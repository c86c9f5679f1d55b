"""Texts for the system that starts us: what to write, never the writing itself."""
