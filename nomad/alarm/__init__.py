"""Adapters that carry what the guard decided to the outside: packet filter, webhook, mail."""
