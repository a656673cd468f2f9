"""An edge as a process with two homes, the outer one behind a 1:1 NAT: what phones and the PBX see of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.harness.edge import Edge
from tests.harness.people import ALICE, DOMAIN
from tests.harness.ports import free_port
from tests.harness.wire import Message, Wire
from tests.interop.conftest import NewFolder

INSIDE, OUTSIDE, ADVERTISED, FAR = "127.0.0.1", "127.0.0.2", "127.0.0.9", "127.0.0.3"


class Setting:
    """An edge, and a PBX on its inner side."""

    def __init__(self, new_folder: NewFolder) -> None:
        self.inner, self.outer = free_port(), free_port()
        self.pbx = Wire((INSIDE, self.inner), host=INSIDE)
        self.edge = Edge(
            new_folder("edge-two-homes"),
            pbx=f"sip:{INSIDE}:{self.pbx.port}",
            listen=(f"udp:{OUTSIDE}:{self.outer}", f"udp:{INSIDE}:{self.inner}"),
            advertise=ADVERTISED,
        )


@pytest.fixture
def setting(new_folder: NewFolder) -> Iterator[Setting]:
    made = Setting(new_folder)
    yield made
    with made.pbx:
        made.edge.stop()


def answer(peer: Wire, request: Message, status: str = "200 OK") -> None:
    """Answer as a user agent server does."""
    copied = [
        f"{name}: {value}"
        for name, value in request.headers
        if name.lower() in ("via", "record-route", "from", "to", "call-id", "cseq")
    ]
    lines = [each + (";tag=far" if each.startswith("To:") and "tag=" not in each else "") for each in copied]
    peer.send("\r\n".join([f"SIP/2.0 {status}", *lines, f"Contact: {peer.contact}", "Content-Length: 0", "", ""]))


def routes(message: Message) -> list[str]:
    """Hosts and ports of Record-Route, topmost first."""
    return re.findall(r"<sip:([^;>]*)", ", ".join(message.all("Record-Route")))


def test_each_side_sees_its_own_address(setting: Setting) -> None:
    pbx = setting.pbx
    with Wire((OUTSIDE, setting.outer), ALICE, host=FAR) as phone:
        registered = phone.register()
        assert registered.get("Service-Route") == f"<sip:{ADVERTISED}:{setting.outer};lr>"
        invite = phone.compose("INVITE", f"sip:1000@{DOMAIN}", body=phone.offer())
        phone.send(invite := phone.authorize(invite, phone.ask(invite)))
        there = pbx.receive()
        assert there is not None
        assert there.method == "INVITE"
        assert there.get("Via").startswith(f"SIP/2.0/UDP {INSIDE}:{setting.inner};")
        assert routes(there) == [f"{INSIDE}:{setting.inner}", f"{ADVERTISED}:{setting.outer}"]
        answer(pbx, there)
        assert phone.final(invite).status == 200
        # the PBX ends the call by the route that it was shown; the phone sees the outer address
        bye = [
            f"BYE sip:{ALICE.login}@{FAR}:{phone.port} SIP/2.0",
            f"Via: SIP/2.0/UDP {INSIDE}:{pbx.port};branch=z9hG4bKbye;rport",
            *(f"Route: {value}" for value in there.all("Record-Route")),
            f"Max-Forwards: 70\r\nFrom: {there.get('To')};tag=far\r\nTo: {there.get('From')}",
            f"Call-ID: {there.get('Call-ID')}\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n",
        ]
        pbx.send("\r\n".join(bye))
        ended = phone.receive()
        assert ended is not None
        assert ended.method == "BYE"
        assert ended.get("Via").startswith(f"SIP/2.0/UDP {ADVERTISED}:{setting.outer};")
        answer(phone, ended)
        done = pbx.receive()
        assert done is not None
        assert done.status == 200
