"""Messages of calls and subscriptions with broken headers, in any order: no traceback, and nothing is left behind.

Random, with a fixed seed; `NOMAD_MUTATIONS` says how many messages, for longer runs by hand.
"""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from nomad.config import Guard
from nomad.sip.errors import SipError
from nomad.sip.message import Request, Response
from tests.harness.peers import DOMAIN, SDP, Peer
from tests.harness.rig import Rig, on_rig, quiet_sip
from tests.scenarios.test_edge_notices import ACTIVE, LAMP, outside, subscribed

STEPS = int(os.environ.get("NOMAD_MUTATIONS", "200"))
PATIENT = Guard(malformed=10**9, auth_failures=10**9, requests_per_s=0)
STATUSES = (100, 180, 183, 199, 200, 202, 300, 302, 401, 407, 408, 422, 430, 481, 486, 489, 500, 503, 603)
CONTACTS = ("<sip:x@192.0.2.99>", f"<sip:0123456789@{DOMAIN}>", f"<sip:1000@{DOMAIN}>", "<0>", "*")
NAMES = (
    *("contact", "event", "expires", "subscription-state", "refer-to", "record-route", "route", "from", "to"),
    *("call-id", "cseq", "min-se", "session-expires", "privacy", "diversion", "history-info", "max-forwards"),
    *("max-breadth", "remote-party-id", "supported", "require", "www-authenticate", "content-type", "via"),
)
VALUES = (
    *("", ";", "<", "<sip:", "sip:a b", "*", "\0", "\udce9", "x" * 5000, "<sip:a@b>;tag", "<sip:a@b>;tag=", '"'),
    *("terminated;", "active;expires=99999999999999", "-1", "4294967295", "0", "1 FOO", ", ,", "sip:[::1", "<urn:x>"),
    *("<sip:%zz@b>", "<tel:+>", "<sip:@>", 'Digest realm="a", nonce=""', f"<sip:0123@{DOMAIN}?Replaces=a>;q=9"),
)


class Mutator:
    """Breaks messages, and answers those of the edge."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def broken(self, message: Request | Response) -> bytes:
        """The message with some headers wrong, and perhaps one octet."""
        copy = message.copy()
        for _ in range(self.random.randint(1, 3)):
            change = self.random.choice((copy.set, copy.set, copy.add))
            name = self.random.choice(NAMES)
            if self.random.random() < 0.2:
                copy.remove(name)
            else:
                change(name, self.random.choice(VALUES))
        raw = bytearray(copy.encode())
        if self.random.random() < 0.1:
            raw[self.random.randrange(len(raw))] = self.random.randrange(256)
        return bytes(raw)

    def answer(self, peer: Peer) -> None:
        """Answer most of what a peer was asked, half of it brokenly."""
        for message in peer.inbox:
            if isinstance(message, Response) or message.method == "ACK" or self.random.random() < 0.3:
                continue
            response = Response(self.random.choice(STATUSES), "Whatever")
            for name in ("via", "from", "call-id", "cseq", "record-route"):
                for value in message.get_all(name):
                    response.add(name, value)
            response.add("to", message.get("to") or "")
            if "tag=" not in (message.get("to") or ""):
                response.set("to", f"{message.get('to')};tag=t{self.random.randint(1, 3)}")
            response.add("contact", self.random.choice(CONTACTS))
            peer.send(self.broken(response) if self.random.random() < 0.5 else response)
        peer.inbox.clear()


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_comes_leaves_no_trace(seed: int) -> None:
    async def scenario(rig: Rig) -> None:
        mutator = Mutator(seed)
        choose = mutator.random.choice
        alice, bob = rig.phone("alice"), rig.phone("bob")
        await bob.register()
        watched, talk = await subscribed(rig, alice), await rig.talk(alice)
        asked: dict[str, Request] = {}
        for _ in range(STEPS):
            kind = mutator.random.randrange(8)
            if kind == 0:
                rig.pbx.send(mutator.broken(watched.pbx.request("NOTIFY", rig.pbx.via(), headers=ACTIVE)))
                alice.send(mutator.broken(watched.phone.request("SUBSCRIBE", alice.via(), headers=LAMP)))
            elif kind == 1:
                method = choose(("INVITE", "UPDATE", "INFO", "REFER", "ACK", "PRACK", "OPTIONS"))
                alice.send(mutator.broken(talk.caller.request(method, alice.via())))
            elif kind == 2:
                method = choose(("INVITE", "UPDATE", "INFO", "NOTIFY"))
                rig.pbx.send(mutator.broken(talk.callee.request(method, rig.pbx.via())))
            elif kind == 3:
                name = choose(("diversion", "history-info", "privacy", "remote-party-id", "min-se", "supported"))
                rig.pbx.invite("1002", headers=[(name, choose(VALUES[12:]))])
            elif kind == 4:
                outside(rig, choose(("MESSAGE", "NOTIFY", "REFER", "SUBSCRIBE")), "1002", [("event", choose(VALUES))])
            elif kind == 5 and "INVITE" in asked:
                alice.cancel(asked["INVITE"])
            else:
                method = choose(("INVITE", "SUBSCRIBE", "MESSAGE", "PUBLISH", "REFER"))
                number = choose(("1000", "alice", "0123456789", "0899"))
                refer = [("refer-to", choose(VALUES))] if method == "REFER" else []
                request = alice.make(method, f"sip:{number}@{DOMAIN}", headers=[*LAMP, *refer], body=SDP)
                asked[method] = request
                alice.send(request)
            await asyncio.sleep(choose((0.01, 0.01, 0.01, 0.5, 5.0, 40.0)))
            for message in [m for m in alice.inbox if isinstance(m, Response) and m.status == 407]:
                try:
                    alice.send(alice.answer_challenge(asked[message.cseq.method], message))
                except (SipError, KeyError):
                    continue
            for peer in (alice, bob, rig.pbx):
                mutator.answer(peer)
        await asyncio.sleep(100_000)
        left = (len(rig.subscriptions), rig.calls.live, rig.signalling.stack.transactions, len(rig.live_calls.calls))
        assert left == (0, 0, 0, 0)
        tables = (rig.switchboard._setups, rig.switchboard._onward, rig.proxy._by_server, rig.proxy._by_branch)
        assert [len(table) for table in tables] == [0, 0, 0, 0]

    on_rig(guard=PATIENT, sip=quiet_sip(session_expires_s=1800, dialog_check_s=300))(scenario)()
