"""What can go wrong: a peer sends nonsense, we were given a value that does not fit, or somebody does not answer."""


class PacketError(ValueError):
    """Bytes from a peer that are not the RADIUS that they claim to be.

    `reason` is a short fixed word for counters, `text` tells a human what is wrong; neither holds secrets.
    """

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(text or reason)
        self.reason = reason
        self.text = text or reason


class EncodingError(ValueError):
    """A value of ours does not fit into its attribute or packet."""


class RadiusUnavailable(Exception):
    """No server answered; the text names each server and why, for the log."""


class DirectoryUnavailable(Exception):
    """The directory did not answer; the text names it and why, for the log."""


class ConfigError(Exception):
    """A configuration that cannot be used; the text names file, key path and the mend."""


class LedgerUnavailable(Exception):
    """An accounting record could not be stored."""
