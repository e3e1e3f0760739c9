"""Templates: kept in versions, checked where they are written, filled in where they are sent, shown before."""

from __future__ import annotations

import msgspec
import pytest

from pushd.commands import arrays, notifications, previews, templates, users
from pushd.commands.in_app_content import with_content
from pushd.commands.notifications import Sent
from pushd.commands.previews import PreviewAsk
from pushd.commands.templates import TemplateSend
from pushd.errors import ConflictError, InvalidRequestError, NotFoundError, PushdError
from pushd.model.audience import Audience, Broadcast, UserIds
from pushd.model.in_app import InAppContent, PresentedWhen
from pushd.model.message import Message, PushType
from pushd.model.notification import Send
from pushd.model.template import NewTemplate, Syntax, TemplateChange, TemplateKind, TemplateRef
from pushd.model.user import UserChange
from tests.pushd.commands.world import World

pytestmark = pytest.mark.asyncio(loop_scope="package")

GREETING = Message(title='For {{ user.first_name | default: "you" }}', body="{{ item }} is on its way")
ONE = TemplateRef(uid="one")


async def made(world: World, **fields) -> None:
    fields = {"name": "one", "uid": "one", "message": Message(body="{{ item }} is on its way"), **fields}
    await templates.create(world.context, world.app.id, NewTemplate(**fields))


async def send(world: World, audience: Audience, **fields) -> Send:
    """What was released of a send."""
    wanted = Send(audience=audience, template=ONE, **fields)
    answer = await notifications.send(world.context, world.app.id, wanted)
    (notification, _, _) = world.fanout.released[-1]
    assert notification.id == msgspec.json.decode(answer.body, type=Sent).id
    return notification.send


async def test_every_change_is_a_version(world):
    app_id, context = world.app.id, world.context
    await made(world)
    changed = await templates.update(context, app_id, "one", TemplateChange(message=Message(body="{{ what }}")))
    assert (changed.version, changed.required_tags) == (2, ["what"])
    renamed = await templates.update(context, app_id, "one", TemplateChange(name="uno"))
    assert (renamed.version, renamed.name, renamed.message) == (3, "uno", changed.message)
    found = await templates.versions(context, app_id, "one", before=2**31, limit=10)
    assert [(each.version, each.name) for each in found] == [(3, "uno"), (2, "one"), (1, "one")]
    assert (await templates.get(context, app_id, "one", 1)).required_tags == ["item"]
    (by_name,) = await templates.list_page(context, app_id, after=0, limit=10, name="uno")
    assert by_name == renamed
    await templates.delete(context, app_id, "one")
    for gone in (templates.get, templates.delete):
        with pytest.raises(NotFoundError):
            await gone(context, app_id, "one")


async def test_old_versions_are_forgotten(world):
    await made(world)
    most = world.context.config.store.template_versions_max
    for number in range(most + 1):
        await templates.update(world.context, world.app.id, "one", TemplateChange(ttl_s=number))
    kept = await templates.versions(world.context, world.app.id, "one", before=2**31, limit=1000)
    assert [each.version for each in kept] == [*range(most + 2, 2, -1)]


async def test_uids_and_names_are_an_apps_own(world):
    await made(world)
    other = await world.another_app()
    await made(other)
    for field in ({"uid": "two"}, {"name": "two"}):
        with pytest.raises(ConflictError):
            await made(world, **field)


