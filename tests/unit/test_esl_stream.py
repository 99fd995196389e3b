"""Frames of the event socket, and the events in them: what is forged, cut, too long or no text at all."""

from __future__ import annotations

import pytest

from dialerd.pbx.esl_stream import MAX_HEADER_BYTES, EslFrame, EslStream, EslStreamError, parse_event

AUTH = b"Content-Type: auth/request\n\n"


def event_frame(event: bytes) -> bytes:
    return b"Content-Length: %d\nContent-Type: text/event-plain\n\n%b" % (len(event), event)


def test_frames_without_and_with_a_body() -> None:
    event = b"Event-Name: HEARTBEAT\n\n"
    frames = EslStream().feed(AUTH + event_frame(event) + b"Content-Type: api/response\nContent-Length: 4\n\n+OK\n")
    assert [frame.content_type for frame in frames] == ["auth/request", "text/event-plain", "api/response"]
    assert [frame.body for frame in frames] == [b"", event, b"+OK\n"]


def test_a_reply_is_in_a_header_or_in_the_body() -> None:
    assert EslFrame({"Content-Type": "command/reply", "Reply-Text": "-ERR invalid"}).reply == "-ERR invalid"
    assert EslFrame({"Content-Type": "api/response"}, b"true").reply == "true"


def test_headers_of_a_frame_are_not_url_encoded() -> None:
    (frame,) = EslStream().feed(b"Content-Type: command/reply\nReply-Text: +OK 100%25\n\n")
    assert frame.reply == "+OK 100%25"


def test_empty_lines_between_frames_are_skipped_and_nonsense_is_counted() -> None:
    stream = EslStream()
    (frame,) = stream.feed(b"\n\n\n\nno header at all\n: nameless\nContent-Type: auth/request\n\n\n")
    assert frame.headers == {"Content-Type": "auth/request"}
    assert stream.garbage == 2


def test_a_frame_of_nothing_but_nonsense_is_no_frame() -> None:
    stream = EslStream()
    assert stream.feed(b"what is this\n\n" + AUTH) == EslStream().feed(AUTH)
    assert stream.garbage == 1


@pytest.mark.parametrize("length", ["-1", "abc", "1e3", "0x10", "", "99999999999", "1 2", "٣"])
def test_a_content_length_that_is_no_length(length: str) -> None:
    with pytest.raises(EslStreamError, match="Content-Length"):
        EslStream().feed(f"Content-Type: text/event-plain\nContent-Length: {length}\n\n".encode())


def test_a_body_beyond_the_bound_is_refused_before_it_is_read() -> None:
    assert EslStream(max_body=10).feed(b"Content-Length: 10\n\n0123456789")
    with pytest.raises(EslStreamError, match="more than 10 bytes"):
        EslStream(max_body=10).feed(b"Content-Length: 11\n\n")


@pytest.mark.parametrize("end", [b"", b"\n\n"])
def test_headers_without_end(end: bytes) -> None:
    stream = EslStream()
    assert stream.feed(b"X: " + b"a" * (MAX_HEADER_BYTES - 10)) == []
    with pytest.raises(EslStreamError, match="headers of more"):
        stream.feed(b"a" * 20 + end)


def test_a_character_that_two_reads_split_and_bytes_that_are_no_text() -> None:
    event = b"Event-Name: X\nCaller-Caller-ID-Name: J\xc3\xb6rg \xff\n\n"
    data = event_frame(event)
    stream = EslStream()
    cut = data.index(b"\xb6")
    (frame,) = stream.feed(data[:cut]) + stream.feed(data[cut:])
    assert parse_event(frame.body).headers["Caller-Caller-ID-Name"] == "Jörg �"


def test_an_encoded_line_feed_forges_no_header() -> None:
    """The fault of decoding before splitting: a caller's name would end the call."""
    event = parse_event(
        b"Event-Name: CHANNEL_PROGRESS\n"
        b"Caller-Caller-ID-Name: Bob%0AHangup-Cause%3A%20USER_BUSY%0A%0AEvent-Name: CHANNEL_HANGUP_COMPLETE\n"
        b"Unique-ID: a\n\n"
    )
    assert set(event.headers) == {"Event-Name", "Caller-Caller-ID-Name", "Unique-ID"}
    assert event.headers["Event-Name"] == "CHANNEL_PROGRESS"
    assert event.headers["Caller-Caller-ID-Name"].startswith("Bob\nHangup-Cause: USER_BUSY\n\nEvent-Name: ")
    assert event.body == ""


def test_of_a_repeated_header_the_first_counts() -> None:
    event = parse_event(b"Hangup-Cause: NO_ANSWER\nUnique-ID: a\nHangup-Cause: USER_BUSY\n\n")
    assert event.headers["Hangup-Cause"] == "NO_ANSWER"


def test_a_plus_is_a_plus() -> None:
    assert parse_event(b"Caller-Caller-ID-Number: %2B4930+1\n\n").headers["Caller-Caller-ID-Number"] == "+4930+1"


@pytest.mark.parametrize(
    ("escape", "read"), [("%", "%"), ("%2", "%2"), ("%zz", "%zz"), ("%ff", "�"), ("%C3%B6", "ö"), ("%00", "\0")]
)
def test_escapes_that_are_cut_or_wrong(escape: str, read: str) -> None:
    assert parse_event(f"A: {escape}\n\n".encode()).headers["A"] == read


@pytest.mark.parametrize(
    ("length", "body"),
    [("11", "-ERR A:B\n\nX"), ("4", "-ERR"), ("0", ""), ("999", "-ERR A:B\n\nX"), ("-3", "-ERR A:B\n\nX")],
)
def test_the_body_inside_an_event(length: str, body: str) -> None:
    event = parse_event(f"Event-Name: BACKGROUND_JOB\nContent-Length: {length}\n\n-ERR A:B\n\nX".encode())
    assert event.body == body
    assert event.headers == {"Event-Name": "BACKGROUND_JOB", "Content-Length": length}


@pytest.mark.parametrize("block", [b"", b"\n", b"\n\n", b":", b"::::", b"\xff\xfe", b"A", b"\0: \0\n\n\0"])
def test_garbage_is_an_event_without_sense(block: bytes) -> None:
    assert "Event-Name" not in parse_event(block).headers
