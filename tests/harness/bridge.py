"""The smallest PBX: every call that comes is placed anew to the same number, and what is said in it passes unread.

For phones whose media no Asterisk of the tests takes. Speaks SIP through `Wire`, one thread.
"""

from __future__ import annotations

import re
import secrets
import threading

from tests.harness.ports import HOST
from tests.harness.wire import Dialog, Message, Wire, new_call_id


class Bridge:
    """A PBX on loopback over UDP for an edge at a port."""

    def __init__(self, edge_port: int) -> None:
        self._edge = f"{HOST}:{edge_port}"
        self._wire = Wire((HOST, edge_port))
        self.uri = f"sip:{HOST}:{self._wire.port}"
        self._setups: dict[str, Message] = {}  # Call-ID of the new call -> INVITE that asked for it
        self._other: dict[str, Dialog] = {}  # Call-ID -> the dialog on the other side
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        self._thread.join()
        self._wire.__exit__(None, None, None)

    def _run(self) -> None:
        while not self._stopping.is_set():
            message = self._wire.receive(0.1)
            if message is None:
                continue
            if message.status:
                self._answered(message)
            elif message.method == "INVITE":
                self._place(message)
            elif message.method == "BYE":
                self._reply(message, "200 OK")
                dialog = self._other.pop(message.get("Call-ID"), None)
                if dialog is not None:
                    self._wire.send(self._wire.within(dialog, "BYE"))
            elif message.method != "ACK":
                self._reply(message, "200 OK")

    def _place(self, invite: Message) -> None:
        number = re.search(r"sip:([^@]+)@", invite.first)
        if number is None or ";tag=" in invite.get("To"):
            self._reply(invite, "488 Not Acceptable Here")
            return
        self._reply(invite, "100 Trying")
        call_id = new_call_id()
        local = f"<sip:bridge@{HOST}>;tag={secrets.token_hex(4)}"
        uri = f"sip:{number[1]}@{self._edge}"
        self._setups[call_id] = invite
        self._wire.send(self._wire.compose("INVITE", uri, call_id=call_id, from_=local, body=invite.body))

    def _answered(self, response: Message) -> None:
        invite = self._setups.get(response.get("Call-ID"))
        if invite is None or response.status == 100 or not response.get("CSeq").endswith("INVITE"):
            return
        line = response.first.removeprefix("SIP/2.0 ")
        if response.status >= 300:
            self._reply(invite, line)
            return
        self._reply(invite, line, body=response.body)
        if response.status < 200:
            return
        call_id = response.get("Call-ID")
        routes = _elements(response, "Record-Route")[::-1]
        callee = Dialog(call_id, response.get("From"), response.get("To"), _target(response), routes)
        self._wire.send(self._wire.within(callee, "ACK", cseq=1))
        caller_id = invite.get("Call-ID")
        local = f"{invite.get('To')};tag={_tag(caller_id)}"
        routes = _elements(invite, "Record-Route")
        self._other[call_id] = Dialog(caller_id, local, invite.get("From"), _target(invite), routes)
        self._other[caller_id] = callee

    def _reply(self, request: Message, line: str, *, body: str = "") -> None:
        to = request.get("To")
        if not line.startswith("100") and ";tag=" not in to:
            to += f";tag={_tag(request.get('Call-ID'))}"
        lines = [f"SIP/2.0 {line}", *(f"Via: {via}" for via in request.all("Via"))]
        lines += [f"Record-Route: {route}" for route in request.all("Record-Route")]
        lines += [f"From: {request.get('From')}", f"To: {to}", f"Call-ID: {request.get('Call-ID')}"]
        lines += [f"CSeq: {request.get('CSeq')}", f"Contact: {self._wire.contact}"]
        if body:
            lines.append("Content-Type: application/sdp")
        self._wire.send("\r\n".join([*lines, f"Content-Length: {len(body.encode())}", "", body]))


def _tag(call_id: str) -> str:
    return f"bridge-{call_id[:8]}"


def _target(message: Message) -> str:
    found = re.search(r"<([^>]*)>", message.get("Contact"))
    assert found is not None
    return found[1]


def _elements(message: Message, name: str) -> list[str]:
    return [element.strip() for value in message.all(name) for element in value.split(",")]
