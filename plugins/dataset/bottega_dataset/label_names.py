"""What a label may be called."""

from __future__ import annotations

import re

from bottega.errors import Invalid

LABEL_NAME = re.compile(r"[A-Za-z0-9_\-\u4e00-\u9fff]{1,32}")
"""002 §2.2 has no Chinese characters, §2.4, where labels are made while labeling, has: what §2.4 allows, all take."""
LABEL_RULE = "a label has 1-32 letters, digits, '_', '-' or Chinese characters"


def check_label_name(name: str) -> str:
    """Raises Invalid with the rule (002 §2.2, table 2-1, and §2.4)."""
    if not LABEL_NAME.fullmatch(name):
        raise Invalid(f"label '{name}': {LABEL_RULE}")
    return name
