"""Exports of other services: rows of files however they are cut, and records of whatever stands in them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import msgspec
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pushd.cli.exports import rows as module
from pushd.cli.exports.fields import FIELDS, InvalidRowError, Names, as_list, plain
from pushd.cli.exports.records import Conversion
from pushd.cli.exports.rejects import Rejects
from pushd.cli.exports.rows import FileError, Rows
from pushd.cli.exports.services import SERVICES
from pushd.commands.import_check import Seen
from pushd.errors import InvalidRequestError
from pushd.model.imports import RecordLine

QUICK = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
_record = msgspec.json.Decoder(RecordLine).decode


@pytest.fixture
def write(tmp_path: Path):
    """Writes a file, and looks at it."""

    def written(content: str | bytes, name: str = "file", form: str | None = None) -> Rows:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return Rows(path, form)

    return written


def values(found: Rows):
    return [each.values for each in found]


CELLS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\0"), max_size=12)


@QUICK
@given(
    table=st.integers(1, 5).flatmap(
        lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=8)
    ),
    delimiter=st.sampled_from(module.DELIMITERS),
    ending=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
)
def test_tables_are_read_as_they_were_written(tmp_path_factory, table, delimiter, ending, bom):
    width = len(table[0]) if table else 3
    names = [f"column {number}" for number in range(width)]
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=ending, quoting=csv.QUOTE_ALL)
    writer.writerows([names, *table])
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + text.getvalue().encode())
    found = Rows(path)
    assert (found.form, found.header) == ("csv", names)
    assert width == 1 or found.delimiter == delimiter
    assert [list(each.values.values()) for each in found] == table
    assert [each.number for each in found] == list(range(1, len(table) + 1))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | CELLS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CELLS, inner, max_size=4),
    max_leaves=8,
)
OBJECTS = st.dictionaries(CELLS.filter(lambda name: name not in (*module.PAGES, "_text")), JSON, max_size=4)


@QUICK
@given(objects=st.lists(OBJECTS, max_size=6), indent=st.sampled_from([None, 0, 2]), chunk=st.integers(1, 64))
def test_arrays_of_json_are_read_row_by_row_wherever_reads_end(tmp_path_factory, objects, indent, chunk):
    path = tmp_path_factory.mktemp("json") / "t.json"
    path.write_text(json.dumps(objects, indent=indent, ensure_ascii=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "READ_CHARS", chunk)
        assert values(Rows(path, "json")) == objects


@QUICK
@given(objects=st.lists(OBJECTS, max_size=6))
def test_lines_of_json_are_rows(tmp_path_factory, objects):
    path = tmp_path_factory.mktemp("json") / "t.jsonl"
    path.write_bytes(b"\n\n".join(orjson.dumps(each) for each in objects))
    assert values(Rows(path)) == objects


WORDS = st.sampled_from(
    [
        *("ios", "android", "web", "WP", "1", "3", "true", "no", "null", "", "[1", '["a"]', "{}", '{"endpoint": 1}'),
        *("k.push.deviceRegistered", "k.fg", "news;sports", "a" * 300, "0" * 64, "https://x.example/y", "\ud800"),
    ]
)


COLUMNS = sorted({name for each in SERVICES.values() for names in each.columns.values() for name in names})


@settings(max_examples=300)
@given(
    service=st.sampled_from(sorted(SERVICES)),
    columns=st.lists(st.sampled_from(COLUMNS), max_size=8, unique=True),
    data=st.data(),
)
def test_whatever_a_row_says_becomes_a_record_or_a_fault(tmp_path_factory, service, columns, data):
    row: dict[str, object] = {}
    for column in columns:  # objects within objects, where the name has points
        *path, last = column.split(".")
        inner = row
        for step in path:
            nested = inner.setdefault(step, {})
            inner = nested if isinstance(nested, dict) else {}
        inner[last] = data.draw(WORDS | JSON)
    path = tmp_path_factory.mktemp("rows") / "t.json"
    path.write_text(json.dumps([row]))
    for made in Conversion(SERVICES[service], Rows(path, "json"), {}, {}):
        assert (made.fault is None) == bool(made.line)
        if reason := refusal(made.line):  # the daemon's to say, and to be told by a column
            with Rejects(Conversion(SERVICES[service], Rows(path, "json"), {}, {}), None) as rejects:
                assert rejects.fault_of(made, reason).detail


def refusal(line: bytes) -> str:
    """What is wrong with the types of a record."""
    try:
        _record(line or b"{}")
    except msgspec.ValidationError as error:
        return str(error)
    return ""


@settings(max_examples=200)
@given(content=st.binary(max_size=400), form=st.sampled_from([None, *module.FORMATS]))
def test_any_octets_are_rows_or_no_file(tmp_path_factory, content, form):
    path = tmp_path_factory.mktemp("any") / "t"
    path.write_bytes(content)
    try:
        found = Rows(path, form)
        first = [(each.number, each.line, each.fault) for each in found]
    except FileError:
        return
    assert [(each.number, each.line, each.fault) for each in found] == first
    assert [number for number, _, _ in first] == list(range(1, len(first) + 1))


def test_rows_go_on_behind_line_feeds_within_quotes_and_stray_quotes_cost_one_row(write):
    found = list(write('a,b\n1,"two\nlines, ""quoted"""\n\n,,\n2,"stray\n3,x\n4,"y"\n'))
    assert [(each.line, dict(each.values), each.fault is None) for each in found] == [
        (2, {"a": "1", "b": 'two\nlines, "quoted"'}, True),
        (6, {}, False),
        (7, {"a": "3", "b": "x"}, True),
        (8, {"a": "4", "b": "y"}, True),
    ]


