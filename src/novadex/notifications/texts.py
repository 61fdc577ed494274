"""The words of notifications: templates with named placeholders, filled in and escaped for where they are shown."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from novadex.errors import ValidationError
from novadex.notifications.records import CHANNELS, Channel, Template

FALLBACK_LOCALE = "en"
LOCALE = re.compile(r"[a-z]{2,3}(-[A-Z]{2})?")
PLACEHOLDER = re.compile(r"\{([a-z][a-z_]*)\}")
TITLE_MAX, BODY_MAX = 200, 10_000
SUBJECT_MAX, TEMPLATE_MAX, HTML_MAX = 200, 5_000, 20_000


def one_line(value: str) -> str:
    r"""Text that is safe in one line and in a header: no line ends, no control characters, nothing that turns the
    direction of writing around.

    >>> one_line("BTC\r\nBcc: everybody@example.com")
    'BTC Bcc: everybody@example.com'
    """
    return " ".join("".join(" " if unicodedata.category(c) in _HIDDEN else c for c in value).split())


def many_lines(value: str) -> str:
    r"""The same for text of several lines.

    >>> many_lines("first\r\n\tsecond\x07")
    'first\nsecond'
    """
    return "\n".join(one_line(line) for line in value.splitlines())


def in_html(value: str) -> str:
    """Text as HTML.

    >>> in_html('<b>"1" & 2</b>')
    '&lt;b&gt;&quot;1&quot; &amp; 2&lt;/b&gt;'
    """
    return html.escape(many_lines(value)).replace("\n", "<br>")


_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def fill(template: str, data: Mapping[str, str], escape: Callable[[str], str]) -> str:
    """Put the fields in the places of their names. What stands in a field is never taken for a placeholder.

    >>> fill("{market} at {price}", {"market": "{price}", "price": "2"}, one_line)
    '{price} at 2'
    """
    return PLACEHOLDER.sub(lambda found: escape(data.get(found[1], "")), template)


@dataclass(frozen=True, slots=True)
class Words:
    """A notification in words."""

    title: str
    body: str
    html: str | None


def words_of(template: Template, data: Mapping[str, str]) -> Words:
    """The words of a template for these fields."""
    return Words(
        one_line(fill(template.subject, data, one_line))[:TITLE_MAX] or template.kind,
        fill(template.body, data, many_lines).strip()[:BODY_MAX],
        fill(template.html, data, in_html) if template.html is not None else None,
    )


def locales_of(locale: object) -> list[str]:
    """A locale and what it falls back to.

    >>> locales_of("de-AT"), locales_of("nonsense"), locales_of(None)
    (['de-AT', 'de', 'en'], ['en'], ['en'])
    """
    if not isinstance(locale, str) or not LOCALE.fullmatch(locale):
        return [FALLBACK_LOCALE]
    return list(dict.fromkeys([locale, locale.partition("-")[0], FALLBACK_LOCALE]))


class Templates:
    """The templates of a moment. The language comes before the channel: a reader of German is better served by the
    German words of the app than by English ones made for email."""

    def __init__(self, templates: Iterable[Template]) -> None:
        self._by_key = {(t.kind, t.channel, t.locale): t for t in templates}

    def choose(self, kind: str, channel: Channel, locale: object) -> Template:
        """The best that there is; the English words of the app are always there."""
        for candidate in locales_of(locale):
            for of_channel in (channel, "in_app"):
                found = self._by_key.get((kind, of_channel, candidate))
                if found is not None:
                    return found
        raise KeyError(f"the kind {kind} has no words at all")


def check_template(template: Template, fields: Iterable[str]) -> Template:
    """Raise ``ValidationError`` for what the database would refuse: unknown placeholders, stray braces, lengths."""
    known = set(fields)
    if template.channel not in CHANNELS:
        raise ValidationError(
            f"channel must be one of {', '.join(CHANNELS)}, got {template.channel[:40]!r}.", field="channel"
        )
    if not LOCALE.fullmatch(template.locale):
        raise ValidationError(
            f"locale is none: {template.locale[:40]!r}.", field="locale", hint="Write it like de or de-AT."
        )
    if template.html is not None and template.channel != "email":
        raise ValidationError("html is for email only.", field="html")
    parts = (("subject", template.subject, SUBJECT_MAX), ("body", template.body, TEMPLATE_MAX))
    if template.html is not None:
        parts = (*parts, ("html", template.html, HTML_MAX))
    for field, text, length_max in parts:
        if not 1 <= len(text) <= length_max:
            raise ValidationError(f"{field} must have 1 to {length_max} characters, got {len(text)}.", field=field)
        unknown = [name for name in PLACEHOLDER.findall(text) if name not in known]
        if unknown or re.search(r"[{}]", PLACEHOLDER.sub("", text)):
            raise ValidationError(
                f"{field} has a placeholder that {template.kind} does not know: {(unknown or ['a brace alone'])[0]}.",
                field=field,
                hint=f"There are: {', '.join(sorted(known))}.",
            )
    if one_line(template.subject) != template.subject:
        raise ValidationError("subject must be one line of text.", field="subject")
    return template
