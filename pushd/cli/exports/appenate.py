"""Appenate: users, as the website exports them and as its API lists them; devices are its app's own."""

from __future__ import annotations

from pushd.cli.exports.fields import Said
from pushd.cli.exports.records import Service

ID = "appenate:"
"""Before the id of a user without an external one, so that it is nobody's external id."""


def _read(said: Said) -> None:
    """Users without an external id are known by that of the service."""
    if not said.text("user_id") and (number := said.text("_number")):
        said.values["user_id"] = f"{ID}{number}"


SERVICE = Service(
    name="appenate",
    columns={
        "user_id": ("ExternalId", "UserExternalId", "External Identifier"),
        "_number": ("UserId", "Id"),
        "email": ("Email", "UserEmail", "Email Address"),
        "user_tags": ("Groups", "UserGroups"),
    },
    read=_read,
    attributes_of_users=True,
    not_attributes=frozenset(("password", "integrationkey", "companyid")),
)