def test_rows_are_bounded(write):
    long = "x" * (module.ROW_BYTES_MAX + 10)
    found = list(write(f"a,b\n1,{long}\n2,y\n3,{long}"))
    assert [(each.number, each.line, each.fault is None) for each in found] == [
        (1, 2, False),
        (2, 3, True),
        (3, 4, False),
    ]
    assert all(len(each.raw) <= module.ROW_BYTES_MAX for each in found)
    found = list(write(f'{{"a": "{long}"}}\n{{"a": 1}}\n', "t.ndjson"))
    assert [each.fault is None for each in found] == [False, True]
    quotes = "a\n" + '"' + "\n" * (module.ROW_LINES_MAX + 5) + "b\n"
    assert [each.values for each in write(quotes) if each.fault is None] == [{"a": "b"}]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"\xff\xfea\0b\0", 1),
        (b"", 1),
        (b"a,b,a\n", 1),
        (b"\xff,b\n", 1),
        (b",".join(b"c%d" % number for number in range(1_001)), 1),
        (b'[{"a": 1},\n {"a": }]', 2),
        (b'[{"a": 1}\n {"a": 1}]', 2),
        (b'[{"a": 1}', 1),
        (b'[{"a": NaN}]', 1),
        (b'[{"a": 1}]\n,', 2),
        (b'[\n"\xff"]', 2),
        (b"[" * 100_000, 1),
        (b'[{"a": ' + b"9" * 5_000 + b"}]", 1),
    ],
)
def test_files_that_cannot_be_read_say_where(tmp_path, content, line):
    path = tmp_path / "t"
    path.write_bytes(content)
    with pytest.raises(FileError) as raised:
        list(Rows(path))
    assert raised.value.faults[0].pointer == f"/{line}"


def test_pages_hold_rows_and_rejects_can_be_read_again(write):
    page = {"current_page": 1, "items": [{"a": 1}, {"a": 2}]}
    assert values(write(json.dumps(page, indent=1))) == [{"a": 1}, {"a": 2}]
    assert values(write(f"{json.dumps(page)}\n{json.dumps(page)}\n")) == [{"a": 1}, {"a": 2}] * 2
    assert values(write(json.dumps([page, {"items": ["x"]}]))) == [{"a": 1}, {"a": 2}, {"items": ["x"]}]
    (again,) = write('{"_text": "{\\"a\\": 1}", "_line": 3}\n')
    assert (again.values, again.fault) == ({"a": 1}, None)


def test_columns_are_known_in_any_spelling():
    for name in ("push_token[bundle_identifier]", "PushToken.BundleIdentifier", "push token bundle-identifier"):
        assert plain(name) == "pushtokenbundleidentifier"
    names = Names(
        {"token": ("token", "device_token")}, {"Kennung": "user_id", "Tarif": "attributes.plan"}, {"kind": "fcm"}
    )
    said = names.said({"DEVICE-TOKEN": "b", "Token": "a", "kennung": 7, "tarif": "pro", "x": {"y": 1}, "_line": 3})
    assert said.values == {"token": "a", "user_id": 7, "kind": "fcm"}
    assert (said.attributes, said.columns["token"], said.text("user_id")) == ({"plan": "pro"}, "Token", "7")
    assert said.rest == {"x.y": 1, "x": {"y": 1}}
    assert names.unused(["Token", "attributes.z", "other", "_line"]) == ["other"]
    for mapped in ({"a": "colour"}, {"a": "attributes."}):
        with pytest.raises(InvalidRequestError):
            Names({}, mapped, {})


def test_the_fields_of_services_are_fields():
    for service in SERVICES.values():
        for name in service.columns:
            assert name in FIELDS or name.startswith(("_", "attributes.")), (service.name, name)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("a; b;;a", ["a", "b"]),
        ("a|b,c", ["a", "b,c"]),
        ("a, b", ["a", "b"]),
        ('["x;y", "z"]', ["x;y", "z"]),
        ([{"uuid": "u", "name": "n"}, {"name": "m"}, 7], ["u", "m", "7"]),
        ("one", ["one"]),
    ],
)
def test_lists_are_read_in_every_spelling(value, found):
    assert as_list("tags", value) == found


def test_lists_that_are_none_are_faults():
    for value in ("[1", [["a"]], [{"uuid": {"a": 1}}]):
        with pytest.raises(InvalidRowError):
            as_list("tags", value)


@QUICK
@given(st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=20))
def test_names_are_fresh_once(batches):
    seen, known = Seen(), set()
    for batch in batches:
        assert seen.has(batch) == [each in known for each in batch]
        fresh = seen.fresh(batch)
        expected = []
        for each in batch:
            expected.append(each not in known)
            known.add(each)
        assert fresh == expected
