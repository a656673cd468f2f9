"""radius.ports: secrets stay out of what people print."""

from __future__ import annotations

from radius.ports import Client, Person


def test_secrets_are_not_shown() -> None:
    person = Person(login="alice", password="hidden-1", password_hash="hidden-2", ha1={("MD5", "", ""): "hidden-3"})
    assert "hidden" not in repr(person)
    assert "hidden" not in repr(Client("edge", b"hidden"))
