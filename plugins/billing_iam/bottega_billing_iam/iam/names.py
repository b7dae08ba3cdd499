"""Names of users, groups and the rest: what they may be made of, so that none passes for another (002 §10.1)."""

from __future__ import annotations

import re
import unicodedata

from bottega.errors import Invalid

# Logins and names that stand in paths are ASCII; the others are written in one script.
_RULES = {
    "user": (r"[A-Za-z][A-Za-z0-9 _.@-]{0,63}", "1 to 64 letters, digits, spaces, _ . @ -, beginning with a letter"),
    "account": (r"[A-Za-z][A-Za-z0-9_.-]{2,63}", "3 to 64 letters, digits, _ . -, beginning with a letter"),
    "project": (r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "1 to 64 letters, digits, _ -"),
    "group": (r"\w[\w .-]{0,127}", "1 to 128 letters, digits, spaces, _ . -"),
    "policy": (r"\w[\w .-]{0,127}", "1 to 128 letters, digits, spaces, _ . -"),
    "agency": (r"\w[\w .-]{0,63}", "1 to 64 letters, digits, spaces, _ . -"),
    "enterprise project": (r"\w[\w .-]{0,254}", "1 to 255 letters, digits, spaces, _ . -"),
    "workspace": (r"[\w-]{4,64}", "4 to 64 letters, digits, _ -"),
}

_EAST_ASIAN = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "KATAKANA-HIRAGANA"})
"""Written together with each other and with Latin letters, for which none of them passes."""

_LIKE_LATIN = frozenset("АВЕЅІЈКМНОРСТУХаеорсухіѕјԁԛԝһӏΑΒΕΖΗΙΚΜΝΟΡΤΥΧονυι")
"""Cyrillic and Greek letters that look like Latin ones."""


def check_name(kind: str, name: str) -> str:
    """The name in its composed form (NFKC). Raises Invalid, with the rule, when it breaks it.

    A name with letters of two scripts, or of Cyrillic or Greek letters that all look like Latin ones, is refused: it
    could pass for another one. So are invisible and control characters, which no rule allows.
    """
    pattern, rule = _RULES[kind]
    name = unicodedata.normalize("NFKC", name)
    if not re.fullmatch(pattern, name) or name != name.strip():
        raise Invalid(f"name: {name!r} is not a {kind} name; use {rule}")
    scripts = {_script(letter) for letter in name if letter.isalpha()}
    if len(scripts) > 1 and not scripts <= _EAST_ASIAN | {"LATIN"}:
        mixed = " and ".join(sorted(script.title() for script in scripts))
        raise Invalid(f"name: {name!r} mixes {mixed} letters, some of which look alike; use those of one script")
    letters = [letter for letter in name if letter.isalpha()]
    if letters and all(letter in _LIKE_LATIN for letter in letters):
        raise Invalid(f"name: {name!r} has only letters that look like Latin ones; write it with Latin letters")
    return name


def _script(letter: str) -> str:
    # The first word of a letter's name is its script; those of full width and such are gone after NFKC.
    return unicodedata.name(letter, "UNKNOWN").partition(" ")[0]
