"""Offers and answers of the demo's one audio stream."""

from __future__ import annotations

import pytest

from nomad.demo import sdp
from nomad.demo.g711 import PCMA, PCMU

HEAD = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"


def test_an_offer_and_its_answer_meet() -> None:
    offered = sdp.offer("127.0.0.1", 4000)
    found = sdp.answer(offered, "127.0.0.2", 5000)
    assert found is not None
    body, wanted = found
    assert wanted == sdp.Audio(("127.0.0.1", 4000), PCMU)
    assert sdp.read_answer(body) == sdp.Audio(("127.0.0.2", 5000), PCMU)


def test_alaw_is_taken_when_it_is_preferred() -> None:
    found = sdp.answer(HEAD + "m=audio 4000 RTP/AVP 8 0\r\n", "127.0.0.1", 5000)
    assert found is not None
    assert found[1].payload_type == PCMA
    assert sdp.read_answer(found[0]) == sdp.Audio(("127.0.0.1", 5000), PCMA)


@pytest.mark.parametrize(
    "text", ["", HEAD, HEAD + "m=audio 4000 RTP/AVP 18\r\n", HEAD + "m=audio 0 RTP/AVP 0\r\n", HEAD + "m=audio x y 0"]
)
def test_what_cannot_be_answered(text: str) -> None:
    assert sdp.answer(text, "127.0.0.1", 5000) is None
    assert sdp.read_answer(text) is None
