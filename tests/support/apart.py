"""A work done in a copy of this process, which leaves nothing of itself behind."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def apart(work: Callable[[], T]) -> T:
    """Do a work in a fork, and return its answer, which has to bear pickling; this process must have one thread.

    What a large work allocates for a moment leaves holes in the process that did it, which its resident memory then
    shows for good. Raises RuntimeError where the fork dies of it.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    fork = context.Process(target=lambda: sender.send(work()))
    fork.start()
    sender.close()
    with receiver:
        try:
            return receiver.recv()  # type: ignore[no-any-return] # what the work returned
        except EOFError:
            raise RuntimeError("the fork died before it had an answer") from None
        finally:
            fork.join()
