import pytest

from nomad.sip.digest import answer, choose
from nomad.sip.headers import Challenge

# The example of RFC 7616 3.9.1
RFC = 'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, nonce="{}", opaque="{}"'
NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
OPAQUE = "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_example_of_the_rfc(algorithm: str, response: str) -> None:
    credentials = answer(
        Challenge.parse(RFC.format(algorithm, NONCE, OPAQUE)),
        method="GET",
        uri="/dir/index.html",
        username="Mufasa",
        password="Circle of Life",
        cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    )
    assert credentials.get("response") == response
    assert (credentials.get("qop"), credentials.get("nc"), credentials.get("opaque")) == ("auth", "00000001", OPAQUE)


def test_without_qop_the_old_form_is_used() -> None:
    # RFC 2617 without qop: H(H(A1):nonce:H(A2))
    credentials = answer(
        Challenge.parse('Digest realm="r", nonce="n"'),
        method="INVITE",
        uri="sip:x",
        username="u",
        password="p",
        cnonce="c",
    )
    assert credentials.get("qop") == ""
    assert credentials.get("response") == "a82785fab2d091a09795d48b9c10756c"


def test_the_strongest_known_challenge_is_taken() -> None:
    offers = [Challenge.parse(RFC.format(name, "n", "o")) for name in ("MD5", "SHA-256", "WHIRLPOOL")]
    best = choose([*offers, Challenge.parse('Bearer realm="x"')])
    assert best is not None
    assert best.get("algorithm") == "SHA-256"
    assert choose([Challenge.parse('Digest realm="x"')]) is None
