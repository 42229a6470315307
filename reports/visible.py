"""Text of strangers as it can be shown: nothing in it steers a terminal, breaks a line or ends an XML file."""

from __future__ import annotations

import re

# Control characters beside tab and newline, separators of lines, what turns the direction of the text around it,
# halves of characters, and the last two of Unicode, which XML forbids.
_HIDDEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def visible(text: str) -> str:
    r"""Return a text with its control characters written out, as in "\x1b"; tabs and newlines stay."""
    return _HIDDEN.sub(lambda match: ascii(match[0])[1:-1], text)


def one_line(text: str) -> str:
    r"""Return a text on one line: white space folded, control characters written out."""
    return visible(" ".join(text.split()))
