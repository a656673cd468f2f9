"""Nomad: the RADIUS-guarded nomadic ToIP access service."""

__version__ = "0.1.0"
