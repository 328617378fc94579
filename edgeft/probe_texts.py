"""Texts on which tokenizers differ when anything about them is wrong. No text of a user's model is in here."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Literal, Protocol, TypeVar, get_args

_PRINTABLE = tuple(chr(code) for code in range(128) if chr(code).isprintable() or chr(code) in "\t\n\r")
_CONTROL = tuple(chr(code) for code in range(128) if chr(code) not in _PRINTABLE)

ORDINARY_PROBES: tuple[str, ...] = (
    "Hello, world!",
    " leading space",
    "trailing space ",
    "two  spaces, three   spaces,\ttab,\t\ttwo tabs",
    "line\nline\n\nparagraph\r\nwindows\r\n\r\n",
    "   \n  indented\n\tby tab\n",
    "I'm you're we've he'll she'd it's DON'T",
    "3.14159 1,234,567 1e-9 0x1F 50% 12:30 2024-01-31",
    "1234567890 007 room 4711, 25 m2, 4.5 months",
    "Café déjà vu naïve Übergrößenträger",
    "Ära ÉCOLE İstanbul ŁÓDŹ ΑΒΓαβγς АБВабв МОСКВА",
    "Привет, мир! Γειά σου Κόσμε",
    "Широкая электрификация южных губерний даст мощный толчок подъёму сельского хозяйства.",
    "你好,世界。こんにちは世界 안녕하세요 세계",
    "明天下午三点在北京开会，请带上2024年的报告。明日の会議は午後3時からです。",
    "नमस्ते दुनिया สวัสดีชาวโลก",
    "שלום עולם مرحبا بالعالم",
    "اجتمع الفريق في المكتب صباح اليوم، ثم كتب التقرير.",
    "🙂 👍🏽 👨‍👩‍👧‍👦 🇩🇪 ❤️",
    '{"intent": "x", "slots": {"a": [1, 2.5, null]}}',
    "def f(x):\n    return x ** 2  # comment\n",
    "<html><b>bold</b></html> a<b>c &amp; d",
    "http://example.com/a?b=c&d=%20e#f user@example.com",
    "AaBbCc camelCaseWord SCREAMING_SNAKE kebab-case-word",
    "!?!? ... --- *** ((([[[{{{ }}}]]])))",
    "'single' \"double\" `back` “curly” ‘quotes’ «guillemets»",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    *("", " ", "  ", "   ", "\t", "\n", "\n\n", "\n\n\n   in", "\r", "\r\n\r\n", " \n \n", "\t\n"),
    *("a", " a", "a ", "  a  b   "),
    *("x" + " " * count + "y" + "\n" * count for count in range(2, 18)),
    *("0" * count for count in range(1, 12)),
    "I'LL we've 'tis 'S don't l'eau rock'n'roll 'Re",
    'if (a != b && c >= 0x7f) { return a->b["c"]; } // ok\n\t\t}\r\n\n',
    "#include <stdio.h>\n\n\n\tfor(;;){}\n    \n        pass\n",
    "$\\frac{a}{b}$ ~/.bashrc C:\\dir\\file.txt ``` \n```python\n",
    "a.b,c;d:e!f?g(h)i[j]k{l}m<n>o|p=q+r*s/t^u%v$w#x@y&z~",
    "《书名》，。！？；：“”‘’（）【】—…·￥ 、。〈〉「」『』",
    *_PRINTABLE,
    *("a" + char + "b" for char in _PRINTABLE),
)
"""What people write: prose of the scripts that most of them use, digits, code, punctuation, whitespace.

A tokenizer with lost merges or scores, other splitting rules, or another space before a text differs on these, so that
one of them decides.
"""

RARE_PROBES: tuple[str, ...] = (
    "1234567890 007 ½ ² Ⅷ ٣٤٥ ๑๒๓",
    "Cafe\u0301 de\u0301ja\u0300 vu",
    "ﬁne ﬂow Ⓐ ㎏ ﷺ",
    "zero\u200bwidth\u200djoiner\ufeffbom\u00a0nbsp\u2028line\u3000wide",
    "\x01\x02\x1f control \x7f \x85",
    "ied 4 ½ months x²≠½ Ⅻ ①",
    "ǅ Ꭰꭰ ﬀ",
    "ქართული Հայերեն አማርኛ ខ្មែរ ລາວ မြန်မာ བོད་ සිංහල தமிழ் తెలుగు ಕನ್ನಡ മലയാളം বাংলা ਪੰਜਾਬੀ ગુજરાતી",
    "𠮷野家 𝒜𝓑 𓀀 ㍿ 한글 ㄱㄴ ㈜ ｱｲｳ ＡＢＣ１２３ 〜ー々",
    "\u0903\u093f\u0e33\u0300 a\u0338 q\u0307\u0323 \u200d\u200c\u2060",
    "😶‍🌫️🏳️‍🌈👩🏾‍🚀☺︎☺️ 1️⃣ #️⃣ 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    *_CONTROL,
    *("a" + char + "b" for char in _CONTROL),
)
"""Signs that hardly any text holds: combining marks alone, ligatures, other scripts' digits, control characters.

