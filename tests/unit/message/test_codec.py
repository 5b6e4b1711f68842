"""The codec: every message comes back as it was, and bytes that are no frame are a FrameError, whatever they are."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.errors import FrameError, FrameVersionError
from posthouse.message.codec import VERSION, decode, decode_many, encode
from posthouse.message.message import Kind, Lane, Message, Mode, Priority, Refusal, Seal

INT64 = st.integers(-(2**63), 2**63 - 1)

messages = st.builds(
    Message,
    st.sampled_from(Kind),
    st.text(),
    st.text(),
    st.text(),
    st.floats(allow_nan=False),
    st.binary(),
    st.sampled_from(Mode),
    st.text(),
    st.floats(allow_nan=False),
    st.text(),
    st.text(),
    st.text(),
    st.sampled_from(Priority),
    st.text(),
    st.text(),
    st.none() | st.builds(Refusal, st.text(), st.text(), INT64, st.text(), st.binary()),
    st.none() | st.builds(Lane, st.text(), INT64, st.text(), INT64, INT64, INT64, st.binary(), INT64, st.booleans()),
    st.none() | st.builds(Seal, st.text(), st.binary(), st.binary()),
    st.text(),
    st.dictionaries(st.text(), st.text() | INT64 | st.booleans()),
)

FULL = Message(
    Kind.REPLY,
    "00112233445566778899aabbccddeeff",
    "prices.quote",
    "prices",
    1_767_268_800.25,
    b'{"sku":"tea"}',
    Mode.JOURNALED,
    "shop-1",
    1_767_268_805.0,
    "application/cbor",
    "tea",
    "sku-1",
    Priority.HIGH,
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "ffeeddccbbaa99887766554433221100",
    Refusal("card.refused", "no", 402, "pay", b'{"limit":5}'),
    Lane("shop-db", 2, "prices-db", 3, 41, 40, b"\x01\x02", 1, True),
    Seal("s1", b"\xaa\xbb", b"token"),
    "acme",
    {"later": "kept", "count": 3, "flag": True},
)

# Written by version 1, and stored: whatever changes, these bytes are read as FULL for as long as READERS has 1.
GOLDEN = bytes.fromhex(
    "01dc001401d9203030313132323333343435353636373738383939616162626363646465656666ac7072696365732e71"
    "756f7465a6707269636573cb41da559870100000c40d7b22736b75223a22746561227d02a673686f702d31cb41da5598"
    "71400000b06170706c69636174696f6e2f63626f72a3746561a5736b752d3100d93730302d3462663932663335373762"
    "3334646136613363653932396430653065343733362d303066303637616130626139303262372d3031d9206666656564"
    "64636362626161393938383737363635353434333332323131303095ac636172642e72656675736564a26e6fcd0192a3"
    "706179c40b7b226c696d6974223a357d99a773686f702d646202a97072696365732d6462032928c402010201c393a273"
    "31c402aabbc405746f6b656ea461636d6583a56c61746572a46b657074a5636f756e7403a4666c6167c3"
)

# Written by version 1 before journaled delivery was built, whose stamps are two more.
BEFORE_JOURNALED = bytes.fromhex(
    "01dc001401d9203030313132323333343435353636373738383939616162626363646465656666ac7072696365732e71"
    "756f7465a6707269636573cb41da559870100000c40d7b22736b75223a22746561227d02a673686f702d31cb41da5598"
    "71400000b06170706c69636174696f6e2f63626f72a3746561a5736b752d3100d93730302d3462663932663335373762"
    "3334646136613363653932396430653065343733362d303066303637616130626139303262372d3031d9206666656564"
    "64636362626161393938383737363635353434333332323131303095ac636172642e72656675736564a26e6fcd0192a3"
    "706179c40b7b226c696d6974223a357d97a773686f702d646202a97072696365732d6462032928c402010293a27331c4"
    "02aabbc405746f6b656ea461636d6583a56c61746572a46b657074a5636f756e7403a4666c6167c3"
)


@given(messages)
def test_every_message_comes_back_as_it_was(message: Message):
    back = decode(encode(message))

    assert back == message
    assert type(back.kind) is Kind
    assert type(back.mode) is Mode
    assert type(back.priority) is Priority


def test_the_generated_messages_fill_every_field():
    """Hypothesis builds by position, so a field that is added later must be added above too."""
    assert len(Message.__struct_fields__) == 20
    assert len(Refusal.__struct_fields__) == 5
    assert len(Lane.__struct_fields__) == 9
    assert len(Seal.__struct_fields__) == 3


def test_a_frame_of_version_1_is_read_and_written_as_ever():
    assert decode(GOLDEN) == FULL
    assert encode(FULL) == GOLDEN


def test_a_frame_whose_stamps_end_before_those_of_journaled_delivery_is_read():
    without = Lane("shop-db", 2, "prices-db", 3, 41, 40, b"\x01\x02")

    assert decode(BEFORE_JOURNALED) == msgspec.structs.replace(FULL, lane=without)


def test_a_refusal_is_followed_by_the_fields_that_stand_behind_it():
    reply = Message(Kind.REPLY, "1", "a.b", "a", 1.0, refusal=Refusal("no", "not today"), tenant="acme")

    assert decode(encode(reply)) == reply


def test_a_longer_array_of_a_later_writer_is_read_up_to_what_is_known_here():
    fields = msgspec.msgpack.decode(GOLDEN[1:])
    longer = bytes([VERSION]) + msgspec.msgpack.encode([*fields, "new", {"nested": [1, 2]}])

    assert decode(longer) == FULL


def test_attributes_that_are_not_known_are_passed_on():
    message = decode(GOLDEN)
    passed_on = decode(encode(msgspec.structs.replace(message, work="2")))

    assert passed_on.extensions == FULL.extensions


@pytest.mark.parametrize("version", [0, 2, 9, 255])
def test_a_frame_of_another_version_is_told_from_one_that_is_broken(version: int):
    frame = bytes([version]) + GOLDEN[1:]

    with pytest.raises(FrameVersionError, match=f"version {version}"):
        decode(frame)
    [result] = decode_many([frame])
    assert isinstance(result, FrameVersionError)


def test_a_frame_that_was_cut_off_is_a_frame_error_wherever_it_was_cut():
    cuts = [GOLDEN[:length] for length in range(len(GOLDEN))]

    assert all(isinstance(result, FrameError) for result in decode_many(cuts))
    for cut in cuts:
        with pytest.raises(FrameError):
            decode(cut)


def is_message_or_frame_error(frame: bytes) -> bool:
    try:
        one: Message | FrameError = decode(frame)
    except FrameError as error:
        one = error
    [many] = decode_many([frame])
    return type(one) is type(many) and (isinstance(one, FrameError) or one == many)


NESTED = GOLDEN[:1] + b"\xdc\x00\x15" + GOLDEN[4:] + b"\x91" * 100_000 + b"\x90"
NOT_UTF8 = GOLDEN.replace(b"prices.quote", b"prices\xff\xfe\xfd\xfc\xfb\xfa")


@given(st.binary())
@example(b"")
@example(b"\x01")
@example(NESTED)
@example(NOT_UTF8)
def test_random_bytes_are_a_message_or_a_frame_error(frame: bytes):
    assert is_message_or_frame_error(frame)
    assert is_message_or_frame_error(b"\x01" + frame)


@given(st.integers(1, len(GOLDEN) - 1), st.binary(min_size=1, max_size=8))
def test_a_frame_with_wrong_bytes_in_it_is_a_message_or_a_frame_error(at: int, wrong: bytes):
    frame = GOLDEN[:at] + wrong + GOLDEN[at + len(wrong) :]

    assert is_message_or_frame_error(frame)


@pytest.mark.parametrize("frame", [NESTED, NOT_UTF8], ids=["nested", "not utf-8"])
def test_what_the_decoder_trips_over_is_a_frame_error(frame: bytes):
    with pytest.raises(FrameError):
        decode(frame)


@given(st.lists(messages.map(encode) | st.binary(max_size=20) | st.sampled_from([NESTED, NOT_UTF8, b"", b"\x02"])))
def test_a_batch_gives_for_each_frame_its_message_or_its_error_in_order(frames: list[bytes]):
    results = decode_many(frames)

    assert len(results) == len(frames)
    for frame, result in zip(frames, results, strict=True):
        if isinstance(result, FrameError):
            with pytest.raises(type(result)):
                decode(frame)
        else:
            assert decode(frame) == result


def test_a_batch_may_be_anything_that_can_be_gone_through_once():
    assert decode_many(frame for frame in [GOLDEN, b"\x01", GOLDEN])[::2] == [FULL, FULL]


@pytest.mark.parametrize(("field", "value"), [("kind", 9), ("mode", 7), ("id", 5), ("data", "text"), ("time", "noon")])
def test_a_field_of_the_wrong_kind_is_a_frame_error(field: str, value: Any):
    fields = msgspec.msgpack.decode(GOLDEN[1:])
    fields[Message.__struct_fields__.index(field)] = value

    with pytest.raises(FrameError):
        decode(bytes([VERSION]) + msgspec.msgpack.encode(fields))
