"""Adapters towards media."""
