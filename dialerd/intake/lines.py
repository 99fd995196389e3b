"""An upload's bytes as lines of text, never more than one line and one block in memory."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

_BLOCK = 64 * 1024
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# Told that it is not final, these leave a character that is cut by the block's end for the next one.
_DECODE = {
    "utf-8": codecs.utf_8_decode,
    "utf-16-le": codecs.utf_16_le_decode,
    "utf-16-be": codecs.utf_16_be_decode,
}
# A CR at the very end of a block waits, for an LF may follow.
_LINE_END = re.compile(r"\r\n|\n|\r(?!\Z)")


class UnfitText(Exception):
    """The bytes are no text, or hold a line beyond the bound. ``line`` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


class _Undecodable(Exception):
    pass


def read_lines(file: BinaryIO, max_bytes: int) -> Iterator[str]:
    """Yield the lines of a file with their ends: UTF-8 with or without BOM, or UTF-16 with BOM.

    Raises :class:`UnfitText`, after the lines before it, for other bytes (naming their offset), for NUL, and for a
    line of more than ``max_bytes`` as UTF-8. Does not close the file.
    """
    count = 0
    rest = ""
    try:
        for text in _decoded(file):
            rest += text
            start = 0
            for match in _LINE_END.finditer(rest):
                count += 1
                yield _checked(rest[start : match.end()], count, max_bytes)
                start = match.end()
            rest = _checked(rest[start:], count + 1, max_bytes)
    except _Undecodable as error:
        if rest.endswith("\r"):
            count += 1
            yield rest
        raise UnfitText(count + 1, str(error)) from None
    if rest:
        yield rest


def utf8_length(text: str) -> int:
    """The bytes that a text takes as UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8"))


def _checked(line: str, number: int, max_bytes: int) -> str:
    if len(line) > max_bytes // 4 and utf8_length(line) > max_bytes:
        raise UnfitText(number, f"is longer than {max_bytes} bytes")
    if "\0" in line:
        raise UnfitText(number, "holds a NUL: this is no text file, or UTF-16 without its BOM")
    return line


def _decoded(file: BinaryIO) -> Iterator[str]:
    """Yield the file's text block by block; all good text comes before :class:`_Undecodable`."""
    block = _first_block(file)
    encoding = "utf-8"
    offset = 0  # in the file, of the bytes not yet decoded
    for bom, name in _BOMS:
        if block.startswith(bom):
            encoding, offset, block = name, len(bom), block[len(bom) :] or file.read(_BLOCK)
            break
    pending = b""
    while True:
        final = not block
        pending += block
        try:
            text, used = _DECODE[encoding](pending, "strict", final)
        except UnicodeDecodeError as error:
            yield pending[: error.start].decode(encoding)
            what = "UTF-8" if encoding == "utf-8" else "UTF-16"
            raise _Undecodable(f"is not {what} text (byte {offset + error.start} of the file)") from None
        yield text
        if final:
            return
        offset += used
        pending = pending[used:]
        block = file.read(_BLOCK)


def _first_block(file: BinaryIO) -> bytes:
    block = b""
    while len(block) < 3 and (more := file.read(_BLOCK)):
        block += more
    return block
