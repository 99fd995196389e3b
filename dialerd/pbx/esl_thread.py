"""One OS thread with a gevent hub of its own, in which greenswitch runs beside asyncio without any monkey-patching.

Two ways lead through the wall, and nothing else is shared: work enters by :meth:`EslThread.post`, which wakes the hub
by its one thread-safe watcher; what happened leaves by :meth:`EslThread.tell`, in batches, each woken by one
``call_soon_threadsafe``. The thread is started, stopped and joined explicitly: a hub that is left running at the
interpreter's exit can crash it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import structlog

log = structlog.get_logger(__name__)

Work = Callable[[], object]

MAX_WAITING = 50_000
"""Things that happened and that the event loop has not taken yet; about ten seconds of a PBX at its limit."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Of them as they came over the wire; read, they take about four times that in memory."""
BATCH = 500
"""Taken at once; then the event loop gets a turn for other things."""
STOP_SECONDS = 5.0
"""How long a stopping thread may take; it never needs more than an instant."""
_LAST_SECONDS = 1.0


class EslThread:
    """A thread for the connections to one PBX. Everything but :meth:`tell` is called from the event loop."""

    def __init__(self, name: str) -> None:
        self.errors = 0
        """Exceptions of what was posted or told: caught, logged and counted."""
        self._name = name
        self._lock = threading.Lock()
        self._posted: deque[Work] = deque()
        self._told: deque[tuple[Work, int]] = deque()
        self._waiting_bytes = 0
        """Of all that was told and not taken."""
        self._delivering = False
        self._wake: Any = None
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._done: asyncio.Future[None] | None = None

    def start(self) -> None:
        """Start the thread. What is posted from now on is done."""
        assert self._thread is None, "a thread is started once"
        self._loop = asyncio.get_running_loop()
        self._done = self._loop.create_future()
        # Not a daemon: those are torn down in the middle of native code when the interpreter exits.
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=False)
        self._thread.start()

    def post(self, work: Work) -> bool:
        """Let the thread's hub do something that does not block, in the order of the posts.

        False: the thread stops, and nothing will be done.
        """
        with self._lock:
            if self._stopping:
                return False
            self._posted.append(work)
            self._nudge()
            return True

    def tell(self, work: Work, size: int = 0, *, always: bool = False) -> bool:
        """Let the event loop do something, in the order of the tells; called from the thread.

        ``size``: the bytes of what it is about. False: the loop is too far behind, by number or by size, and nothing
        was told. What must be told ``always`` is told even so.
        """
        assert self._loop is not None
        with self._lock:
            behind = len(self._told) >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES
            if behind and not always:
                return False
            self._told.append((work, size))
            self._waiting_bytes += size
            wake, self._delivering = not self._delivering, True
        if wake:
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop is closed: nobody is left to be told
                return False
        return True

    async def stop(self) -> None:
        """End everything in the thread, and wait until it is gone."""
        if self._thread is None or self._done is None:
            return
        with self._lock:
            self._stopping = True
            self._nudge()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.shield(self._done)
        except TimeoutError:
            log.error("esl_thread_stuck", thread=self._name)
            return
        self._thread.join(STOP_SECONDS)  # it said that it is done: this takes no time
        self._told.clear()
        self._waiting_bytes = 0

    def _nudge(self) -> None:
        if self._wake is not None:
            self._wake.send()

    # In the thread.

    def _run(self) -> None:
        hub = gevent.get_hub()
        ready = gevent.event.Event()
        wake = hub.loop.async_()
        wake.start(ready.set)
        with self._lock:
            self._wake = wake
        try:
            while self._work_off():
                ready.wait()
                ready.clear()
        finally:
            with self._lock:
                # Whoever posts from now on must not touch a watcher whose loop is gone.
                self._wake = None
                self._stopping = True
            wake.stop()
            wake.close()
            # Greenlets that were killed still have to die: one that outlived its thread could never be cleaned up.
            hub.join(timeout=_LAST_SECONDS)
            # Else the hub's epoll and wake-up descriptors stay open.
            hub.destroy(destroy_loop=True)
            self.tell(self._finished, always=True)

    def _work_off(self) -> bool:
        """Do what was posted; False: the thread shall end."""
        while True:
            with self._lock:
                if not self._posted:
                    return not self._stopping
                work = self._posted.popleft()
            try:
                work()
            except Exception:
                self.errors += 1
                log.exception("esl_work_failed", thread=self._name)

    # In the event loop.

    def _deliver(self) -> None:
        for _ in range(BATCH):
            with self._lock:
                if not self._told:
                    self._delivering = False
                    return
                work, size = self._told.popleft()
                self._waiting_bytes -= size
            try:
                work()
            except Exception:
                self.errors += 1
                log.exception("esl_told_failed", thread=self._name)
        assert self._loop is not None
        self._loop.call_soon(self._deliver)

    def _finished(self) -> None:
        assert self._done is not None
        if not self._done.done():
            self._done.set_result(None)
