"""baresip as a headless phone: a sine tone for a microphone, every call recorded, driven over its control port.

baresip 1.0 answers MD5 challenges only, and fails when a challenge offers another algorithm besides.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.harness.audio import RATE, newest_tone
from tests.harness.ports import HOST, free_port, free_range
from tests.harness.processes import Process, ProcessFailed, wait_until

DATA = Path(__file__).with_name("data")
RTP_PORTS = 40
ANSWER_S = 5.0
Event = Mapping[str, Any]  # baresip's own JSON: type, class, peeruri, param, id, ...


class Baresip:
    """One phone with one account; call `register` or, for calls without registration, `enrol`."""

    def __init__(
        self,
        folder: Path,
        name: str,
        aor: str,
        password: str,
        *,
        outbound: str = "",
        transport: str = "udp",
        auth_user: str = "",
        hz: int = 440,
        auto_answer: bool = False,
        parameters: str = "",
        ca: Path | None = None,
    ) -> None:
        self.name = name
        self.folder = folder
        self.aor = aor
        self.events: list[Event] = []  # everything that happened, oldest first
        self._taken = 0  # events that a wait has already looked at
        self._buffer = b""
        self.port, self._control_port = free_port(), free_port()
        self._setup(hz, ca)
        user = auth_user or aor.removeprefix("sip:").partition("@")[0]
        self._account = f"<{aor};transport={transport}>;auth_user={user};auth_pass={password}"
        self._account += ";audio_codecs=PCMU/8000/1"
        if outbound:
            self._account += f';outbound="{outbound};transport={transport}"'
        if auto_answer:
            self._account += ";answermode=auto"
        self._account += parameters
        command = ["baresip", "-4", "-s", "-v", "-f", str(folder)]
        self._process = Process(f"baresip {name}", command, log=folder / "baresip.log", cwd=folder)
        self._process.wait_ready(lambda: "baresip is ready" in self._process.output())
        self._socket = socket.create_connection((HOST, self._control_port), ANSWER_S)

    def enrol(self) -> None:
        """Make the account known to the phone, without registering it."""
        self.command("uanew", f"{self._account};regint=0")

    def register(self, *, expires_s: int = 3600, timeout_s: float = 10.0) -> Event:
        """Register and return what came of it: REGISTER_OK, or REGISTER_FAIL with the status in `param`."""
        self.command("uanew", f"{self._account};regint={expires_s}")
        return self.wait("REGISTER_OK", "REGISTER_FAIL", timeout_s=timeout_s)

    def dial(self, target: str) -> None:
        """Call a SIP address or, within the account's domain, a number."""
        self.command("dial", target)

    def accept(self) -> None:
        """Answer the call that rings."""
        self.command("accept")

    def hangup(self) -> None:
        """End the call, or refuse the one that rings."""
        self.command("hangup")

    def call(self, target: str, *, timeout_s: float = 10.0) -> Event:
        """Dial and wait for the outcome: CALL_ESTABLISHED, or CALL_CLOSED with the reason in `param`."""
        self.dial(target)
        return self.wait("CALL_ESTABLISHED", "CALL_CLOSED", timeout_s=timeout_s)

    def wait(self, *types: str, timeout_s: float = 10.0) -> Event:
        """The next event of one of these types that no earlier wait has passed."""
        end = time.monotonic() + timeout_s
        while True:
            while self._taken < len(self.events):
                event = self.events[self._taken]
                self._taken += 1
                if event.get("type") in types:
                    return event
            if not self._receive(end):
                seen = [event.get("type") for event in self.events]
                raise TimeoutError(f"{self.name}: no {' or '.join(types)} within {timeout_s:g} s; so far {seen}")

    def command(self, command: str, parameters: str = "") -> str:
        """Send a command of baresip's menu and return its answer."""
        body = json.dumps({"command": command, "params": parameters, "token": command}).encode()
        self._socket.sendall(b"%d:%b," % (len(body), body))
        end = time.monotonic() + ANSWER_S
        while (answer := self._take_answer()) is None:
            if not self._receive(end):
                raise ProcessFailed(f"{self.name} does not answer {command}:\n{self.output()[-2000:]}")
        if not answer.get("ok"):
            raise ProcessFailed(f"{self.name}: {command} {parameters}: {answer.get('data')}")
        return str(answer.get("data", ""))

    def wait_audio(self, *, seconds: float, timeout_s: float = 10.0) -> None:
        """Wait until this much more audio has come in and been recorded."""
        goal = self._recorded_bytes() + int(seconds * RATE * 2)
        wait_until(lambda: self._recorded_bytes() >= goal, timeout_s=timeout_s, what=f"audio at {self.name}")

    def heard(self, hz: int) -> bool:
        """Whether the newest call, which has ended, brought this tone."""
        return newest_tone(self.folder / "recordings", "*-dec.wav") == hz

    def output(self) -> str:
        """What the phone has printed, with every SIP message."""
        return self._process.output()

    def stop(self) -> None:
        """Unregister, as far as the edge still answers, and end."""
        if self._process.exit_code is None:
            try:
                self.command("quit")
                self._process.wait(3.0)
            except (ProcessFailed, OSError):
                pass
        self._socket.close()
        self._process.stop()

    def _setup(self, hz: int, ca: Path | None) -> None:
        (self.folder / "recordings").mkdir(parents=True)
        rtp = free_range(RTP_PORTS)
        values = {
            "FOLDER": str(self.folder),
            "HOST": HOST,
            "PORT": str(self.port),
            "CONTROL": str(self._control_port),
            "RTP_FIRST": str(rtp),
            "RTP_LAST": str(rtp + RTP_PORTS - 1),
            "HZ": str(hz),
            "CA": f"sip_cafile {ca}" if ca else "",
            "MODULES": str(next(Path("/usr/lib").rglob("baresip/modules/account.so")).parent),
        }
        text = (DATA / "baresip.conf").read_text()
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        (self.folder / "config").write_text(text)
        (self.folder / "accounts").write_text("")
        (self.folder / "contacts").write_text("")

    def _recorded_bytes(self) -> int:
        return sum(path.stat().st_size for path in (self.folder / "recordings").glob("*-dec.wav"))

    def _take_answer(self) -> Event | None:
        for index, message in enumerate(self.events):
            if message.get("response"):
                return self.events.pop(index)
        return None

    def _receive(self, end: float) -> bool:
        """Take in one message; False when there was none until `end`."""
        while True:
            head, colon, rest = self._buffer.partition(b":")
            if colon and len(rest) > int(head):
                self._buffer = rest[int(head) + 1 :]
                self.events.append(json.loads(rest[: int(head)].decode(errors="replace"), strict=False))
                return True
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._socket.settimeout(left)
            try:
                more = self._socket.recv(65536)
            except TimeoutError:
                return False
            if not more:
                raise ProcessFailed(f"{self.name} closed its control connection:\n{self.output()[-2000:]}")
            self._buffer += more
