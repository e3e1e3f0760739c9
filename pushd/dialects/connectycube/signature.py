"""ConnectyCube's signatures: which key opened a session, by what of it is known."""

from __future__ import annotations

import hmac
from typing import Any

from pushd.dialect import Dialect
from pushd.dialects.connectycube import wire
from pushd.errors import InvalidRequestError, UnauthorizedError
from pushd.model.app import Role
from pushd.model.vendor_key import VendorKey
from pushd.web.incoming import Incoming

HASHES = {40: "sha1", 64: "sha256"}
"""Of a signature, by its length."""


async def key_of(cube: Dialect, given: dict[str, Any], incoming: Incoming) -> VendorKey:
    """The key that opens a session.

    A signature tells which of an auth key's secrets is known; without one it is taken for an app's, unless the auth
    key has no secrets for apps. UnauthorizedError, InvalidRequestError, TooManyRequestsError.
    """
    held = await cube.keys.signers(wire.NAME, wire.text(given.get("auth_key"))[:256], incoming)
    if not held:
        raise UnauthorizedError("Unauthorized", extra={"errors": ["Unauthorized"]})
    if not given.get("signature"):
        return next((each.key for each in held if each.key.role is Role.DEVICE), held[0].key)
    signature = wire.text(given["signature"]).lower()
    digest = HASHES.get(len(signature), "")
    lines = sorted(wire.lines({name: value for name, value in given.items() if name != "signature"}))
    said = "&".join(lines).encode("utf-8", "surrogatepass")
    for each in held if digest and signature.isascii() else ():
        right = hmac.new(cube.keys.secret(cube.context, each).encode(), said, digest).hexdigest()
        if hmac.compare_digest(right, signature):
            return each.key
    raise InvalidRequestError("Unexpected signature", extra={"errors": ["Unexpected signature"]})
