import pytest

from nomad.edge.nonce import NONCE_LENGTH, NonceSigner, NonceState

NOW = 1_800_000_000.0
HERE, THERE = "198.51.100.7", "203.0.113.9"


def signer(key: bytes = b"k" * 32) -> NonceSigner:
    return NonceSigner(key, lifetime_s=300, random=lambda n: b"\x07" * n)


def test_a_nonce_lives_for_its_lifetime() -> None:
    nonce = signer().make(NOW, HERE)
    assert len(nonce) == NONCE_LENGTH
    assert signer().judge(nonce, NOW + 299, HERE) is NonceState.VALID
    assert signer().judge(nonce, NOW + 300, HERE) is NonceState.STALE
    assert NonceSigner.expires_at(nonce) == NOW + 300


@pytest.mark.parametrize("position", range(0, NONCE_LENGTH, 5))
def test_a_changed_nonce_is_foreign(position: int) -> None:
    nonce = signer().make(NOW, HERE)
    forged = nonce[:position] + ("0" if nonce[position] != "0" else "1") + nonce[position + 1 :]
    assert signer().judge(forged, NOW, HERE) is NonceState.FOREIGN


@pytest.mark.parametrize("nonce", ["", "x", "0" * NONCE_LENGTH, "\u00e9" * NONCE_LENGTH, "f" * 5000])
def test_garbage_is_foreign(nonce: str) -> None:
    assert signer().judge(nonce, NOW, HERE) is NonceState.FOREIGN


def test_another_key_makes_foreign_nonces() -> None:
    assert signer(b"other").judge(signer().make(NOW, HERE), NOW, HERE) is NonceState.FOREIGN


def test_a_nonce_is_good_from_where_it_was_sent_only() -> None:
    nonce = signer().make(NOW, HERE)
    assert signer().judge(nonce, NOW, HERE) is NonceState.VALID
    assert signer().judge(nonce, NOW, THERE) is NonceState.FOREIGN
    assert signer().judge(nonce, NOW, "") is NonceState.FOREIGN
