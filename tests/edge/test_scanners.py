from __future__ import annotations

from pathlib import Path

import pytest

from nomad.config import Config, ConfigError, Guard
from nomad.edge.scanners import Scanners
from nomad.inputs import load_scanners
from nomad.sip.message import Request, parse_message

BUILT_IN = load_scanners(Config(domain="inria.example"))


def request(
    *headers: str, line: str = "OPTIONS sip:1@inria.example SIP/2.0", from_: str = "<sip:a@b>;tag=1"
) -> Request:
    lines = [line, "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx", f"From: {from_}", "To: <sip:b@inria.example>"]
    message = parse_message(
        ("\r\n".join([*lines, "Call-ID: 1", f"CSeq: 1 {line.split()[0]}", *headers]) + "\r\n\r\n").encode()
    )
    assert isinstance(message, Request)
    return message


@pytest.mark.parametrize(
    ("agent", "found"),
    [
        ("friendly-scanner", "friendly-scanner"),
        ("SIPVicious 0.3", "sipvicious"),
        ("sipcli/v1.8", "sipcli"),
        ("baresip v2.0.1 (x86_64/linux)", ""),
        ("Linphone Desktop/4.4", ""),
        ("x" * 5000 + "friendly-scanner", ""),
    ],
)
def test_tools_are_known_by_their_agent(agent: str, found: str) -> None:
    assert BUILT_IN.find(request(f"User-Agent: {agent}")) == found
    assert BUILT_IN.find(request()) == ""


@pytest.mark.parametrize(
    ("probe", "found"),
    [
        (request("User-Agent: Grandstream", from_='"sipvicious"<sip:100@1.1.1.1>;tag=6434'), "sipvicious"),
        (request("User-Agent: Grandstream", from_='"SIPVicious" <sip:a@b>;tag=6434'), "sipvicious"),
        (request(line="OPTIONS sip:nm SIP/2.0", from_="<sip:nm@nm>;tag=root"), "nmap"),
        (request(line="INVITE sip:a'or'3=3--@192.0.2.1 SIP/2.0"), "sql injection"),
        (request(from_='"Victor" <sip:victor@inria.example>;tag=1'), ""),
    ],
)
def test_tools_with_another_agent_are_known_by_their_probes(probe: Request, found: str) -> None:
    assert BUILT_IN.find(probe) == found


def test_credentials_are_judged_instead_of_probes() -> None:
    credentials = 'Digest username="a", realm="r", nonce="1", uri="sip:x", response="2"'
    for header in ("Authorization", "Proxy-Authorization"):
        assert BUILT_IN.find(request(f"{header}: {credentials}", from_='"sipvicious"<sip:100@1.1.1.1>;tag=1')) == ""


def test_a_file_of_ones_own_takes_the_place(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('agents = ["Evil"]\n[[probe]]\nname="x"\nheader="X-Probe"\ncontains="ME"\n')
    own = load_scanners(Config(domain="d", guard=Guard(scanners="mine.toml"), folder=str(tmp_path)))
    assert own.find(request("User-Agent: the evil one")) == "evil"
    assert own.find(request("User-Agent: friendly-scanner")) == ""
    assert own.find(request("X-Probe: it is me")) == "x"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('agents = [""]', "an empty text"),
        ('[[probe]]\nname = "a"\nheader = "from"\ncontains = ""', "an empty text"),
        ('agent = ["a"]', "did you mean 'agents'?"),
        ("agents = 1", "agents"),
    ],
)
def test_wrong_files_are_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"mine\.toml") as wrong:
        Scanners.parse(text, "mine.toml")
    assert said in str(wrong.value)
