"""ConnectyCube's users and sessions beside log-in: found by what they are called, listed, ended, deleted."""

from __future__ import annotations

import pytest
import pytest_asyncio

from tests.contract.cube import NUMBERS, PASSWORD, vendors

pytestmark = pytest.mark.asyncio(loop_scope="package")
NOT_FOUND = (404, {"errors": {"base": ["User not found"]}})


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def behind():
    async with vendors() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def app(behind):
    """An app with three users: a doctor, a nurse, and one with nothing but a name."""
    app = await behind.app(client_user_search=True)
    number = next(NUMBERS)
    said = ({"tag_list": ["Doctor", "x"], "external_user_id": "77"}, {"tag_list": "nurse", "phone": "+123"}, {})
    app.people = [
        await app.user(login=f"p{number}_{at}", email=f"p{number}_{at}@example.com", full_name=f"P {at}", **more)
        for at, more in enumerate(said)
    ]
    return app


def found(answer):
    status, told = answer
    assert status == 200, told
    assert set(told) == {"limit", "skip", "total_entries", "items"}
    return told["total_entries"], [user["id"] for user in told["items"]]


@pytest.mark.parametrize("end", ["", ".json"])
async def test_users_are_found_by_what_they_have(app, end):
    one, two, three = app.people
    path, ids = f"/users/v2{end}", [each.id for each in app.people]
    for query, whom in (
        (f"login={one.told['user']['login'].upper()}", [one]),
        (
            f"login[in][]={one.told['user']['login']}&login[in][]={three.told['user']['login']}&login[in][]=x",
            [one, three],
        ),
        (f"email={two.told['user']['email']}", [two]),
        (f"email[in]={two.told['user']['email']},{one.told['user']['email']}", [one, two]),
        (f"id[]={ids[2]}&id[]={ids[0]}", [one, three]),
        (f"id={ids[0]},{ids[1]},999999999,-5,99999999999", [one, two]),
        ("external_user_id=77", [one]),
        ("user_tags=doctor", [one]),
        ("user_tags[in][]=DOCTOR&user_tags[in][]=Nurse", [one, two]),
        (f"user_tags=nurse&id={ids[0]}", []),
        ("user_tags=unknown", []),
        ("", [one, two, three]),
    ):
        assert found(await three("GET", f"{path}?{query}")) == (len(whom), [each.id for each in whom]), query
    assert found(await three("GET", f"{path}?sort_desc=id&limit=2")) == (3, [ids[2], ids[1]])
    assert found(await three("GET", f"{path}?sort_asc=created_at&limit=2&offset=2")) == (3, [ids[2]])


async def test_who_is_looked_up_one_by_one(app):
    one, two, _ = app.people
    user = one.told["user"]
    for path in (f"/users/by_login?login={user['login']}", f"/users/by_email.json?email={user['email']}"):
        status, told = await one("GET", path)
        assert (status, told["user"]) == (200, user)
    for path in ("/users/external/77", "/users/external/77.json"):
        status, told = await two("GET", path)
        # Others are told neither how to reach somebody, nor more than the vendor's SDKs show.
        assert (status, told["user"]) == (200, user | {"email": None})
    assert (await one("GET", f"/users/v2?id={two.id}"))[1]["items"][0]["phone"] is None
    assert (await two("GET", f"/users/v2?id={two.id}"))[1]["items"][0]["phone"] == "+123"
    for path in ("/users/by_login?login=nobody", "/users/by_email?email=x@example.com", "/users/external/78"):
        assert await one("GET", path) == NOT_FOUND


