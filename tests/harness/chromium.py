"""Headless Chromium with a tone for a microphone, driven over its DevTools, and the pages that it shows.

The phone in the page is SIP.js, which npm installs into var/ as pinned in tests/interop/browser.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import functools
import hashlib
import http.server
import json
import shutil
import threading
import urllib.request
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

from tests.harness.audio import write_tone
from tests.harness.debian import ROOT
from tests.harness.pki import Certificate
from tests.harness.ports import HOST, free_port
from tests.harness.processes import Process, run, wait_until

SOURCE = ROOT / "tests" / "interop" / "browser"
CACHE = ROOT / "var" / "cache" / "browser"
ANSWER_S = 20.0
MICROPHONE_HZ = 440
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--allow-loopback-in-peer-connection",
    "--autoplay-policy=no-user-gesture-required",
)


class Pages:
    """Serves the page of the phone on loopback, which browsers hold for a secure origin."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(SOURCE, folder)
        shutil.copytree(_library(), folder / "sip.js")
        handler = functools.partial(_Quiet, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer((HOST, 0), handler)
        self.origin = f"http://{HOST}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


class Chromium:
    """One browser with one page. It trusts the key of `certificate` besides what it trusts anyway."""

    def __init__(self, folder: Path, url: str, *, certificate: Certificate) -> None:
        folder.mkdir(parents=True)
        port = free_port()
        flags = [*FLAGS, f"--user-data-dir={folder / 'profile'}", f"--remote-debugging-port={port}"]
        microphone = folder / "microphone.wav"
        write_tone(microphone, hz=MICROPHONE_HZ, seconds=10, rate=48_000)
        flags += [f"--use-file-for-fake-audio-capture={microphone}"]
        flags += [f"--ignore-certificate-errors-spki-list={_key_hash(certificate)}"]
        command = ["chromium", *flags, url]
        self._process = Process("chromium", command, log=folder / "chromium.log", env={"HOME": str(folder)})
        pages: list[dict[str, Any]] = []

        def shown() -> bool:
            url = f"http://{HOST}:{port}/json/list"
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
                pages[:] = [page for page in json.load(answer) if page["type"] == "page"]
            return bool(pages)

        self._process.wait_ready(shown)
        self._open = contextlib.ExitStack()
        self._socket = self._open.enter_context(connect(pages[0]["webSocketDebuggerUrl"], max_size=None))
        self._number = 0
        wait_until(lambda: self.evaluate("window.ready === true"), timeout_s=10, what="the page of the phone")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; promises are awaited."""
        self._number += 1
        parameters = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        self._socket.send(json.dumps({"id": self._number, "method": "Runtime.evaluate", "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(ANSWER_S))
            if answer.get("id") == self._number:
                break
        result = answer["result"]
        if "exceptionDetails" in result:
            raise AssertionError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def stop(self) -> None:
        """Close it."""
        self._open.close()
        self._process.stop()


def _library() -> Path:
    """Where SIP.js lies, installed once as the lock file says."""
    lock_file = (SOURCE / "package-lock.json").read_bytes()
    folder = CACHE / hashlib.sha256(lock_file).hexdigest()[:16]
    library = folder / "node_modules" / "sip.js" / "lib"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(SOURCE / name, folder / name)
            run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, timeout_s=120.0)
    return library


def _key_hash(certificate: Certificate) -> str:
    pem = run(["openssl", "x509", "-in", certificate.certificate, "-pubkey", "-noout"])
    der = base64.b64decode("".join(line for line in pem.splitlines() if "-----" not in line))
    return base64.b64encode(hashlib.sha256(der).digest()).decode()
