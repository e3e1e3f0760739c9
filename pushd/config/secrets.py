"""Where secrets are read from: files of systemd's credentials directory, never the environment or arguments."""

from __future__ import annotations

from msgspec import Struct


class SecretsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Secret files."""

    master_key_file: str = ""
    """32 random bytes, base64 or hex, that encrypt gateway credentials in the store. Empty: `master_key` of the
    credentials directory, else a file of mode 0600 that is made once in `store.data_dir`."""
