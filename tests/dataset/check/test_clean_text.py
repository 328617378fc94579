"""Good text in many languages is left alone, and its language is known."""

from __future__ import annotations

import pytest
from check_cases import check, found

from edgeft.dataset.check.mojibake import find_mojibake

TEXTS = {
    "en": "The naïve façade of the café — “a cliché”, she said — cost £20, or €25; it’s 30 °C and ½ of it is shade…",
    "de": "Können Sie mir bitte sagen, wann der nächste Zug über Nürnberg nach Süden fährt? „Größe“ heißt ‚Maß‘ nicht.",
    "fr": "« Où est passée la clé\xa0? » demanda-t-il à\xa0«\xa0l’élève\xa0» du CAFÉ\xa0«\xa0NOËL\xa0»\xa0; 5\xa0€…",
    "es": "¿Dónde está el niño pequeño? ¡Qué sorpresa! El año pasado visitó “MÁLAGA” y también la región «SUR»…",
    "pt": "A “AÇÃO” e a “IRMÃ” não estão na estação; amanhã às 15h então você verá a «MAÇû – e o CORAÇÃO…",
    "it": "Perché non è più così? La città è lì, già da ieri, e «l’unità» costa 3 €.",
    "pl": "Zażółć gęślą jaźń, a potem wyłącz światło w łazience i zamknij drzwi na klucz.",
    "cs": "Příliš žluťoučký kůň úpěl ďábelské ódy, ale nikdo ho u řeky večer neslyšel.",
    "sv": "Åsa åt äpplen på ön i går, och ”ÅÄÖ” är de sista bokstäverna i vårt alfabet…",
    "tr": "Işıkları kapatıp perdeleri açar mısın lütfen, çünkü güneş bugün çok güzel doğdu.",
    "vi": "Bạn có thể bật đèn trong phòng khách và tắt quạt ở phòng ngủ giúp tôi được không?",
    "ru": "Пожалуйста, включи свет на кухне и скажи мне, какая завтра будет погода — «дождь» или солнце?",
    "el": "Άναψε σε παρακαλώ το φως στην κουζίνα και πες μου τι καιρό θα κάνει αύριο.",
    "ar": "من فضلك أشعل الضوء في المطبخ وأخبرني كيف سيكون الطقس غدا في المدينة \u2066(10 km)\u2069",
    "he": "בבקשה תדליק את האור במטבח ותגיד לי איך יהיה מזג האוויר מחר בעיר\u200f",
    "hi": "कृपया रसोई की बत्ती जलाओ और मुझे बताओ कि कल मौसम कैसा रहेगा।",
    "ja": "台所の電気をつけて、明日の天気がどうなるか教えてください。",
    "ko": "부엌 불을 켜고 내일 날씨가 어떤지 알려 주세요.",
    "zh": "请打开厨房的灯,然后告诉我明天的天气怎么样。",
    "th": "ช่วยเปิดไฟในห้องครัวแล้วบอกฉันหน่อยว่าพรุ่งนี้อากาศจะเป็นอย่างไร",
}
LATIN = ("en", "de", "fr", "es", "pt", "it", "pl", "cs", "sv", "tr", "vi")


@pytest.mark.parametrize("language", TEXTS)
def test_no_false_alarm(language: str) -> None:
    text = TEXTS[language]
    assert found(check([(text, f"👩🏽‍🚀 {text}"), ("x = a[i]\n\tif a < b: return {}", f"{text}\r\n{text}")])) == []


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
@pytest.mark.parametrize("language", sorted(TEXTS.keys() - {"en"}))
def test_each_of_them_damaged_is_found(language: str, encoding: str) -> None:
    wrong = "".join(chr(b) if encoding == "latin-1" else _cp1252(b) for b in TEXTS[language].encode())
    damage = find_mojibake(wrong)
    assert damage is not None
    assert damage.right != damage.wrong


def test_the_word_around_the_damage_is_mended() -> None:
    assert find_mojibake("a, ZaÅ¼Ã³Å‚Ä‡ b") == ((5, 7), "ZaÅ¼Ã³Å‚Ä‡", "Zażółć")
    assert find_mojibake('{"artist": "JosÃ©"}') == ((15, 17), "JosÃ©", "José")
    assert find_mojibake("ÐŸÑ€Ð¸Ð²ÐµÑ‚ Ð¼Ð¸Ñ€") == ((0, 12), "ÐŸÑ€Ð¸Ð²ÐµÑ‚", "Привет")


def _cp1252(byte: int) -> str:
    try:
        return bytes([byte]).decode("cp1252")
    except UnicodeDecodeError:
        return chr(byte)


def test_the_mix_of_languages() -> None:
    lines = [(f"{TEXTS[language]} {n}", f"{n}") for n in range(10) for language in ("en", "en", "de", "ru", "ja")]
    report = check([(user, f"{n}") for n, (user, _) in enumerate(lines)])
    prompts = report.figures["training"]["prompts"]
    assert prompts["languages"] == {"en": 0.4, "de": 0.2, "ru": 0.2, "ja": 0.2}
    assert prompts["scripts"] == {"Latin": 0.6, "Cyrillic": 0.2, "Japanese": 0.2}
    (mix,) = [finding for finding in report.findings if finding.code == "language-mix"]
    assert (mix.severity, str(mix.place)) == ("info", "train.jsonl")


@pytest.mark.parametrize("language", ["de", "fr", "pl", "ru", "ja", "ar"])
def test_a_language_that_is_not_trained_on(language: str) -> None:
    train = [(f"{TEXTS['en']} {n}", f"{n}") for n in range(40)]
    test = [(f"{TEXTS['en'][::-1]} {n}", "no") for n in range(9)] + [
        (f"{TEXTS[language]} {n}", "yes") for n in range(9)
    ]
    lacking = [row[1:3] for row in found(check(train, test=test)) if "trained" in row[1]]
    assert lacking == [("language-not-trained" if language in LATIN else "script-not-trained", "test.jsonl:10")]
