"""CloudEvents: what we write the SDK reads, what the SDK writes we read, and nothing is lost on the way."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import msgspec
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from posthouse.errors import MalformedBodyError
from posthouse.message.cloudevents import from_cloudevent, to_cloudevent
from posthouse.message.message import Kind, Message, Mode, Priority, Refusal
from posthouse.testing.clock import NOON

PART = st.from_regex(re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,20}", re.ASCII), fullmatch=True)
INSTANTS = st.integers(0, 4_000_000_000).map(float)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON_DATA = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
EXTENSIONS = st.dictionaries(
    st.from_regex(r"x[a-z0-9]{1,15}", fullmatch=True), TEXT | st.integers(-(2**31), 2**31 - 1) | st.booleans()
)

messages = st.builds(
    Message,
    kind=st.sampled_from(Kind),
    id=TEXT.filter(bool),
    type=st.builds("{}.{}".format, PART, PART),
    source=PART,
    time=INSTANTS,
    data=JSON_DATA.map(msgspec.json.encode),
    mode=st.sampled_from(Mode),
    reply_to=TEXT,
    deadline=INSTANTS,
    content_type=st.just(""),
    subject=TEXT,
    key=TEXT,
    priority=st.sampled_from(Priority),
    trace=TEXT,
    work=TEXT,
    refusal=st.none() | st.builds(Refusal, TEXT, TEXT, st.integers(0, 599), TEXT, st.binary()),
    tenant=TEXT,
    extensions=EXTENSIONS,
)


def by_sdk(event: dict[str, Any]) -> CloudEvent:
    """Let the SDK read the JSON that we would send, and judge it."""
    read = JSONFormat().read(None, json.dumps(event))
    assert isinstance(read, CloudEvent)
    return read


def message(**how: Any) -> Message:
    said: dict[str, Any] = {"kind": Kind.EVENT, "id": "1", "type": "prices.quoted", "source": "prices", "time": NOON}
    return Message(**said | how)


# --- there and back -----------------------------------------------------------------------------------


@given(messages)
def test_a_message_comes_back_as_it_was(original: Message):
    event = json.loads(json.dumps(to_cloudevent(original)))

    back = from_cloudevent(event, received=0.0)

    assert msgspec.json.decode(back.data) == msgspec.json.decode(original.data)
    assert msgspec.structs.replace(back, data=b"", time=back.time or 0.0) == msgspec.structs.replace(original, data=b"")


@given(st.binary(), st.sampled_from(["application/cbor", "image/png", "application/json", "text/plain"]))
def test_data_of_any_kind_comes_back_byte_for_byte_unless_it_is_json(data: bytes, content_type: str):
    original = message(data=data, content_type=content_type)

    back = from_cloudevent(json.loads(json.dumps(to_cloudevent(original))), received=0.0)

    if content_type == "application/json":
        try:
            meant = msgspec.json.decode(data) if data else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            assert back.data == data
        else:
            assert not data or msgspec.json.decode(back.data) == meant
    else:
        assert back.data == data


@given(messages)
def test_what_we_write_is_a_cloudevent_to_the_sdk(original: Message):
    event = to_cloudevent(original)
    read = by_sdk(event)

    assert (read.get_id(), read.get_type(), read.get_specversion()) == (original.id, original.type, "1.0")
    assert read.get_source() == f"/services/{original.source}"
    assert (read.get_subject() or "") == original.subject
    assert (time := read.get_time()) is not None
    assert time.timestamp() == original.time
    assert read.get_data() == msgspec.json.decode(original.data)


@given(messages)
def test_what_the_sdk_writes_of_it_we_read(original: Message):
    written = JSONFormat().write(by_sdk(to_cloudevent(original)))

    back = from_cloudevent(json.loads(written), received=0.0)

    data = msgspec.json.decode(original.data)
    assert msgspec.json.decode(back.data or b"null") == data
    assert msgspec.structs.replace(back, data=b"") == msgspec.structs.replace(original, data=b"")


def test_an_event_of_somebody_else_is_read():
    foreign = CloudEvent(
        {"id": "A234", "source": "https://example.com/cart", "type": "com.example.paid", "comexampleother": 5},
        {"total": 9.5},
    )

    read = from_cloudevent(json.loads(JSONFormat().write(foreign)), received=NOON)

    assert (read.kind, read.mode, read.priority) == (Kind.EVENT, Mode.QUEUED, Priority.NORMAL)
    assert (read.id, read.source, read.type) == ("A234", "https://example.com/cart", "com.example.paid")
    assert read.data == b'{"total":9.5}'
    assert read.extensions == {"comexampleother": 5}


def test_bytes_of_the_sdk_are_read():
    foreign = CloudEvent(
        {"id": "1", "source": "/x", "type": "a.b", "datacontenttype": "application/cbor"}, b"\x00\xff\x01"
    )

    read = from_cloudevent(json.loads(JSONFormat().write(foreign)), received=NOON)

    assert (read.data, read.content_type) == (b"\x00\xff\x01", "application/cbor")


# --- what it looks like -------------------------------------------------------------------------------


def test_a_plain_event_has_nothing_of_ours_in_it():
    assert to_cloudevent(message(data=b'{"sku":"tea"}')) == {
        "specversion": "1.0",
        "id": "1",
        "source": "/services/prices",
        "type": "prices.quoted",
        "time": "2026-01-01T12:00:00.000000Z",
        "datacontenttype": "application/json",
        "data": {"sku": "tea"},
    }


@given(messages)
def test_every_name_is_of_lower_case_letters_and_digits(original: Message):
    names = set(to_cloudevent(original)) - {"data_base64"}

    assert all(re.fullmatch(r"[a-z0-9]+", name) for name in names)


def test_our_own_attributes_bear_our_name():
    event = to_cloudevent(
        message(
            kind=Kind.REQUEST,
            mode=Mode.VOLATILE,
            priority=Priority.HIGH,
            reply_to="shop-1",
            deadline=NOON + 5,
            key="tea",
            trace="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        )
    )

    assert event["posthousekind"] == "request"
    assert event["posthousemode"] == "volatile"
    assert event["posthousepriority"] == "high"
    assert event["posthousereplyto"] == "shop-1"
    assert event["posthousedeadline"] == "2026-01-01T12:00:05.000000Z"
    assert event["partitionkey"] == "tea"  # these two have names in the extensions of CloudEvents
    assert event["traceparent"].startswith("00-")


def test_what_says_that_it_is_json_and_is_not_travels_as_bytes():
    event = to_cloudevent(message(data=b"\xff{"))

    assert event["data_base64"] == base64.b64encode(b"\xff{").decode()
    assert from_cloudevent(event, received=0.0).data == b"\xff{"


def test_an_extension_that_has_no_place_there_stays_behind():
    extensions: dict[str, str | int | bool] = {"Bad-Name": 1, "toolarge": 2**40, "good": 1, "type": "evil", "data": "x"}
    event = to_cloudevent(message(extensions=extensions))

    assert event["good"] == 1
    assert event["type"] == "prices.quoted"
    assert not {"Bad-Name", "toolarge", "data"} & set(event)


def test_a_text_that_is_not_json_is_its_bytes():
    read = from_cloudevent(
        {"specversion": "1.0", "id": "1", "source": "/x", "type": "a.b", "datacontenttype": "text/plain", "data": "hé"},
        received=NOON,
    )

    assert (read.data, read.content_type, read.time) == ("hé".encode(), "text/plain", NOON)


# --- what is none -------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "/services/shop", "type": "prices.quoted"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("specversion", "0.3"),
        ("specversion", None),
        ("id", None),
        ("id", ""),
        ("id", 5),
        ("source", ""),
        ("type", None),
        ("type", ["a.b"]),
        ("time", "noon"),
        ("time", "2026-01-01T12:00:00"),
        ("time", 5),
        ("subject", 5),
        ("datacontenttype", {}),
        ("data_base64", "%%%"),
        ("data_base64", 5),
        ("posthousekind", "command"),
        ("posthousemode", 2),
        ("posthousedeadline", "soon"),
        ("posthouserefusal", "{"),
        ("posthousereplyto", True),
    ],
)
def test_what_is_no_cloudevent_is_told_by_the_name_that_is_wrong(name: str, value: Any):
    with pytest.raises(MalformedBodyError, match=name):
        from_cloudevent({**GOOD, name: value}, received=NOON)


@given(st.dictionaries(st.sampled_from([*GOOD, "time", "data", "data_base64", "posthousekind", "x"]) | TEXT, JSON_DATA))
def test_any_json_object_is_a_message_or_is_told(event: dict[str, Any]):
    try:
        read = from_cloudevent({**GOOD, **event}, received=NOON)
    except MalformedBodyError:
        return
    assert read.id
    assert read.type


@pytest.mark.parametrize("time", [float("inf"), float("nan"), 1e300, -1e300])
def test_a_time_that_cannot_be_written_is_a_value_error(time: float):
    with pytest.raises(ValueError):  # noqa: PT011 - Python's own words, or ours
        to_cloudevent(message(time=time))