llama.cpp knows the classes of some of them otherwise than the tokenizers library (StarCoder's rules: a run of Arabic
marks). Who writes them has records with them, and records decide.
"""

PROBES: tuple[str, ...] = (*ORDINARY_PROBES, *RARE_PROBES)
"""Every ASCII character is among them; every byte comes with `every_byte`."""

Kind = Literal["record", "ordinary", "rare"]
"""What a text is: the user's own or as certain, what people write, or signs that hardly any text holds."""


class Tried(Protocol):
    """A text that was tokenized by both sides."""

    @property
    def kind(self) -> Kind:
        """Whose text it is."""


AnyTried = TypeVar("AnyTried", bound=Tried)


def decide(
    tried: Sequence[AnyTried], wrong: Sequence[AnyTried], allowed_share: float
) -> tuple[list[AnyTried], dict[Kind, list[AnyTried]]]:
    """Returns those of `wrong`, the texts among `tried` that get other ids, that are failures; and the others, by kind.

    A record's text always is one. So are ordinary texts, unless at most `allowed_share` of them are wrong. Signs that
    hardly any text holds are never one: they are a warning, with their share. The one rule for a conversion and for
    the check of a file.
    """
    of_kind: dict[Kind, list[AnyTried]] = {kind: [one for one in wrong if one.kind == kind] for kind in get_args(Kind)}
    n_ordinary = sum(one.kind == "ordinary" for one in tried)
    failing = of_kind.pop("record")
    if len(of_kind["ordinary"]) > allowed_share * n_ordinary:
        failing = failing + of_kind.pop("ordinary")
    return failing, {kind: found for kind, found in of_kind.items() if found}


def differing_words(kind: Kind, n_wrong: int, n_tried: int) -> str:
    """Returns the warning that so many texts of a kind get other ids."""
    texts = "texts of rare signs" if kind == "rare" else "ordinary texts"
    share = f"{n_wrong} of {n_tried} {texts} ({n_wrong / n_tried:.2%})"
    return f"llama.cpp splits {share} otherwise than the model's tokenizer"


WARNING_REMEDY = "where your users write such texts, have them among your records, which are held to the same ids"


def every_byte() -> Iterator[str]:
    """Yields texts that hold every byte that UTF-8 can have, in characters of two, three and four bytes."""
    yield from ("".join(chr(code) for code in range(start, start + 64)) for start in range(0x80, 0x800, 64))
    yield from ("".join(chr(lead << 12 | low) for low in (0x800, 0xA3F)) for lead in range(1, 13))
    yield from (chr(code) for code in (0x800, 0xFFC, 0xE000, 0xFFFD, 0x10000, 0x1F600, 0x40000, 0xC0000, 0x10FFFD))


_RANGES = (
    *((0x20, 0x7E), (0x20, 0x20), (0x30, 0x39), (0x61, 0x7A), (0x41, 0x5A), (0x09, 0x0D), (0x21, 0x2F), (0x0, 0x1F)),
    *((0xC0, 0x24F), (0x370, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x5EA), (0x620, 0x64A), (0x904, 0x939), (0xE01, 0xE30)),
    *((0x3041, 0x3096), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0x1F600, 0x1F64F), (0x2010, 0x2027), (0x1F3FB, 0x1F3FF)),
    *((0x0A0, 0xBF), (0x200B, 0x200D), (0xFE0F, 0xFE0F), (0x300, 0x36F), (0x93E, 0x94D)),
)


def random_texts(count: int, seed: int, between: Sequence[str] = ()) -> Iterator[str]:
    """Yields texts of characters from many scripts; those in `between` turn up whole, glued to what is around them."""
    source = random.Random(seed)
    for _ in range(count):
        parts = []
        for _ in range(source.randint(1, 12)):
            if between and source.random() < 0.1:
                parts.append(source.choice(between))
            low, high = source.choice(_RANGES)
            parts.append("".join(chr(source.randint(low, high)) for _ in range(source.randint(1, 6))))
        yield "".join(parts)
