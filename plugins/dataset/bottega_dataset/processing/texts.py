"""Texts, in the worker."""

from __future__ import annotations

import re

from bottega_dataset.processing.work import Unreadable

_SPACE = re.compile(r"\s+")
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[\u4e00-\u9fff]", re.UNICODE)


def decode(content: bytes) -> str:
    """Raises Unreadable for what is not UTF-8, or holds no text."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise Unreadable(f"it is not UTF-8 (byte {e.start})") from e
    if not text.strip():
        raise Unreadable("it holds no text")
    return text


def plain(text: str) -> str:
    """In lower case, white space as single blanks: texts that differ in nothing else are the same."""
    return _SPACE.sub(" ", text).strip().casefold()
