"""Words for messages of one line."""

from typing import Any

LONGEST = 120


def short(value: Any, most: int = LONGEST) -> str:
    """Return a value's repr, cut."""
    return cut(repr(value), most)


def said(error: BaseException, most: int = LONGEST) -> str:
    """Return what an error says, on one line and cut; its type where it says nothing."""
    return cut(str(error), most) or type(error).__name__


def cut(words: str, most: int = LONGEST) -> str:
    """Return words on one line of at most so many characters."""
    words = " ".join(words.split())
    return words if len(words) <= most else f"{words[: most - 1]}…"