@pytest.mark.parametrize(
    ("fields", "pointers"),
    [
        ({"message": None}, ["/message"]),
        ({"content": {}}, ["/content"]),
        ({"kind": TemplateKind.IN_APP, "message": None}, ["/content"]),
        ({"message": Message(body="{{ a")}, ["/message/body"]),
        ({"message": Message(data={"a": ["{% include 'b' %}"]})}, ["/message/data/a/0"]),
        ({"locales": {"de": {"body": "{{ user }}"}}}, ["/locales/de/body"]),
        ({"locales": {"de": {"priority": "high"}}}, ["/locales/de/priority"]),
        ({"message": Message(body="{{ a }}", url="no link {{ a }}")}, ["/message/url"]),
        (
            {"message": Message(body="x" * 4096 + "{{ a }}"[:0] + "{{ a }}"[:0], data={"a": "y" * 300})},
            ["/message/body"],
        ),
    ],
)
async def test_what_cannot_be_is_refused_where_it_is_written(world, fields, pointers):
    with pytest.raises(InvalidRequestError) as refused:
        await made(world, **fields)
    assert [fault.pointer for fault in refused.value.faults] == pointers


async def test_a_send_without_a_required_tag_is_refused_by_name(world):
    await world.register("a", user_id="ada")
    await made(world, message=Message(title="{{ greeting | default: 'Hi' }}", body="{{ item }} {{ code }}"))
    with pytest.raises(InvalidRequestError) as refused:
        await send(world, Broadcast(), content_tags={"code": 1})
    assert [(fault.pointer, fault.detail) for fault in refused.value.faults] == [
        ("/content_tags/item", "is needed by the template")
    ]
    with pytest.raises(InvalidRequestError):  # ada has none of her own
        await send(world, UserIds(ids=["ada"]), content_tags={"code": 1}, user_data={"bob": {"item": "x"}})
    assert (await send(world, UserIds(ids=["ada"]), content_tags={"code": 1}, user_data={"ada": {"item": "x"}})).liquid
    with pytest.raises(InvalidRequestError) as refused:
        await send(world, Broadcast(), content_tags={"code": 1, "item": 2, "user": 3})
    assert [fault.pointer for fault in refused.value.faults] == ["/content_tags/user"]
    assert not [each for each, _, _ in world.fanout.released if not each.send.liquid]


async def test_what_is_the_same_for_all_is_rendered_before_it_is_accepted(world):
    await world.register("a")
    await made(world, ttl_s=60)
    sent = await send(world, Broadcast(), content_tags={"item": 'The "book"'})
    assert (sent.message, sent.liquid, sent.ttl_s) == (Message(body='The "book" is on its way'), False, 60)
    assert (sent.template, sent.content_tags) == (TemplateRef(uid="one", version=1), {"item": 'The "book"'})


async def test_a_send_carries_all_that_it_needs(world):
    """What became of the template meanwhile changes nothing: what is stored is what a resume reads."""
    await world.register("a")
    await made(world, message=GREETING, locales={"de": {"body": "{{ item }} ist unterwegs"}})
    fields = {"content_tags": {"item": "It"}, "user_data": {"ada": {"item": "Hers"}}, "user_meta": {"ada": {"n": 1}}}
    sent = await send(world, Broadcast(), **fields)
    assert (sent.message, sent.liquid, sent.locales) == (GREETING, True, {"de": {"body": "{{ item }} ist unterwegs"}})
    await templates.delete(world.context, world.app.id, "one")
    notification = world.fanout.released[-1][0]
    query = "SELECT * FROM notifications WHERE app_id = $1 AND id = $2"
    row = await world.context.store.database.fetchrow(query, world.app.id, notification.id)
    assert msgspec.json.decode(row["send"], type=Send) == sent


async def test_a_message_beside_a_template_is_merged_over_its_message(world):
    await world.register("a")
    await made(world)
    sent = await send(world, Broadcast(), content_tags={"item": "It"}, message=Message(title="{{ item }}!", badge=1))
    assert sent.message == Message(title="It!", body="It is on its way", badge=1)