async def test_users_are_listed_in_pages(app):
    one, two, three = app.people
    status, told = await one("GET", "/users.json?page=1&per_page=2")
    assert status == 200
    assert [each["user"]["id"] for each in told.pop("items")] == [three.id, two.id]
    assert told == {"current_page": 1, "per_page": 2, "total_entries": 3}
    query = f"filter[]=number+id+in+{one.id},{two.id}&order=asc+date+created_at"
    told = (await one("GET", f"/users?{query}"))[1]
    assert [each["user"]["id"] for each in told["items"]] == [one.id, two.id]
    assert (told["per_page"], told["total_entries"]) == (10, 2)
    told = (await one("GET", "/users/by_tags?tags=nurse,doctor&per_page=1&page=2"))[1]
    assert ([each["user"]["id"] for each in told["items"]], told["total_entries"]) == ([one.id], 2)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/users/v2?full_name=a", "full_name"),
        ("/users/v2?login[start_with]=a", "login"),
        ("/users/v2?login=", "login"),
        ("/users/v2?id=a", "id"),
        ("/users/v2?sort_asc=full_name", "order"),
        ("/users/v2?offset=99999999999", "offset"),
        ("/users/v2?limit[]=1", "limit"),
        ("/users?filter[]=string+login+ne+a", "filter"),
        ("/users?filter[]=number+last_request_at+in+1", "last_request_at"),
        ("/users?order=asc+string+login", "order"),
        ("/users/by_login", "login"),
        ("/users/by_tags?tags=" + "a," * 501 + ",".join(map(str, range(501))), "user_tags"),
    ],
)
async def test_what_is_not_searched_by_is_told(app, path, field):
    status, told = await app.people[0]("GET", path)
    assert (status, list(told["errors"])) == (422, [field]), told


async def test_only_apps_that_allow_it_let_users_find_others(behind):
    app = await behind.app()
    user = await app.user()
    for path in ("/users", "/users/v2?id=1", "/users/by_login?login=a", "/users/external/1"):
        assert (await user("GET", path))[0] == 403
        assert (await (await app.open())("GET", path))[0] == 403
    server = await (await behind.app(role="server")).open()
    assert found(await server("GET", "/users/v2")) == (0, [])


async def test_servers_see_how_users_are_reached(behind):
    app = await behind.app(role="server")
    user = await app.user(email=f"s{next(NUMBERS)}@example.com", phone="+1")
    server = await app.open()
    (told,) = (await server("GET", f"/users/v2?id={user.id}"))[1]["items"]
    assert told == user.told["user"]
    assert told["email"]
    # Another app has nothing of this.
    other = await (await behind.app(role="server")).open()
    assert found(await other("GET", f"/users/v2?id={user.id}")) == (0, [])


async def test_sessions_end_by_id_and_all_others_at_once(app):
    anna, ben = await app.user(), await app.user()
    names = {"login": anna.told["user"]["login"], "password": PASSWORD}
    first, second, third = [await app.open(user=names) for _ in range(3)]
    gone = (404, {"errors": {"base": ["Session not found"]}})
    assert await ben("DELETE", f"/session/{first.told['id']}") == gone
    assert await (await app.open())("DELETE", f"/session/{first.told['id']}") == gone
    assert (await anna("DELETE", f"/session/{first.told['id']}.json"))[0] == 200
    assert await anna("DELETE", f"/session/{first.told['id']}") == gone
    assert [(await each("GET", "/session"))[0] for each in (first, second, anna)] == [401, 200, 200]
    assert (await anna("DELETE", "/session/list.json"))[0] == 200
    assert [(await each("GET", "/session"))[0] for each in (second, third, anna, ben)] == [401, 401, 200, 200]
    nobody = await app.open()
    assert (await nobody("DELETE", "/session/list"))[0] == 403
    assert (await nobody("DELETE", f"/session/{nobody.told['id']}"))[0] == 200
    assert (await nobody("GET", "/session"))[0] == 401


async def test_who_deletes_himself_is_gone_with_his_sessions_and_address(app):
    number = next(NUMBERS)
    anna = await app.user(email=f"gone{number}@example.com")
    ben = await app.user()
    assert (await ben("DELETE", f"/users/{anna.id}"))[0] == 403
    assert (await anna("DELETE", f"/users/{anna.id}.json"))[0] == 200
    assert (await anna("GET", "/session"))[0] == 401
    assert await ben("GET", f"/users/by_email?email=gone{number}@example.com") == NOT_FOUND
    listed = await app.tenant.server.ok("GET", "/devices?limit=100")
    assert not [each for each in listed["items"] if each["install_id"] == f"email:{anna.id}"]
    # The names are free again.
    await app.user(login=anna.told["user"]["login"], email=f"gone{number}@example.com")
