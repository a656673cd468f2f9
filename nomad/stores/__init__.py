"""Adapters towards data: registrations in memory, records in SQL, the accounting spool in SQLite."""
