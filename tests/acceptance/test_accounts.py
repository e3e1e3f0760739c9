"""Accounts and sessions: signed up, logged in, gone on with, ended with their user."""

from __future__ import annotations

import asyncio

import pytest

from pushd.commands import accounts, users
from pushd.errors import ConflictError, InvalidRequestError, PushdError, TooManyRequestsError, UnauthorizedError
from pushd.model.account import AccountQuery
from pushd.model.vendor_key import DialectName

pytestmark = pytest.mark.asyncio(loop_scope="package")
LIVES_S = 7_200


@pytest.fixture
def context(world):
    return world.daemon.context


async def signed_up(context, tenant, **more):
    given = {"external_id": "anna", "login": "Anna", "email": None, "password": "secret word"} | more
    return await accounts.sign_up(context, tenant.app_id, **given)


async def test_who_signed_up_logs_in_by_login_and_address_in_any_case(context, tenant):
    made = await signed_up(context, tenant, email="Anna@Example.com", tags=["vip"], fields={"full_name": "Anna"})
    assert (made.login, made.email, made.fields) == ("anna", "anna@example.com", {"full_name": "Anna"})
    for names in ({"login": "ANNA", "email": None}, {"login": None, "email": "anna@EXAMPLE.com"}):
        assert await accounts.log_in(context, tenant.app_id, password="secret word", **names) == made
    user = await users.get(context, tenant.app_id, "anna")
    assert (user.id, user.email, user.tags) == (made.user_id, "Anna@Example.com", ["vip"])


async def test_wrong_words_and_unknown_names_are_told_the_same(context, tenant):
    await signed_up(context, tenant)
    for login, password in (
        ("anna", "wrong"),
        ("ben", "secret word"),
        ("an\x00na", "x"),
        ("anna", ""),
        ("", "x"),
        ("anna", "x" * 10_000),
    ):
        with pytest.raises(UnauthorizedError) as told:
            await accounts.log_in(context, tenant.app_id, login=login, email=None, password=password)
        assert told.value.detail == "Name and password do not belong together"


async def test_who_guesses_is_stopped_by_account_and_learns_nothing(context, tenant, monkeypatch):
    made = await signed_up(context, tenant, email="anna@example.com")
    now = context.clock.monotonic()
    monkeypatch.setattr(context.clock, "monotonic", lambda: now)

    async def told(password, login="anna", email=None):
        try:
            return await accounts.log_in(context, tenant.app_id, login=login, email=email, password=password)
        except PushdError as error:
            return type(error)

    most = context.config.dialects.wrong_passwords_max
    # As many at once as there are: no more are tried than so many, by either name of the account.
    answers = await asyncio.gather(*(told(f"guess {n}") for n in range(most - 3)))
    answers += await asyncio.gather(*(told(f"guess {n}", None, "ANNA@example.com") for n in range(6)))
    assert answers.count(UnauthorizedError) == most
    assert answers.count(TooManyRequestsError) == 3
    assert await told("secret word") is TooManyRequestsError
    # For names that nobody has it looks the same, and is counted apart.
    nobody = [await told("x", "nobody") for _ in range(most + 1)]
    assert nobody == [UnauthorizedError] * most + [TooManyRequestsError]
    # The right one is free again with the next try, and never counted itself.
    now += 0.99 * 3600 / context.config.dialects.wrong_passwords_per_hour_max
    assert [await told("secret word") for _ in range(3)] == [made] * 3
    assert [await told("wrong"), await told("wrong")] == [UnauthorizedError, TooManyRequestsError]


async def test_many_who_are_right_at_once_are_not_held_for_guessers(context, tenant):
    await signed_up(context, tenant)
    both = [
        accounts.log_in(context, tenant.app_id, login="anna", email=None, password="secret word") for _ in range(30)
    ]
    done = await asyncio.gather(*both, return_exceptions=True)
    refused = [each for each in done if isinstance(each, TooManyRequestsError)]
    assert len(refused) <= 20
    assert {each.retry_after_s for each in refused} <= {1.0}
    await accounts.log_in(context, tenant.app_id, login="anna", email=None, password="secret word")


async def test_another_app_has_other_accounts(context, tenant, world):
    await signed_up(context, tenant)
    other = await world.tenant()
    with pytest.raises(UnauthorizedError):
        await accounts.log_in(context, other.app_id, login="anna", email=None, password="secret word")
    await accounts.sign_up(context, other.app_id, external_id="anna", login="anna", email=None, password="another")


async def test_a_name_is_taken_once(context, tenant):
    await signed_up(context, tenant, email="a@example.com")
    for again in ({"external_id": "ben"}, {"external_id": "cleo", "login": "cleo", "email": "A@example.com"}, {}):
        with pytest.raises(ConflictError):
            await signed_up(context, tenant, **again)
    # Of two that come at once one is.
    both = [signed_up(context, tenant, external_id=f"d{n}", login="dora") for n in range(2)]
    done = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(isinstance(each, ConflictError) for each in done) == [False, True]


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"login": None}, "/login"),
        ({"login": "x" * 255}, "/login"),
        ({"password": ""}, "/password"),
        ({"password": "x" * 257}, "/password"),
        ({"fields": {"a": "x" * 20_000}}, "/fields"),
        ({"external_id": ""}, "/user"),
        ({"tags": [""]}, "/user"),
    ],
)
async def test_what_cannot_be_is_refused_at_its_field(context, tenant, wrong, where):
    with pytest.raises(InvalidRequestError) as told:
        await signed_up(context, tenant, **wrong)
    assert [fault.pointer for fault in told.value.faults] == [where]


