"""Forms with files: few parts, each named once, read in linear time."""

from time import monotonic

import pytest

from salus.console.multipart import NO_TEXT, parsed
from smart_auth.errors import OAuthError

NAMED = b'Content-Disposition: form-data; name="%s"'


def form(*parts, end=b"--\r\n"):
    return b"".join(b"--b0\r\n" + each + b"\r\n" for each in parts) + b"--b0" + end


def part(name, value, more=b""):
    return NAMED % name + more + b"\r\n\r\n" + value


def test_fields_and_files_are_read_as_they_were_sent():
    sent = form(
        part(b"text", "a\r\n\u00e9--b0".encode()),
        part(b"file", b'{"a": "\r\n\r\n"}', b'; filename="p.json"\r\nContent-Type: text/plain'),
        part(b"empty", b""),
    )
    assert parsed(sent, b"b0") == {
        "text": "a\r\n\u00e9--b0",
        "file": '{"a": "\r\n\r\n"}',
        "empty": "",
    }
    assert parsed(form(), b"b0") == {}


def test_what_is_no_text_is_told_as_that():
    sent = form(part(b"latin", b"\xe9"), part(b"utf16", "a".encode("utf-16")), part(b"nul", b"a\0"))
    assert parsed(sent, b"b0") == dict.fromkeys(("latin", "utf16", "nul"), NO_TEXT)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form",
        form(part(b"a", b"x"), end=b""),
        form(part(b"a", b"x"), part(b"a", b"y")),
        form(*(part(b"%d" % n, b"x") for n in range(11))),
        form(b"Content-Disposition: attachment\r\n\r\nx"),
        form(b"x"),
        form(b'Content-Disposition: form-data; name*0="a"\r\n\r\nx'),
        form(b"Content-Disposition: form-data; " + b'a="x";' * 150_000 + b"\r\n\r\nx"),
        form(b"Content-Disposition: form-data; name=" + b'";' * 400_000 + b"\r\n\r\nx"),
        form(b"Content-Type: message/rfc822\r\n\r\n" * 20_000),
        b"--b0\r\n" + b"\r\n" * 500_000,
    ],
    ids=range(12),
)
def test_what_is_no_such_form_is_refused_at_once(body):
    begun = monotonic()
    with pytest.raises(OAuthError):
        parsed(body, b"b0")
    assert monotonic() - begun < 1
