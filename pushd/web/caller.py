"""Who is asking: the key that a request came with, and the app that it acts on."""

from __future__ import annotations

from dataclasses import dataclass

from pushd.model.app import Key, Role


@dataclass(frozen=True, slots=True)
class Caller:
    """A known key and its app: server and device keys act on their own, an admin key names one by `Pushd-App`."""

    key: Key
    app_id: int | None
    """None: the whole installation."""

    @property
    def app(self) -> int:
        """The app id, where the operation acts on an app (its scope has made sure that there is one)."""
        assert self.app_id is not None
        return self.app_id

    @property
    def role(self) -> Role:
        """The key's role."""
        return self.key.role
