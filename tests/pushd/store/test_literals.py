"""Columns as text, read back by PostgreSQL as what they were."""

import asyncpg
import pytest

from pushd.store.literals import documents, microseconds, moments, numbers


@pytest.mark.asyncio
async def test_columns_arrive_as_they_were(dsn):
    whole = [0, -1, 2**31 - 1, 2**62]
    times = [1_700_000_000.123456, None, 0.0, 1e-06, 1_700_000_000.123456, 4_102_444_800.9999995]
    texts = ['{"a":"\\u001f,}{\\""}', '{"ä":"🎉"}', "{}"]
    connection = await asyncpg.connect(dsn)
    try:
        row = await connection.fetchrow(
            "SELECT $1::text::bigint[], $2::text::float8[], $3::text::boolean[], string_to_array($4, chr(31)),"
            " $5::text::int[]",
            *(numbers(whole), moments(times), numbers([True, False])),
            *(documents([text.encode() for text in texts]), numbers([])),
        )
    finally:
        await connection.close()
    kept = [None if each is None else microseconds(each) for each in times]
    assert [*row] == [whole, kept, [True, False], texts, []]
