"""Safari's web service where no request goes: bounds of its log and its pace, what its tokens are bound to."""

import asyncio
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from pushd.clock import SystemClock
from pushd.commands.safari_log import SafariLog
from pushd.commands.safari_service import SafariService, _Place
from pushd.config import Config
from pushd.config.safari import SafariConfig
from pushd.errors import NotFoundError, TooManyRequestsError, UnauthorizedError
from pushd.model.safari import UserInfo

SITE = _Place(1, "web.com.example")


class Still(SystemClock):
    """A clock that stands still."""

    at = 1_000.0

    def monotonic(self):
        return self.at


def service(key=b"k" * 32, **config):
    async def none(*_):
        return None

    store = SimpleNamespace(safari_sites=SimpleNamespace(get=none))
    config = Config(safari=SafariConfig(**config))
    return SafariService(SimpleNamespace(config=config, clock=Still(), store=store), key)


def token(made, place=SITE, info=None, *, believed=True):
    return "ApplePushNotifications " + made._token(place, info or UserInfo(), believed=believed)


def test_s05_a_token_says_what_was_believed_and_nothing_else():
    made = service()
    told = UserInfo(key="pushd_device_x", install_id="mac", user_id="ada", tags=["a"])
    package = made._opened(SITE, token(made, info=told))
    assert (package.install_id, package.info) == ("mac", UserInfo(user_id="ada", tags=["a"]))
    stranger = made._opened(SITE, token(made, info=told, believed=False))
    assert stranger.info == UserInfo()
    assert stranger.install_id.startswith("safari:")
    first, second = (made._opened(SITE, token(made)).install_id for _ in range(2))
    assert first != second


def test_s05_a_token_is_of_one_app_one_site_and_one_daemon():
    made = service()
    text = token(made)
    for other, place in (
        (made, _Place(2, SITE.website_push_id)),
        (made, _Place(1, "web.com.example2")),
        (made, _Place(1, "")),
        (service(b"l" * 32), SITE),
    ):
        with pytest.raises(UnauthorizedError):
            other._opened(place, text)
    assert service()._opened(SITE, text.replace("ApplePush", "APPLEPUSH")).install_id


def test_s05_every_octet_of_a_token_counts():
    made = service()
    scheme, _, text = token(made).partition(" ")
    for at in range(0, len(text), 5):
        bent = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        with pytest.raises(UnauthorizedError):
            made._opened(SITE, f"{scheme} {bent}")


@pytest.mark.asyncio
async def test_s05_packages_have_a_pace_for_each_app():
    made = service(packages_per_second_max=3)

    async def ask(app_id):
        try:
            await made.package(app_id, SITE.website_push_id, UserInfo(), None)
        except (NotFoundError, TooManyRequestsError) as error:
            return error.status

    assert await asyncio.gather(*(ask(1) for _ in range(5))) == [404, 404, 404, 429, 429]
    assert await ask(2) == 404
    made._context.clock.at += 1
    assert await ask(1) == 404


def test_s05_the_log_has_bounds():
    kept = SafariLog(SafariConfig(log_lines_max=3, log_line_chars_max=5, log_lines_kept=4, log_apps_kept=2))
    kept.add(1, ["a\x1b[31m", "b" * 9, "c", "never"], 10.0)
    assert [each.text for each in kept.lines(1)] == ["a [31", "bbbbb", "c"]
    kept.add(1, ["d", "e"], 11.0)
    assert [(each.at, each.text) for each in kept.lines(1)][-2:] == [(11.0, "d"), (11.0, "e")]
    assert len(kept.lines(1)) == 4
    kept.add(2, ["x"], 12.0)
    kept.add(3, ["x"], 12.0)
    assert kept.lines(1) == []
    assert [each.text for each in kept.lines(2)] == ["x"]


def test_s05_the_daemons_log_takes_so_many_lines_a_minute():
    kept = SafariLog(SafariConfig(log_lines_per_minute_max=2))

    def written(app_id, at):
        with capture_logs() as logged:
            kept.add(app_id, ["one", "two", "three"], at)
        return sum(each["event"] == "safari_said" and each["app"] == app_id for each in logged)

    assert (written(1, 100.0), written(1, 130.0), written(2, 130.0), written(1, 161.0)) == (2, 0, 2, 2)
