"""Readers of recorded markets, one module a source."""
