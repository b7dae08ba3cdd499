"""Bottega: an open, self-hosted AI platform of plugins around a small core."""
