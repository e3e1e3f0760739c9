"""Images of devices and users as the server packs them, unpacked into columns without an object per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from pushd.model.rows import DeviceRows, Postings, UserRows

T = TypeVar("T")
INT4 = np.dtype(">i4")
INT2 = np.dtype(">i2")

DEVICE_COLUMNS = """string_agg(int4send(d.id), '') AS ids, string_agg(int4send(d.revision), '') AS revisions,
    string_agg(int4send(d.route_id), '') AS routes, string_agg(int4send(coalesce(d.user_id, 0)), '') AS users,
    string_agg(int2send(d.flags), '') AS flags,
    string_agg(int2send(coalesce(length(d.token), 0)::int2), '') AS token_bytes, string_agg(d.token, '') AS tokens,
    string_agg(int2send(coalesce(cardinality(d.labels), 0)::int2), '') AS label_counts,
    string_agg(array_send(d.labels), '') AS labels, string_agg(int4send(d.install), '') AS installs,
    string_agg(int4send(d.profile_id), '') AS profiles, string_agg(int4send(d.first_seen), '') AS first_seen,
    string_agg(int4send(d.last_seen), '') AS last_seen,
    string_agg(int2send(coalesce(octet_length(d.alias), 0)::int2), '') AS alias_bytes,
    string_agg(convert_to(d.alias, 'UTF8'), '') AS aliases"""
"""What `unpack_devices` reads, aggregated over rows `d` of devices; the function device_images says the same."""

USER_COLUMNS = """string_agg(int4send(u.id), '') AS ids, string_agg(int4send(u.revision), '') AS revisions,
    string_agg(int4send(u.app_id), '') AS apps, string_agg(boolsend(u.deleted_at IS NOT NULL), '') AS deleted,
    array_agg(u.external_id) AS external_ids,
    string_agg(int2send(coalesce(cardinality(u.tags || u.channels), 0)::int2), '') AS label_counts,
    string_agg(array_send(u.tags || u.channels), '') AS labels,
    string_agg(int2send(coalesce(octet_length(u.email), 0)::int2), '') AS email_bytes,
    string_agg(convert_to(u.email, 'UTF8'), '') AS emails,
    string_agg(int4send(coalesce(octet_length(u.attributes), 0)), '') AS attribute_bytes,
    string_agg(convert_to(u.attributes, 'UTF8'), '') AS attributes,
    string_agg(int4send(coalesce(u.quiet, 0)), '') AS quiet"""
"""What `unpack_users` reads, aggregated over rows `u` of users; the function user_images says the same."""

DEVICE_KEYS = (
    *("ids", "revisions", "routes", "users", "flags", "token_bytes", "tokens", "label_counts", "labels"),
    *("installs", "profiles", "first_seen", "last_seen", "alias_bytes", "aliases"),
)
USER_KEYS = (
    *("ids", "revisions", "apps", "deleted", "external_ids", "label_counts", "labels"),
    *("email_bytes", "emails", "attribute_bytes", "attributes", "quiet"),
)

_ARRAY_HEADER_BYTES = 20
"""Of an int4[] on the wire: dimensions, flags, type, length, lower bound; each element has 4 bytes of length."""


def int4s(packed: bytes | None) -> NDArray[np.int32]:
    """A column of four-byte integers."""
    return np.frombuffer(packed or b"", INT4).astype(np.int32)


def int2s(packed: bytes | None) -> NDArray[np.int16]:
    """A column of two-byte integers."""
    return np.frombuffer(packed or b"", INT2).astype(np.int16)


def unpack_devices(packed: Any) -> DeviceRows:
    """Device images, without the names of their tags and the routes behind their route ids."""
    return DeviceRows(
        ids=int4s(packed["ids"]).astype(np.uint32),
        revisions=int4s(packed["revisions"]),
        route_ids=int4s(packed["routes"]),
        user_ids=int4s(packed["users"]).astype(np.uint32),
        flags=int2s(packed["flags"]).astype(np.uint8),
        tokens=_tokens(int2s(packed["token_bytes"]), packed["tokens"] or b""),
        tags=_postings(int2s(packed["label_counts"]), packed["labels"] or b""),
        installs=int4s(packed["installs"]),
        profile_ids=int4s(packed["profiles"]),
        first_seen=int4s(packed["first_seen"]).astype(np.uint32),
        last_seen=int4s(packed["last_seen"]).astype(np.uint32),
        aliases=_texts(int2s(packed["alias_bytes"]), packed["aliases"]),
    )


def unpack_users(packed: Any) -> UserRows:
    """User images, without the names of their tags."""
    count = len(packed["external_ids"] or [])
    attributes = _texts(int4s(packed["attribute_bytes"]), packed["attributes"])
    return UserRows(
        ids=int4s(packed["ids"]).astype(np.uint32),
        revisions=int4s(packed["revisions"]),
        app_ids=int4s(packed["apps"]),
        external_ids=packed["external_ids"] or [],
        deleted=np.frombuffer(packed["deleted"] or b"", np.bool_).copy(),
        tags=_postings(int2s(packed["label_counts"] or bytes(2 * count)), packed["labels"] or b""),
        emails=_texts(int2s(packed["email_bytes"]), packed["emails"]),
        attributes={row: orjson.loads(text) for row, text in attributes.items()},
        quiet=int4s(packed["quiet"]).astype(np.uint32),
    )


def join_devices(rows: Sequence[DeviceRows]) -> DeviceRows:
    """Several images one after another as one."""
    if len(rows) == 1:
        return rows[0]
    width = max((each.tokens.dtype.itemsize for each in rows), default=1)
    return DeviceRows(
        ids=_join([each.ids for each in rows], np.uint32),
        revisions=_join([each.revisions for each in rows], np.int32),
        route_ids=_join([each.route_ids for each in rows], np.int32),
        user_ids=_join([each.user_ids for each in rows], np.uint32),
        flags=_join([each.flags for each in rows], np.uint8),
        tokens=_join([each.tokens.astype(f"S{width}") for each in rows], f"S{width}"),
        tags=_join_postings([each.tags for each in rows]),
        installs=_join([each.installs for each in rows], np.int32),
        profile_ids=_join([each.profile_ids for each in rows], np.int32),
        first_seen=_join([each.first_seen for each in rows], np.uint32),
        last_seen=_join([each.last_seen for each in rows], np.uint32),
        aliases=_join_rows([each.aliases for each in rows], [len(each) for each in rows]),
        routes={key: route for each in rows for key, route in each.routes.items()},
        profiles={key: profile for each in rows for key, profile in each.profiles.items()},
    )


def join_users(rows: Sequence[UserRows]) -> UserRows:
    """Several images one after another as one."""
    if len(rows) == 1:
        return rows[0]
    return UserRows(
        ids=_join([each.ids for each in rows], np.uint32),
        revisions=_join([each.revisions for each in rows], np.int32),
        app_ids=_join([each.app_ids for each in rows], np.int32),
        external_ids=[name for each in rows for name in each.external_ids],
        deleted=_join([each.deleted for each in rows], np.bool_),
        tags=_join_postings([each.tags for each in rows]),
        emails=_join_rows([each.emails for each in rows], [len(each) for each in rows]),
        attributes=_join_rows([each.attributes for each in rows], [len(each) for each in rows]),
        quiet=_join([each.quiet for each in rows], np.uint32),
    )


def split_by_width(rows: DeviceRows, widths: Sequence[int] = (128, 512)) -> list[DeviceRows]:
    """The rows in groups of like token length, so that one long token does not pad thousands of short ones."""
    if rows.tokens.dtype.itemsize <= widths[0]:
        return [rows]
    lengths = np.char.str_len(rows.tokens)
    bounds = [-1, *widths, rows.tokens.dtype.itemsize]
    groups = []
    for low, high in pairwise(bounds):
        chosen = np.flatnonzero((lengths > low) & (lengths <= high))
        if len(chosen):
            groups.append(_choose(rows, chosen, int(lengths[chosen].max(initial=1)) or 1))
    return groups


def _choose(rows: DeviceRows, chosen: NDArray[np.intp], width: int) -> DeviceRows:
    counts = np.diff(rows.tags.offsets)[chosen]
    offsets = np.zeros(len(chosen) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    places = np.repeat(rows.tags.offsets[:-1][chosen] - offsets[:-1], counts) + np.arange(offsets[-1])
    return DeviceRows(
        ids=rows.ids[chosen],
        revisions=rows.revisions[chosen],
        route_ids=rows.route_ids[chosen],
        user_ids=rows.user_ids[chosen],
        flags=rows.flags[chosen],
        tokens=rows.tokens[chosen].astype(f"S{width}"),
        tags=Postings(offsets=offsets, ids=rows.tags.ids[places], names=rows.tags.names),
        installs=rows.installs[chosen],
        profile_ids=rows.profile_ids[chosen],
        first_seen=rows.first_seen[chosen],
        last_seen=rows.last_seen[chosen],
        aliases={at: rows.aliases[row] for at, row in enumerate(chosen.tolist()) if row in rows.aliases}
        if rows.aliases
        else {},
        routes=rows.routes,
        profiles=rows.profiles,
    )


def _tokens(lengths: NDArray[np.int16], packed: bytes) -> NDArray[np.bytes_]:
    """Concatenated tokens as fixed-width rows."""
    width = max(1, int(lengths.max(initial=0)))
    if len(lengths) and int(lengths.min()) == width:
        return np.frombuffer(packed, f"S{width}").copy()
    matrix = np.zeros((len(lengths), width), np.uint8)
    if len(packed) == width * int(np.count_nonzero(lengths)):
        matrix[lengths > 0] = np.frombuffer(packed, np.uint8).reshape(-1, width)
    else:
        matrix[np.arange(width) < lengths[:, None]] = np.frombuffer(packed, np.uint8)
    return matrix.reshape(-1).view(f"S{width}")


def _texts(lengths: NDArray[np.int16] | NDArray[np.int32], packed: bytes | None) -> dict[int, str]:
    """Concatenated texts by row, where there is one."""
    rows = np.flatnonzero(lengths)
    ends = np.cumsum(lengths[rows], dtype=np.int64).tolist()
    whole = packed or b""
    return {
        row: whole[end - size : end].decode()
        for row, size, end in zip(rows.tolist(), lengths[rows].tolist(), ends, strict=True)
    }


def _postings(counts: NDArray[np.int16], packed: bytes) -> Postings:
    """Concatenated wire images of int4[], absent where the count is 0, as compressed sparse rows."""
    offsets = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    total = int(offsets[-1])
    if not total:
        return Postings(offsets=offsets, ids=np.empty(0, np.int32), names={})
    # In words of four bytes: each array has five of header, then a length and a value per element.
    words = np.frombuffer(packed, INT4)
    filled = counts[counts > 0].astype(np.int64)
    begins = np.cumsum(filled * 2 + _ARRAY_HEADER_BYTES // 4) - filled * 2
    firsts = np.cumsum(filled) - filled
    places = np.repeat(begins - 2 * firsts, filled) + 2 * np.arange(total) + 1
    return Postings(offsets=offsets, ids=words[places].astype(np.int32), names={})


def _join_postings(parts: Sequence[Postings]) -> Postings:
    counts = _join([np.diff(each.offsets) for each in parts], np.int32)
    offsets = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    names = {key: name for each in parts for key, name in each.names.items()}
    return Postings(offsets=offsets, ids=_join([each.ids for each in parts], np.int32), names=names)


def _join_rows(parts: Sequence[Mapping[int, T]], sizes: Sequence[int]) -> dict[int, T]:
    starts = np.concatenate(([0], np.cumsum(sizes)))[: len(parts)].tolist()
    return {start + row: value for start, part in zip(starts, parts, strict=True) for row, value in part.items()}


def _join(columns: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate(columns) if columns else np.empty(0, dtype)
