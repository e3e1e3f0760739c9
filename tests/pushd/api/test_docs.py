import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from pushd.api import apps, docs
from pushd.web.router import Router

STATIC = files("pushd.api") / "static"


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def page():
    made = Page()
    made.feed((STATIC / "reference.html").read_text())
    return made.tags


@pytest.mark.parametrize("name", sorted(entry.name for entry in STATIC.iterdir()))
def test_nothing_comes_from_elsewhere(name):
    text = (STATIC / name).read_text()
    assert not re.search(r"https?:|//[a-z0-9.-]+\.[a-z]{2,}|@import|url\(", text), name
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text), name


def test_the_page_is_made_of_files_that_are_served(page):
    for tag, attributes in page:
        for name in ("src", "href"):
            target = attributes.get(name, "")
            if target and not target.startswith("#"):
                assert "/" + target in docs.PATHS, (tag, target)
    scripts = [entry for entry in STATIC.iterdir() if entry.name.endswith(".js")]
    for script in scripts:
        for imported in re.findall(r'from "\./([^"]+)"', script.read_text()):
            assert f"/docs/{imported}" in docs.PATHS
    assert {entry.name for entry in STATIC.iterdir()} == {name for name, _ in docs.FILES.values()}


def test_nothing_is_inline(page):
    for tag, attributes in page:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        assert tag != "style"
        assert tag != "script" or "src" in attributes


def test_the_page_can_be_read_without_seeing_or_pointing(page):
    tags = [tag for tag, _ in page]
    assert dict(page)["html"]["lang"] == "en"
    assert {"main", "nav", "header", "h1", "noscript"} <= set(tags)
    assert ("a", {"class": "skip", "href": "#main"}) in page
    inputs = sum(tag == "input" for tag in tags)
    assert sum(tag == "label" for tag in tags) == inputs
    ids = [attributes["id"] for _, attributes in page if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'byId\("([\w-]+)"\)', (STATIC / "reference.js").read_text()))
    assert used <= set(ids)


@pytest.mark.asyncio
async def test_the_page_and_the_document_need_no_key(serve_router):
    router = Router()
    docs.mount(router, apps.OPERATIONS)
    async with serve_router(router, "/pushd/v1") as call:
        for path, (_, content_type) in docs.FILES.items():
            status, headers, body = await call("GET", path, key=None)
            assert (status, headers["Content-Type"]) == (200, content_type)
            assert len(body) > 500
            assert "script-src 'self'" in headers["Content-Security-Policy"]
            assert "unsafe" not in headers["Content-Security-Policy"]
            assert headers["X-Content-Type-Options"] == "nosniff"
            again, _, body = await call("GET", path, key=None, headers={"If-None-Match": headers["ETag"]})
            assert (again, body) == (304, "")
        status, headers, body = await call("GET", "/openapi.json", key=None)
        assert (status, headers["Content-Type"]) == (200, "application/json")
        assert body["openapi"] == "3.1.0"
