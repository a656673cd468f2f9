"""Linphone's console client as a phone that registers; commands go through a named pipe, SIP messages into a log."""

from __future__ import annotations

import os
from pathlib import Path

from tests.harness.ports import HOST, free_port
from tests.harness.processes import Process, wait_until

SETTINGS = """\
[sip]
sip_port={port}
sip_tcp_port={port}
sip_tls_port=0
bind_address={host}
guess_hostname=1
register_only_when_network_is_up=0
[rtp]
audio_rtp_port={rtp}
[video]
capture=0
display=0
"""


class Linphone:
    """One phone."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        for name in (".local/share/linphone", ".config/linphone"):
            (folder / name).mkdir(parents=True)
        (folder / "linphonerc").write_text(SETTINGS.format(port=free_port(), rtp=free_port(), host=HOST))
        self._commands = folder / "commands"
        self._log = folder / "sip.log"
        os.mkfifo(self._commands)
        # the pipe is opened for reading and writing, so that linphonec never sees its end
        command = ["bash", "-c", 'exec linphonec "$@" 0<>"$0"', self._commands, "-c", folder / "linphonerc"]
        command += ["-S", "-d", "6", "-l", self._log]
        self._process = Process("linphone", command, log=folder / "screen.log", cwd=folder, env={"HOME": str(folder)})
        self._process.wait_ready(lambda: "linphonec>" in self._process.output())

    def register(self, aor: str, proxy: str, password: str) -> None:
        """Begin to register; `messages` shows what comes of it."""
        self._say(f"register {aor} {proxy} {password}")

    def call(self, target: str) -> None:
        """Call an address; `messages` shows what comes of it."""
        self._say(f"call {target}")

    def hang_up(self) -> None:
        """End the call."""
        self._say("terminate")

    def messages(self) -> str:
        """Every SIP message so far, among other things."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def wait(self, text: str, *, timeout_s: float = 10.0) -> None:
        """Wait until a text stands in the messages."""
        wait_until(lambda: text in self.messages(), timeout_s=timeout_s, what=f"linphone: {text}")

    def stop(self) -> None:
        """End it."""
        if self._process.exit_code is None:
            self._say("quit")
        self._process.stop()

    def _say(self, line: str) -> None:
        pipe = os.open(self._commands, os.O_WRONLY)
        os.write(pipe, f"{line}\n".encode())
        os.close(pipe)
