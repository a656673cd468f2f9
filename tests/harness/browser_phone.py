"""The SIP.js phone in the page of `Chromium`, driven like `Baresip`."""

from __future__ import annotations

import json

from tests.harness.chromium import Chromium
from tests.harness.people import DOMAIN, Person
from tests.harness.processes import wait_until

EVENT_S = 10.0
TONE_TOLERANCE_HZ = 15


class BrowserPhone:
    """One person's phone in a page, over a WebSocket at `server`."""

    def __init__(self, browser: Chromium, person: Person, server: str) -> None:
        self.person = person
        self._browser = browser
        self._server = server

    def register(self) -> None:
        """Connect and register."""
        login = self.person.login
        arguments = [login, self._server, f"sip:{login}@{DOMAIN}", login, self.person.password]
        self._browser.evaluate(f"start(...{json.dumps(arguments)})")
        self.wait("registered")

    def dial(self, target: str) -> None:
        """Call an address and wait for the answer."""
        self._browser.evaluate(f"{self._me}.user.call({json.dumps(target)})")
        self.wait("answered")

    def answer(self) -> None:
        """Wait until somebody calls, and answer."""
        self.wait("received")
        self._browser.evaluate(f"{self._me}.user.answer()")
        self.wait("answered")

    def hangup(self) -> None:
        """End the call."""
        self._browser.evaluate(f"{self._me}.user.hangup()")

    def drop(self) -> None:
        """Lose the connection without a goodbye."""
        self._browser.evaluate(f"{self._me}.drop()")

    def wait(self, event: str) -> None:
        """Wait for an event that no wait has taken yet."""
        take = f"{self._me}.take('{event}')"
        wait_until(lambda: self._browser.evaluate(take), timeout_s=EVENT_S, what=f"{self.person.login}: {event}")

    def wait_tone(self, hz: int) -> None:
        """Wait until the other side is heard with this tone."""

        def heard() -> bool:
            return abs(float(self._browser.evaluate(f"{self._me}.tone()")) - hz) < TONE_TOLERANCE_HZ

        wait_until(heard, timeout_s=EVENT_S, what=f"{hz} Hz at {self.person.login}")

    def wait_packets(self, count: int) -> None:
        """Wait until so many packets of audio have come in."""
        enough = f"{self._me}.received().then((packets) => packets > {count})"
        wait_until(lambda: self._browser.evaluate(enough), timeout_s=EVENT_S, what=f"audio at {self.person.login}")

    @property
    def _me(self) -> str:
        return f"phones.{self.person.login}"
