"""Errors of protocol code: ours (LocalProtocolError) and theirs (RemoteProtocolError)."""


class ProtocolError(Exception):
    """A rule of a wire protocol was broken; the link that carried it is of no further use."""


class LocalProtocolError(ProtocolError):
    """We were about to break the protocol: a bug of ours, raised before any byte is made."""


class NoRoomError(LocalProtocolError):
    """More was asked of a connection than its `room` says; fewer rows, or the same later, can go."""


class HeaderListError(LocalProtocolError):
    """The peer takes no header list of that size (RFC 9113 section 6.5.2); another peer may."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol; `code` is the HTTP/2 error code that we close with (RFC 9113 section 7)."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
