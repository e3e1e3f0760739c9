"""The reasons of Apple's table, each with its status."""

from __future__ import annotations

from typing import NamedTuple

STATUSES: dict[str, int] = {
    "BadCollapseId": 400,
    "BadDeviceToken": 400,
    "BadExpirationDate": 400,
    "BadMessageId": 400,
    "BadPriority": 400,
    "BadRequestPayload": 400,
    "BadTopic": 400,
    "DeviceTokenNotForTopic": 400,
    "DuplicateHeaders": 400,
    "IdleTimeout": 400,
    "InvalidPushType": 400,
    "MissingDeviceToken": 400,
    "MissingTopic": 400,
    "PayloadEmpty": 400,
    "TopicDisallowed": 400,
    "BadCertificate": 403,
    "BadCertificateEnvironment": 403,
    "BadEnvironmentKeyIdInToken": 403,
    "ExpiredProviderToken": 403,
    "Forbidden": 403,
    "InvalidProviderToken": 403,
    "MissingProviderToken": 403,
    "UnrelatedKeyIdInToken": 403,
    "BadPath": 404,
    "MethodNotAllowed": 405,
    "ExpiredToken": 410,
    "Unregistered": 410,
    "PayloadTooLarge": 413,
    "TooManyProviderTokenUpdates": 429,
    "TooManyRequests": 429,
    "InternalServerError": 500,
    "ServiceUnavailable": 503,
    "Shutdown": 503,
    # Of broadcasts and channel management.
    "BadChannelId": 400,
    "BadRequestParams": 400,
    "CannotCreateChannelConfig": 400,
    "ChannelNotRegistered": 400,
    "FeatureNotEnabled": 400,
    "MissingChannelId": 400,
    "MissingPushType": 400,
    "TopicMismatch": 403,
    "Service Unavailable": 503,
}
"""Status of every reason that Apple documents."""


class Rejection(NamedTuple):
    """A refusal as Apple words it."""

    status: int
    reason: str


def rejection(reason: str) -> Rejection:
    """The refusal with this reason."""
    return Rejection(STATUSES[reason], reason)
