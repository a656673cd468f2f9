"""I/O towards SIP peers."""
