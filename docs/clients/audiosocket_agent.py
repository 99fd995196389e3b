"""A telephone agent made of software, to start from: the far side of Asterisk's AudioSocket(), in Python's own library.

    python3 audiosocket_agent.py 127.0.0.1:9092

It listens until the callee has spoken and fallen silent, says something (here: a tone), and hangs up. Put your speech
recognition, your model and your voice in `converse`. What travels: a byte for the kind, two for the length, that many
bytes; sound is 8,000 samples a second of 16 bits, little-endian, one channel (Asterisk, "AudioSocket").
"""

from __future__ import annotations

import array
import asyncio
import math
import sys
import uuid

HANGUP, ID, DTMF, SOUND, ERROR = 0x00, 0x01, 0x03, 0x10, 0xFF
RATE = 8000
FRAME = 320
"""Bytes of 20 ms."""
LOUD = 500
"""Mean amplitude above which a frame counts as speech."""
QUIET_FRAMES = 25
"""So many frames of silence after speech are the end of what the callee said."""
PATIENCE_SECONDS = 10.0
LONGEST_CALL_SECONDS = 300.0


class Call:
    """One call: its id, which is dialerd's too, and its sound in both directions."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.id = ""

    async def frame(self) -> tuple[int, bytes]:
        """The next thing that Asterisk says; HANGUP where the connection ends."""
        try:
            head = await self._reader.readexactly(3)
            kind, body = head[0], await self._reader.readexactly(int.from_bytes(head[1:], "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            return HANGUP, b""
        if kind == ID:
            self.id = str(uuid.UUID(bytes=body))
        return (HANGUP if kind == ERROR else kind), body

    async def listen(self) -> float | None:
        """Hear until the callee has said something and is silent; seconds of speech, or None where the call is over."""
        spoken = quiet = 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            while quiet < QUIET_FRAMES or not spoken:
                kind, body = await self.frame()
                if kind == HANGUP:
                    return None
                if kind != SOUND:
                    continue
                loud = loudness(body) > LOUD
                spoken, quiet = spoken + loud, 0 if loud else quiet + 1
        return spoken * FRAME / 2 / RATE

    async def say(self, sound: bytes) -> None:
        """Play sound, in its own time: what comes too early Asterisk drops."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        for number, start in enumerate(range(0, len(sound), FRAME)):
            part = sound[start : start + FRAME].ljust(FRAME, b"\0")
            self._writer.write(bytes([SOUND]) + FRAME.to_bytes(2, "big") + part)
            await self._writer.drain()
            await asyncio.sleep(max(0.0, begin + number * 0.02 - loop.time()))

    async def hang_up(self) -> None:
        """End the call; Asterisk goes on behind AudioSocket() in its dialplan."""
        self._writer.write(bytes([HANGUP, 0, 0]))
        await self._writer.drain()


def loudness(sound: bytes) -> float:
    """The mean amplitude of a frame."""
    samples = array.array("h", sound[: len(sound) // 2 * 2])
    return sum(map(abs, samples)) / max(1, len(samples))


def tone(seconds: float, hertz: float = 440.0) -> bytes:
    """A tone, in place of a voice."""
    wave = (int(8000 * math.sin(2 * math.pi * hertz * n / RATE)) for n in range(int(seconds * RATE)))
    return array.array("h", wave).tobytes()


async def converse(call: Call) -> str:
    """What this agent is for; put yours here. Returns a line for the log."""
    heard = await call.listen()
    if heard is None:
        return "hung up before a word"
    await call.say(tone(1.0))
    await call.hang_up()
    return f"heard {heard:.1f} s, said 1.0 s"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take one connection of Asterisk's: one call."""
    call = Call(reader, writer)
    try:
        async with asyncio.timeout(LONGEST_CALL_SECONDS):
            await call.frame()
            print(f"call {call.id}: {await converse(call)}", flush=True)
    except TimeoutError:
        print(f"call {call.id}: given up", flush=True)
    except ConnectionError as error:
        print(f"call {call.id}: {error}", flush=True)
    finally:
        writer.close()


async def main(address: str) -> None:
    """Serve until killed."""
    host, _, port = address.rpartition(":")
    async with await asyncio.start_server(answer, host, int(port)) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092"))