async def test_versions_can_be_named(world):
    await world.register("a")
    await made(world)
    await templates.update(world.context, world.app.id, "one", TemplateChange(message=Message(body="new")))
    old = Send(audience=Broadcast(), template=TemplateRef(uid="one", version=1), content_tags={"item": "It"})
    await notifications.send(world.context, world.app.id, old)
    assert world.fanout.released[-1][0].send.message.body == "It is on its way"
    assert (await send(world, Broadcast())).message.body == "new"
    for uid, version in (("one", 3), ("two", None)):
        gone = Send(audience=Broadcast(), template=TemplateRef(uid=uid, version=version))
        with pytest.raises(NotFoundError):
            await notifications.send(world.context, world.app.id, gone)


async def test_liquid_needs_no_template(world):
    await world.register("a")
    plain = Send(audience=Broadcast(), message=Message(body="{{ a }}"), content_tags={"a": "b"})
    await notifications.send(world.context, world.app.id, plain)
    assert world.fanout.released[-1][0].send.message.body == "{{ a }}"
    await notifications.send(world.context, world.app.id, msgspec.structs.replace(plain, liquid=True))
    assert world.fanout.released[-1][0].send.message.body == "b"


async def test_too_large_in_all_gaps_is_refused_before(world):
    await world.register("a")
    await made(world, message=Message(body="{{ user.name }}", data={"a": "{{ item }}"}))
    with pytest.raises(InvalidRequestError) as refused:
        await send(world, Broadcast(), content_tags={"item": "x" * 5000})
    assert refused.value.faults[0].pointer == "/message/data"
    with pytest.raises(InvalidRequestError):
        await notifications.send(
            world.context, world.app.id, Send(audience=Broadcast(), message=Message(body="{{ a"), liquid=True)
        )
    large = {"de": {"data": {"a": "x" * 5000}}}
    with pytest.raises(InvalidRequestError):
        await notifications.send(
            world.context, world.app.id, Send(audience=Broadcast(), message=Message(body="a"), locales=large)
        )
    assert not world.fanout.released


async def test_arrays_take_templates_each_for_itself(world):
    await world.register("a", user_id="ada")
    await made(world)
    each = [
        Send(audience=UserIds(ids=["ada"]), template=ONE, content_tags={"item": "A"}),
        Send(audience=UserIds(ids=["ada"]), template=ONE),
        Send(audience=UserIds(ids=["ada"]), template=TemplateRef(uid="none")),
        Send(audience=UserIds(ids=["ada"]), message=Message(body="B")),
    ]

    def describe(error: PushdError) -> bytes:
        return msgspec.json.encode({"code": error.code, "at": [fault.pointer for fault in error.faults]})

    answer = await arrays.send_array(world.context, world.app.id, each, describe)
    results = msgspec.json.decode(answer.body)["results"]
    assert [result.get("targeted") for result in results] == [1, None, None, 1]
    assert results[1]["problem"] == {"code": "invalid_request", "at": ["/notifications/1/content_tags/item"]}
    assert results[2]["problem"]["code"] == "not_found"
    assert [each.send.message.body for each, _, _ in world.fanout.released] == ["A is on its way", "B"]


async def test_smart_text_and_a_stored_audience(world):
    """As push templates of Backendless have it: sent by name, to whom they are for."""
    await world.register("a", user_id="ada")
    message = Message(title="{Users.name}", body="Meet in {place} at {{n}}", url="https://x.example/{place}")
    await made(world, syntax=Syntax.SMART_TEXT, message=message, audience=UserIds(ids=["ada"]))
    (found,) = await templates.list_page(world.context, world.app.id, after=0, limit=10, name="one")
    assert (found.required_tags, found.user_attributes, found.message) == (["n", "place"], ["name"], message)
    tags = {"place": "Kyiv", "n": 1}
    answer = await templates.send(world.context, world.app.id, found.uid, TemplateSend(content_tags=tags))
    assert msgspec.json.decode(answer.body, type=Sent).targeted == 1
    await users.put(world.context, world.app.id, UserChange(external_id="ada", attributes={"name": "Ada"}))
    shown = await previews.preview(world.context, world.app.id, "one", PreviewAsk(user="ada", content_tags=tags))
    assert shown.message == Message(title="Ada", body="Meet in Kyiv at {1}", url="https://x.example/Kyiv")
    await made(world, uid="two", name="two")
    with pytest.raises(InvalidRequestError) as refused:
        await templates.send(world.context, world.app.id, "two", TemplateSend(content_tags=tags))
    assert [fault.pointer for fault in refused.value.faults] == ["/audience"]


