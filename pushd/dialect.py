"""The contract of every dialect: its calls in one table, its keys, and its own shape for every error."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pushd.commands.vendor_keys import opened
from pushd.errors import ForbiddenError, PushdError, UnauthorizedError
from pushd.model.app import Key, Role
from pushd.model.vendor_key import DialectName
from pushd.store.vendor_keys import Held
from pushd.web.answer import JSON, Answer
from pushd.web.auth import Authenticator
from pushd.web.caller import Caller
from pushd.web.deadlines import Deadlines
from pushd.web.incoming import Incoming
from pushd.web.router import Endpoint, Router

if TYPE_CHECKING:
    from pushd.commands.context import Context
    from pushd.store.vendor_keys import VendorKeyStore

_PARTS = "\x00"
_BODIES = frozenset((JSON, "text/json", "text/plain", "application/octet-stream", "application/x-www-form-urlencoded"))
"""What JSON comes as: curl's -d says that it is a form, and browsers say that a text is one."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a vendor's API that pushd answers. Its handler parses, asks a command, and renders."""

    method: str
    path: str
    """With parameters like `{id}`; `incoming.path_values` has their raw values."""
    summary: str
    """For the page of the dialect."""
    handler: Callable[[Incoming], Awaitable[Answer]]
    recurs: bool = False
    """Whether the same few paths come again and again, though it has parameters."""


class Dialect(ABC):
    """A vendor's API. It adds no behaviour: what it does, commands do."""

    name: ClassVar[DialectName]
    hosts: ClassVar[frozenset[str]] = frozenset()
    """Host names that the vendor's SDKs have built in: what comes for them is this dialect's, whatever its path."""

    def __init__(self, context: Context, keys: DialectKeys) -> None:
        self.context = context
        self.keys = keys
        self.router = Router()
        self._deadlines = Deadlines(context.config.http.request_timeout_s)
        for call in self.calls():
            self.router.add(call.method, call.path, self._endpoint(call), brief=True, recurs=call.recurs)

    @abstractmethod
    def calls(self) -> tuple[Call, ...]:
        """Every call, in the order of the vendor's documents; the page of the dialect is made from them."""

    @abstractmethod
    def owns_path(self, path: str) -> bool:
        """Whether a raw path is the vendor's on a host that names nobody."""

    @abstractmethod
    def problem(self, error: PushdError, incoming: Incoming) -> Answer:
        """The answer that tells of an error in the vendor's shape."""

    def owns(self, host: str, path: str) -> bool:
        """Whether a request is the dialect's."""
        return host in self.hosts or self.owns_path(path)

    async def body(self, incoming: Incoming, bytes_max: int) -> bytes:
        """The octets of a body of JSON, whatever it says that it is. Errors as those of `Incoming.body`."""
        timeout_s = self.context.config.http.body_timeout_s
        return await incoming.body(types=_BODIES, bytes_max=bytes_max, timeout_s=timeout_s)

    def _endpoint(self, call: Call) -> Endpoint:
        async def endpoint(incoming: Incoming) -> Answer:
            return await self._deadlines.within(call.handler(incoming))

        return endpoint


class DialectKeys:
    """The keys of dialects, with the brake on guessing that all keys have."""

    def __init__(self, store: VendorKeyStore, failures_max: int) -> None:
        self._store = store
        self._auth = Authenticator(_Keys(store), failures_max)
        self._public = Authenticator(_Identities(store), failures_max)

    async def caller(
        self, dialect: DialectName, identity: str, secret: str, incoming: Incoming, *, server: bool = True
    ) -> Caller:
        """Who sent this pair. UnauthorizedError, TooManyRequestsError; ForbiddenError where only servers may."""
        known = await self._auth.known(_PARTS.join((dialect, identity, secret)), incoming)
        if server and known.role is not Role.SERVER:
            raise ForbiddenError("This key is for apps, and may not do that")
        return Caller(known, known.app_id)

    async def app(self, dialect: DialectName, identity: str, incoming: Incoming) -> int:
        """The app of an identity, which pages show to everybody. UnauthorizedError, TooManyRequestsError."""
        key = await self._public.known(_PARTS.join((dialect, identity)), incoming)
        assert key.app_id is not None
        return key.app_id

    async def signers(self, dialect: DialectName, identity: str, incoming: Incoming) -> tuple[Held, ...]:
        """The keys of an identity, of which one may have signed a request; `secret` has what they sign with.

        None where nobody has it; TooManyRequestsError.
        """
        try:
            await self._public.known(_PARTS.join((dialect, identity)), incoming)
        except UnauthorizedError:
            return ()
        return await self._store.find(dialect, identity)

    @staticmethod
    def secret(context: Context, held: Held) -> str:
        """What requests of this key are signed with."""
        return opened(context, held)


class _Keys:
    """Vendor keys as an authenticator knows keys: by one text."""

    def __init__(self, store: VendorKeyStore) -> None:
        self._store = store

    async def authenticate(self, secret: str, digest: bytes) -> Key | None:
        """The key of dialect, identity and secret."""
        known = self._store.proven(digest)
        if known is not None:
            return known
        dialect, identity, own = secret.split(_PARTS, 2)
        return await self._store.prove(DialectName(dialect), identity, own, digest)


class _Identities:
    """The public halves of vendor keys, for what needs no more than these."""

    def __init__(self, store: VendorKeyStore) -> None:
        self._store = store

    async def authenticate(self, secret: str, digest: bytes) -> Key | None:  # noqa: ARG002  # the contract's
        """The newest key of dialect and identity."""
        dialect, identity = secret.split(_PARTS, 1)
        found = await self._store.find(DialectName(dialect), identity) if identity else ()
        return found[0].as_key() if found else None
