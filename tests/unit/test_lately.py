"""What is remembered of late, and what is forgotten for it."""

from __future__ import annotations

from dialerd.dispatch.lately import Lately


def test_the_oldest_is_forgotten_for_the_newest() -> None:
    lately: Lately[int] = Lately(2)
    for number, name in enumerate("abc"):
        lately[name] = number
    assert dict(lately) == {"b": 1, "c": 2}
    assert lately.get("a") is None


def test_what_is_told_once_more_is_new_again() -> None:
    lately: Lately[int] = Lately(2)
    lately["a"] = 1
    lately["b"] = 2
    lately["a"] = 3
    lately["c"] = 4
    assert dict(lately) == {"a": 3, "c": 4}
    assert lately.pop("a", None) == 3
    assert list(lately) == ["c"]
