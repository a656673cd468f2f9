"""The two exceptions that remote input may cause.

`SipError`: these bytes are not the SIP that they claim to be. `Reject`: a well-formed request gets this answer.
"""


class SipError(ValueError):
    """Malformed SIP from a peer.

    `reason` is a short fixed word for the counter `nomad_sip_malformed_total{reason}` (never peer text), `text` tells a
    human what is wrong and is safe to send back, `header` names the header at fault, "" when it is none.
    `request` is what could be read of the message when the peer can still be answered with a 400, else None.
    """

    def __init__(self, reason: str, text: str = "", *, header: str = "", status: int = 400) -> None:
        super().__init__(text or reason)
        self.reason = reason
        self.text = text or reason
        self.header = header
        self.status = status

    @property
    def phrase(self) -> str:
        """The text, with the header at fault where it does not name that itself: what the peer is told."""
        if not self.header or self.header.lower() in self.text.lower():
            return self.text
        return f"{self.header}: {self.text}"


class Reject(Exception):
    """Answer the request at hand with `status`; caught once, in `edge/dispatch.py`.

    `reason` replaces the standard reason phrase; `headers` are added to the response; `rule` names the check that
    refused (a fixed word, used as metric label); `why` is for the log only.
    """

    def __init__(
        self,
        status: int,
        reason: str = "",
        *,
        headers: tuple[tuple[str, str], ...] = (),
        retry_after: int | None = None,
        rule: str = "",
        why: str = "",
    ) -> None:
        super().__init__(status, reason or why)
        self.status = status
        self.reason = reason
        self.headers = headers if retry_after is None else (*headers, ("Retry-After", str(retry_after)))
        self.rule = rule
        self.why = why