async def test_a_preview_is_what_one_user_would_get(world):
    await world.register("a", user_id="ada", locale="pt_BR", country="BR")
    await users.put(world.context, world.app.id, UserChange(external_id="ada", attributes={"first_name": "Ada"}))
    message = msgspec.structs.replace(GREETING, data={"country": "{{ device.country }}"})
    await made(world, message=message, locales={"pt": {"body": "{{ item }} a caminho"}})
    ask = PreviewAsk(user="ada", content_tags={"item": "Livro"})
    shown = await previews.preview(world.context, world.app.id, "one", ask)
    assert (shown.locale, shown.version) == ("pt", 1)
    assert shown.message == Message(title="For Ada", body="Livro a caminho", data={"country": "br"})
    assert shown.platforms["apns"].payload["aps"]["alert"] == {"title": "For Ada", "body": "Livro a caminho"}
    assert shown.platforms["apns"].bytes > 0
    nobody = await previews.preview(
        world.context, world.app.id, "one", PreviewAsk(locale="de", content_tags={"item": "It"})
    )
    assert (nobody.locale, nobody.message.title, nobody.message.body) == ("", "For you", "It is on its way")
    with pytest.raises(NotFoundError):
        await previews.preview(world.context, world.app.id, "one", PreviewAsk(user="nobody"))
    with pytest.raises(InvalidRequestError):
        await previews.preview(world.context, world.app.id, "one", PreviewAsk(user="ada"))


async def test_in_app_contents_are_any_json(world):
    content = {"blocks": [{"text": "{{ title }}"}, {"n": 1}]}
    await made(world, kind=TemplateKind.IN_APP, message=None, content=content)

    async def told(template, **tags):
        wanted = InAppContent(template=template, content_tags=tags, presented_when=PresentedWhen.NEXT_OPEN)
        return await with_content(world.context, world.app.id, wanted)

    filled = (await told(ONE, title="T")).content
    assert filled == {"blocks": [{"text": "T"}, {"n": 1}]}
    with pytest.raises(InvalidRequestError) as refused:
        await told(ONE)
    assert [fault.pointer for fault in refused.value.faults] == ["/content_tags/title"]
    with pytest.raises(InvalidRequestError) as refused:
        await send(world, Broadcast(), content_tags={"title": "T"})
    assert [fault.pointer for fault in refused.value.faults] == ["/template/uid"]
    shown = await previews.preview(world.context, world.app.id, "one", PreviewAsk(content_tags={"title": "T"}))
    assert shown.content == filled
    await made(world, uid="two", name="two", kind=TemplateKind.IN_APP, message=None, content={"hi": "{{ user.id }}"})
    kept = await told(TemplateRef(uid="two"))
    assert (kept.content, kept.liquid) == ({"hi": "{{ user.id }}"}, True)


async def test_badges_of_their_own_are_read_where_there_can_be_one(world):
    await world.register("a", user_id="ada")
    body, silent = Message(body="a"), Message(push_type=PushType.BACKGROUND)
    await notifications.send(
        world.context, world.app.id, Send(audience=Broadcast(), message=body, badge_from="user.unread")
    )
    assert world.fanout.released[-1][0].send.badge_from == "user.unread"
    for message, name in ((body, "device.locale"), (body, "user"), (silent, "user.unread")):
        with pytest.raises(InvalidRequestError) as refused:
            await notifications.send(
                world.context, world.app.id, Send(audience=Broadcast(), message=message, badge_from=name)
            )
        assert [fault.pointer for fault in refused.value.faults] == ["/badge_from"]
