"""The response context of a proxied request: which responses go back, which branches are cancelled.

RFC 3261 16.7 to 16.10, RFC 4320. Pure. A 3xx is a final response like others: whether to recurse on it is up to the
edge. Sends nothing, keeps no transactions; the caller strips its own Via from what is forwarded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nomad.sip.build import reason_phrase, response_to
from nomad.sip.dialog import stateless_tag
from nomad.sip.events import ClientKey
from nomad.sip.message import Request, Response

TIMER_C_S = 180.0
_CHALLENGES: Final = ("www-authenticate", "proxy-authenticate")
# Within the 4xx: what tells the caller how to do better (RFC 3261 16.7 step 6), and what says least about the callee
_PREFERRED: Final = frozenset({401, 407, 415, 420, 484})
_LEAST: Final = frozenset({408, 487})


@dataclass(frozen=True, slots=True)
class Forward:
    """Send this response upstream. `key` is the branch that it came from, None when it was made here."""

    response: Response
    key: ClientKey | None


@dataclass(frozen=True, slots=True)
class CancelBranch:
    """CANCEL this branch; named once."""

    key: ClientKey


Action = Forward | CancelBranch


class _Branch:
    """What is known of one branch."""

    __slots__ = ("answered", "cancelled", "ended", "timer_c")

    def __init__(self, timer_c: float | None) -> None:
        self.answered = False  # with anything, a 100 too
        self.cancelled = False
        self.ended = False
        self.timer_c = timer_c  # when the branch has rung too long


class ResponseContext:
    """Collects the responses of all branches of a request."""

    __slots__ = ("_branches", "_cancelled", "_finals", "_invite", "_request", "_running", "_sent_final", "_timer_c_s")

    def __init__(self, request: Request, *, timer_c_s: float = TIMER_C_S) -> None:
        """`request` as it arrived: what is answered here, without a branch, is an answer to it."""
        self._request = request
        self._invite = request.method == "INVITE"
        self._timer_c_s = timer_c_s
        self._branches: dict[ClientKey, _Branch] = {}
        self._running = 0  # branches that have not ended
        self._finals: list[Forward] = []  # those other than 2xx
        self._sent_final = False  # a final response went back; only more 2xx may follow
        self._cancelled = False  # the caller gave up

    @property
    def done(self) -> bool:
        """Whether every branch has ended: only a further 2xx can come."""
        return self._running == 0

    def add_branch(self, key: ClientKey, now: float) -> None:
        """A branch was sent."""
        self._branches[key] = _Branch(now + self._timer_c_s if self._invite else None)
        self._running += 1

    def replace(self, old: ClientKey, new: ClientKey, now: float) -> None:
        """Another request went out in the place of a running branch, whose answer counts no more."""
        self._end(self._branches.pop(old))
        self.add_branch(new, now)

    def on_response(self, key: ClientKey, response: Response, now: float) -> list[Action]:
        """A branch answered."""
        branch = self._branches.get(key)
        if branch is None:
            return []
        if response.status < 200:
            return self._provisional(branch, Forward(response, key), now)
        if response.status < 300:
            return self._success(branch, Forward(response, key))
        return self._failure(branch, Forward(response, key))

    def on_timeout(self, key: ClientKey) -> list[Action]:
        """A branch never ended: as if it had sent 408 (16.8), or 487 when the caller had given up."""
        return self._missing(key, 408)

    def on_failed(self, key: ClientKey, status: int = 503) -> list[Action]:
        """A branch could not be sent: as if it had sent 503 (16.9), or what `status` says."""
        return self._missing(key, status)

    def cancel_all(self) -> list[Action]:
        """The caller gave up: CANCEL every branch that has no final response yet (16.10)."""
        self._cancelled = True
        return self._cancel_running()

    def next_timer(self) -> float | None:
        """When timer C of a branch fires, None when none runs."""
        return min([b.timer_c for b in self._branches.values() if b.timer_c is not None], default=None)

    def run_timers(self, now: float) -> list[Action]:
        """Cancel branches that rang too long; one that never said anything is over at once (16.8)."""
        actions: list[Action] = []
        for key, branch in self._branches.items():
            if branch.timer_c is None or branch.timer_c > now:
                continue
            branch.timer_c = None
            actions += _cancel(key, branch)
            if not branch.answered:
                actions += self._missing(key, 408)
        return actions

    def _provisional(self, branch: _Branch, forward: Forward, now: float) -> list[Action]:
        if branch.ended:
            return []
        branch.answered = True
        if forward.response.status == 100:
            return []  # hop by hop (16.7 step 5)
        if branch.timer_c is not None:
            branch.timer_c = now + self._timer_c_s  # 16.7 step 2
        # RFC 4320 4.1: to other methods no provisional but 100 may be sent
        return [forward] if self._invite and not self._sent_final else []

    def _success(self, branch: _Branch, forward: Forward) -> list[Action]:
        """Every 2xx to an INVITE goes back at once, the first one to another method (16.7 step 5)."""
        self._end(branch)
        if self._sent_final and not self._invite:
            return []
        self._sent_final = True
        return [forward, *self._cancel_running()]

    def _failure(self, branch: _Branch, forward: Forward) -> list[Action]:
        if branch.ended:
            return []
        self._end(branch)
        self._finals.append(forward)
        if self._running == 0:
            return self._conclude()
        # A 6xx waits until the others have ended: a 2xx that comes first still wins (16.7 step 5)
        return self._cancel_running() if forward.response.status >= 600 else []

    def _missing(self, key: ClientKey, status: int) -> list[Action]:
        """End a branch that will not answer, with a response made here."""
        branch = self._branches.get(key)
        if branch is None or branch.ended:
            return []
        if self._cancelled:
            status = 487  # that the branch did not confirm its end is no matter for the caller
        response = response_to(self._request, status, to_tag=stateless_tag(self._request))
        return self._failure(branch, Forward(response, None))

    def _end(self, branch: _Branch) -> None:
        if not branch.ended:
            branch.ended = True
            branch.timer_c = None
            self._running -= 1

    def _cancel_running(self) -> list[Action]:
        """Only an INVITE can be cancelled (16.7 step 10)."""
        actions: list[Action] = []
        if self._invite:
            for key, branch in self._branches.items():
                if not branch.ended:
                    actions += _cancel(key, branch)
        return actions

    def _conclude(self) -> list[Action]:
        """All branches have ended: the best response goes back, unless a final one went already (16.7 step 6)."""
        finals = self._finals
        if not self._invite:
            finals = [each for each in finals if each.response.status != 408]  # RFC 4320 4.2: it helps nobody
        if self._sent_final or not finals:
            return []
        self._sent_final = True
        best = min(finals, key=self._rank)
        if best.response.status in (401, 407):
            return [self._with_all_challenges(best)]
        if best.response.status == 503:
            return [_as_500(best)]
        return [best]

    def _rank(self, final: Forward) -> tuple[int, int]:
        """Order of preference: 6xx, then the lowest class; within a class what helps most; the earlier of equals."""
        status = final.response.status
        if status >= 600:
            return 0, 0
        if self._cancelled and status == 487:
            return 4, 0  # what the caller expects
        if status in _PREFERRED:
            return 4, 1
        return status // 100, 3 if status in _LEAST or status == 503 else 2

    def _with_all_challenges(self, best: Forward) -> Forward:
        """Every challenge of every branch goes back, so that the caller can answer all (16.7 step 7)."""
        response = best.response.copy()
        for other in self._finals:
            if other is not best and other.response.status in (401, 407):
                for name in _CHALLENGES:
                    for value in other.response.get_all(name):
                        response.add(name, value)
        return Forward(response, best.key)


def _cancel(key: ClientKey, branch: _Branch) -> list[Action]:
    if branch.cancelled:
        return []
    branch.cancelled = True
    return [CancelBranch(key)]


def _as_500(best: Forward) -> Forward:
    """A 503 speaks of that branch only; upstream it would say that this proxy is overloaded (16.7 step 6)."""
    response = best.response.copy()
    response.status = 500
    response.reason = reason_phrase(500)
    return Forward(response, best.key)
