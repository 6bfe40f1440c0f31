"""Timings; each runs as a module from the repository's folder."""
