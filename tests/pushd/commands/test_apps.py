"""Apps: what belongs to one goes with it, at once."""

from dataclasses import replace

import pytest

from pushd.commands import apps
from pushd.errors import NotFoundError
from pushd.model.app import Role

pytestmark = pytest.mark.asyncio(loop_scope="package")


class NoKeyring:
    """A keyring without credentials."""

    async def reload(self, app_ids=None):
        return None


async def test_the_keys_of_a_deleted_app_are_good_for_nothing_once_that_is_answered(world):
    context = replace(world.context, keyring=NoKeyring())
    _, secret = await context.store.keys.create(world.app.id, Role.SERVER, "server")
    assert await context.store.keys.authenticate(secret) is not None
    await apps.delete(context, world.app.id)
    assert await context.store.keys.authenticate(secret) is None
    with pytest.raises(NotFoundError):
        await apps.get(context, world.app.id)