async def test_an_account_changes(context, tenant):
    made = await signed_up(context, tenant, fields={"a": 1})
    changed = await accounts.change(
        context, made, email="new@example.com", password="new word", tags=["b"], fields={"b": 2}
    )
    assert (changed.login, changed.email, changed.fields) == ("anna", "new@example.com", {"a": 1, "b": 2})
    await accounts.log_in(context, tenant.app_id, login="anna", email=None, password="new word")
    with pytest.raises(UnauthorizedError):
        await accounts.log_in(context, tenant.app_id, login="anna", email=None, password="secret word")
    assert (await users.get(context, tenant.app_id, "anna")).tags == ["b"]


async def test_of_changes_at_once_each_is_there(context, tenant):
    """Also where one takes as long as a password does to be sealed."""
    made = await signed_up(context, tenant, fields={"a": 1})
    await asyncio.gather(
        accounts.change(context, made, password="new word", fields={"b": 2}),
        accounts.change(context, made, email="new@example.com"),
        accounts.change(context, made, fields={"a": 2}),
        *(accounts.change(context, made, fields={f"c{number}": number}) for number in range(3)),
    )
    now = await accounts.log_in(context, tenant.app_id, login="anna", email=None, password="new word")
    assert (now.email, now.fields) == ("new@example.com", {"a": 2, "b": 2, "c0": 0, "c1": 1, "c2": 2})


async def test_who_looks_for_accounts_has_their_users_looked_up_only_to_be_told_apart(context, tenant, monkeypatch):
    await signed_up(context, tenant)
    counts, fetchval = [], context.store.database.fetchval

    async def counted(query, *args, **options):
        counts.append(query)
        return await fetchval(query, *args, **options)

    monkeypatch.setattr(context.store.database, "fetchval", counted)
    for query in (AccountQuery(), AccountQuery(logins=["anna"]), AccountQuery(external_ids=["anna"])):
        assert (await accounts.find(context, tenant.app_id, query, offset=0, limit=1)).total == 1
    assert ["users" in each for each in counts if "count(*)" in each] == [False, False, True]


async def test_attributes_are_the_users_and_those_that_are_not_named_stay(context, tenant):
    made = await signed_up(context, tenant, attributes={"plan": "pro", "age": 30})
    await accounts.change(context, made, attributes={"age": 31, "city": "Kyiv"})
    user = await users.get(context, tenant.app_id, "anna")
    assert user.attributes == {"plan": "pro", "age": 31, "city": "Kyiv"}
    with pytest.raises(InvalidRequestError):
        await accounts.change(context, made, attributes={"x" * 65: 1})
    with pytest.raises(InvalidRequestError):
        await signed_up(context, tenant, external_id="ben", login="ben", attributes={"x" * 65: 1})


async def test_a_session_lives_by_use_and_belongs_to_its_dialect(context, tenant, world):
    made = await signed_up(context, tenant)
    opened, token = await accounts.open_session(
        context, tenant.app_id, DialectName.CONNECTYCUBE, None, token_bytes=20, lives_s=LIVES_S
    )
    assert opened.user_id is None
    found = await accounts.session(context, DialectName.CONNECTYCUBE, token, lives_s=LIVES_S)
    assert found == opened
    assert await accounts.session(context, DialectName.BACKENDLESS, token, lives_s=LIVES_S) is None
    assert (await accounts.log_in_session(context, opened, made.user_id)).user_id == made.user_id
    store, now = world.daemon.store.sessions, context.clock.now()
    # Used near its end it lives on; a while after its last use it is over.
    assert await store.find(token, lives_s=LIVES_S, now=now + LIVES_S - 10)
    assert await store.find(token, lives_s=LIVES_S, now=now + 2 * LIVES_S - 20)
    assert await store.find(token, lives_s=LIVES_S, now=now + 4 * LIVES_S) is None
    assert not await store.purge(now + 4 * LIVES_S)
    async with world.daemon.store.database.connection() as connection:
        assert not await connection.fetchval("SELECT count(*) FROM sessions WHERE app_id = $1", tenant.app_id)


async def test_a_closed_session_is_over(context, tenant):
    _, token = await accounts.open_session(
        context, tenant.app_id, DialectName.BACKENDLESS, None, token_bytes=20, lives_s=LIVES_S
    )
    await accounts.close_session(context, token)
    assert await accounts.session(context, DialectName.BACKENDLESS, token, lives_s=LIVES_S) is None


async def test_who_is_deleted_neither_logs_in_nor_goes_on(context, tenant):
    made = await signed_up(context, tenant)
    _, token = await accounts.open_session(
        context, tenant.app_id, DialectName.BACKENDLESS, made.user_id, token_bytes=20, lives_s=LIVES_S
    )
    await users.delete(context, tenant.app_id, "anna")
    with pytest.raises(UnauthorizedError):
        await accounts.log_in(context, tenant.app_id, login="anna", email=None, password="secret word")
    assert await accounts.session(context, DialectName.BACKENDLESS, token, lives_s=LIVES_S) is None
    await signed_up(context, tenant)


async def test_words_are_kept_as_scrypt_makes_them(context, tenant, world):
    await signed_up(context, tenant, password="the very words")
    async with world.daemon.store.database.connection() as connection:
        kept = await connection.fetchval("SELECT password FROM accounts WHERE app_id = $1", tenant.app_id)
    assert b"very" not in kept
    assert len(kept) == 61
