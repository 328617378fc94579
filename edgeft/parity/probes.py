"""Texts on which tokenizers differ when anything about them is wrong. No text of a user's model is in here."""

from __future__ import annotations

PROBES: tuple[str, ...] = (
    "Hello, world!",
    " leading space",
    "trailing space ",
    "two  spaces, three   spaces,\ttab,\t\ttwo tabs",
    "line\nline\n\nparagraph\r\nwindows\r\n\r\n",
    "   \n  indented\n\tby tab\n",
    "I'm you're we've he'll she'd it's DON'T",
    "3.14159 1,234,567 1e-9 0x1F 50% 12:30 2024-01-31",
    "1234567890 007 ½ ² Ⅷ ٣٤٥ ๑๒๓",
    "Café déjà vu naïve Übergrößenträger",
    "Cafe\u0301 de\u0301ja\u0300 vu",
    "ﬁne ﬂow Ⓐ ㎏ ﷺ",
    "Привет, мир! Γειά σου Κόσμε",
    "你好,世界。こんにちは世界 안녕하세요 세계",
    "नमस्ते दुनिया สวัสดีชาวโลก",
    "שלום עולם مرحبا بالعالم",
    "🙂 👍🏽 👨‍👩‍👧‍👦 🇩🇪 ❤️",
    "zero\u200bwidth\u200djoiner\ufeffbom\u00a0nbsp\u2028line\u3000wide",
    '{"intent": "x", "slots": {"a": [1, 2.5, null]}}',
    "def f(x):\n    return x ** 2  # comment\n",
    "<html><b>bold</b></html> a<b>c &amp; d",
    "http://example.com/a?b=c&d=%20e#f user@example.com",
    "AaBbCc camelCaseWord SCREAMING_SNAKE kebab-case-word",
    "!?!? ... --- *** ((([[[{{{ }}}]]])))",
    "'single' \"double\" `back` “curly” ‘quotes’ «guillemets»",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\x01\x02\x1f control \x7f \x85",
)
