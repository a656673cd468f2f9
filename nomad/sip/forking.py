"""The response context of one forwarded request: which responses go back, which branches are cancelled (RFC 3261 16.7).

Pure; the proxy carries out the actions. Redirections are final responses here: following them is the edge's policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nomad.sip.build import response_to
from nomad.sip.events import ClientKey
from nomad.sip.message import Request, Response

TIMER_C_S: Final = 180.0  # RFC 3261 16.6 step 11
PREFERRED: Final = (401, 407, 415, 420, 484)  # 16.7 step 6: they tell the caller how to do better
CHALLENGES: Final = {401: "www-authenticate", 407: "proxy-authenticate"}


@dataclass(frozen=True, slots=True)
class Forward:
    """Send this response back. `key` is the branch it came from, None when it was made here."""

    response: Response
    key: ClientKey | None


@dataclass(frozen=True, slots=True)
class CancelBranch:
    """CANCEL this branch."""

    key: ClientKey


Action = Forward | CancelBranch


class _Branch:
    """What is known of one branch."""

    __slots__ = ("cancelled", "final", "timer_c")

    def __init__(self, timer_c: float | None) -> None:
        self.final: Response | None = None
        self.cancelled = False
        self.timer_c = timer_c  # when the branch has rung too long


class ResponseContext:
    """Collects the responses of all branches of a request."""

    def __init__(self, request: Request, *, timer_c_s: float = TIMER_C_S) -> None:
        self._request = request
        self._invite = request.method == "INVITE"
        self._timer_c_s = timer_c_s
        self._branches: dict[ClientKey, _Branch] = {}
        self._sent_final = False  # a final response went back; only more 2xx may follow

    @property
    def done(self) -> bool:
        """Whether no branch can bring anything any more."""
        return all(branch.final is not None for branch in self._branches.values())

    def add_branch(self, key: ClientKey, now: float) -> None:
        """A branch was sent."""
        self._branches[key] = _Branch(now + self._timer_c_s if self._invite else None)

    def on_response(self, key: ClientKey, response: Response, now: float) -> list[Action]:
        """A branch answered."""
        branch = self._branches.get(key)
        status = response.status
        if branch is None or (branch.final is not None and not (self._invite and status < 300)):
            return []
        if status < 200:
            return self._provisional(branch, key, response, now)
        if branch.final is not None and status >= 200:
            return [Forward(response, key)]  # another 2xx of the same branch (RFC 6026)
        branch.final = response
        branch.timer_c = None
        if status < 300:
            first = not self._sent_final or self._invite
            self._sent_final = True
            return [Forward(response, key), *self.cancel_all()] if first else []
        actions: list[Action] = self.cancel_all() if status >= 600 else []
        return actions + self._when_done()

    def on_timeout(self, key: ClientKey, now: float) -> list[Action]:
        """A branch never answered: as if it had sent 408 (16.8)."""
        return self._fail(key, 408)

    def on_failed(self, key: ClientKey, now: float) -> list[Action]:
        """A branch could not be sent: as if it had sent 503 (16.9)."""
        return self._fail(key, 503)

    def cancel_all(self) -> list[Action]:
        """CANCEL every branch that has no final response yet (16.10)."""
        if not self._invite:
            return []
        actions: list[Action] = []
        for key, branch in self._branches.items():
            if branch.final is None and not branch.cancelled:
                branch.cancelled = True
                actions.append(CancelBranch(key))
        return actions

    def next_timer(self) -> float | None:
        """When timer C of a branch fires, None when none runs."""
        return min((b.timer_c for b in self._branches.values() if b.timer_c is not None), default=None)

    def run_timers(self, now: float) -> list[Action]:
        """Cancel branches that rang too long (16.8); what does not answer that either is ended as 408."""
        actions: list[Action] = []
        for key, branch in self._branches.items():
            if branch.timer_c is not None and branch.timer_c <= now:
                branch.timer_c = None
                if not branch.cancelled:
                    branch.cancelled = True
                    actions.append(CancelBranch(key))
        return actions

    def _provisional(self, branch: _Branch, key: ClientKey, response: Response, now: float) -> list[Action]:
        if response.status == 100:
            return []  # hop by hop (16.7 step 5)
        if branch.timer_c is not None:
            branch.timer_c = now + self._timer_c_s  # 16.7 step 2
        return [] if self._sent_final else [Forward(response, key)]

    def _fail(self, key: ClientKey, status: int) -> list[Action]:
        branch = self._branches.get(key)
        if branch is None or branch.final is not None:
            return []
        branch.final = response_to(self._request, status)
        branch.timer_c = None
        return self._when_done()

    def _when_done(self) -> list[Action]:
        """The best final response, once all branches have theirs."""
        if self._sent_final or not self.done:
            return []
        self._sent_final = True
        key, best = self._best()
        if best.status == 503:
            # 503 speaks of that server only; the caller must not take it for ours (16.7 step 6)
            return [Forward(response_to(self._request, 500), None)]
        if not self._invite and best.status == 408:
            return []  # RFC 4320 4.2: a late 408 to a non-INVITE helps nobody
        if best.status in CHALLENGES:
            self._add_challenges(key, best)
        made_here = not best.size
        return [Forward(best, None if made_here else key)]

    def _best(self) -> tuple[ClientKey, Response]:
        finals = [(key, branch.final) for key, branch in self._branches.items() if branch.final is not None]
        return min(finals, key=lambda each: _rank(each[1].status))

    def _add_challenges(self, key: ClientKey, best: Response) -> None:
        """Every challenge of every branch goes back, so that the caller can answer all (16.7 step 7)."""
        for other_key, branch in self._branches.items():
            if other_key != key and branch.final is not None and branch.final.status in CHALLENGES:
                for name in CHALLENGES.values():
                    for value in branch.final.get_all(name):
                        best.add(name, value)


def _rank(status: int) -> tuple[int, int]:
    """Order of preference: 6xx, then the lowest class; within 4xx those that help; 503 after other 5xx."""
    if status >= 600:
        return 0, status
    if status in PREFERRED:
        return 4, 0
    if status == 408 or status == 487:
        return 4, 2  # says least of all
    return status // 100, 3 if status == 503 else 1
