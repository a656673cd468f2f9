"""RADIUS, standing alone: client, server, digest, directory (RFC 2865, 2866, 2869, 5080, 5090, 5176, 5997, 6614).

Knows nothing of SIP beyond digest credentials.
"""
