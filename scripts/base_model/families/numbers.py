"""Arithmetic, counting, units, dates and times, and word problems."""

from __future__ import annotations

import datetime

from base_model import words
from base_model.documents import Document, ask
from base_model.draw import Draw

UNIT_STEPS = (
    ("metres", "centimetres", 100), ("kilometres", "metres", 1000), ("kilos", "grams", 1000), ("hours", "minutes", 60),
    ("minutes", "seconds", 60), ("days", "hours", 24), ("weeks", "days", 7), ("litres", "millilitres", 1000),
    ("years", "months", 12), ("dozens", "pieces", 12), ("euros", "cents", 100),
)  # fmt: skip


def arithmetic(draw: Draw) -> Document:
    """Sums, differences, products and exact quotients of up to four digits; several in a list at times."""
    lines, answers = [], []
    for _ in range(draw.pick((1, 1, 1, 2, 3, 5))):
        digits = draw.integer(1, 4)
        a, b = draw.integer(0, 10**digits - 1), draw.integer(0, 10 ** draw.integer(1, digits) - 1)
        kind = draw.pick("++--*/")
        if kind == "+":
            shown, result = f"{a} + {b}", a + b
        elif kind == "-":
            shown, result = f"{max(a, b)} - {min(a, b)}", abs(a - b)
        elif kind == "*":
            a, b = draw.integer(0, 20), draw.integer(0, 12)
            shown, result = f"{a} {draw.pick('*x')} {b}", a * b
        else:
            a, b = draw.integer(0, 12), draw.integer(1, 12)
            shown, result = f"{a * b} / {b}", a
        lines.append(shown)
        answers.append(f"{shown} = {result}" if len(lines) > 1 or draw.chance(0.3) else str(result))
    if len(lines) == 1:
        return ask(
            draw.pick(("{}", "What is {}?", "{} =", "Calculate {}.", "How much is {}?", "Work out {}")).format(
                lines[0]
            ),
            answers[0],
        )
    answers[0] = answers[0] if "=" in answers[0] else f"{lines[0]} = {answers[0]}"
    return ask("Work these out:\n" + "\n".join(lines), "\n".join(answers))


def compare_numbers(draw: Draw) -> Document:
    """The larger, the smaller, the order of numbers."""
    numbers = draw.sample(range(0, 10 ** draw.integer(2, 5)), draw.integer(2, 5))
    text = ", ".join(map(str, numbers))
    kind = draw.integer(0, 4)
    if kind == 0:
        return ask(f"Which number is the largest: {text}?", str(max(numbers)))
    if kind == 1:
        return ask(f"Which is the smallest? {text}", str(min(numbers)))
    if kind == 2:
        a, b = numbers[:2]
        return ask(f"Is {a} greater than {b}?", "yes" if a > b else "no")
    if kind == 3:
        return ask(f"Sort from small to large: {text}", ", ".join(map(str, sorted(numbers))))
    return ask(f"Sort from large to small: {text}", ", ".join(map(str, sorted(numbers, reverse=True))))


def word_problem(draw: Draw) -> Document:
    """A little story with numbers, answered with the working in one sentence."""
    name, other = draw.distinct(draw.first_name, 2)
    thing, a, b = draw.pick(words.FOODS + words.OBJECTS), draw.integer(2, 60), draw.integer(1, 40)
    kind = draw.integer(0, 4)
    if kind == 0:
        return ask(
            f"{name} counts {a} of the {thing} and then finds {b} more. How many are there?",
            f"{a} + {b} = {a + b}, so {a + b}.",
        )
    if kind == 1:
        a += b
        return ask(
            f"There are {a} pieces of {thing}. {name} gives {b} to {other}. How many are left?",
            f"{a} - {b} = {a - b}, so {a - b}.",
        )
    if kind == 2:
        a, b = draw.integer(2, 12), draw.integer(2, 12)
        return ask(
            f"{name} has {a} bags with {b} pieces of {thing} each. How many in all?",
            f"{a} * {b} = {a * b}, so {a * b}.",
        )
    if kind == 3:
        return ask(
            f"{name} is {a} years old and {other} is {b} years older. How old is {other}?",
            f"{a} + {b} = {a + b}, so {a + b}.",
        )
    b, c = draw.integer(2, 9), draw.integer(2, 9)
    return ask(f"A {thing} costs {b} coins. What do {c} of them cost?", f"{b} * {c} = {b * c}, so {b * c} coins.")


def units(draw: Draw) -> Document:
    big, small, step = draw.pick(UNIT_STEPS)
    count = draw.integer(1, 20)
    if draw.chance(0.6):
        return ask(f"How many {small} are {count} {big}?", f"{count * step} {small}")
    return ask(f"How many {big} are {count * step} {small}?", f"{count} {big}")


def counting(draw: Draw) -> Document:
    """How often a thing occurs, how many items there are."""
    kinds = draw.sample(words.ANIMALS + words.FOODS, draw.integer(2, 4))
    items = [draw.pick(kinds) for _ in range(draw.integer(3, 10))]
    text = ", ".join(items)
    if draw.chance(0.4):
        return ask(f"How many items are in this list? {text}", str(len(items)))
    thing = draw.pick(kinds)
    count = items.count(thing)
    return ask(f"How many times does {thing} occur? {text}", str(count))


def sequence(draw: Draw) -> Document:
    """The next numbers of an arithmetic sequence, or counting from a to b."""
    start, step, count = draw.integer(0, 200), draw.integer(1, 12), draw.integer(3, 6)
    numbers = [start + step * i for i in range(count + 2)]
    if draw.chance(0.5):
        shown = ", ".join(map(str, numbers[:count]))
        return ask(f"Continue with two more numbers: {shown}", f"{numbers[count]}, {numbers[count + 1]}")
    end = start + draw.integer(3, 12)
    return ask(f"Count from {start} to {end}.", ", ".join(map(str, range(start, end + 1))))


def dates(draw: Draw) -> Document:
    """Weekdays, months and dates in other notations."""
    kind = draw.integer(0, 5)
    if kind == 0:
        at, ahead = draw.integer(0, 6), draw.integer(1, 6)
        return ask(f"Today is {words.WEEKDAYS[at]}. Which day is it in {ahead} days?", words.WEEKDAYS[(at + ahead) % 7])
    if kind == 1:
        at = draw.integer(0, 11)
        word, step = draw.pick((("after", 1), ("before", -1)))
        return ask(f"Which month comes {word} {words.MONTHS[at]}?", words.MONTHS[(at + step) % 12])
    day = datetime.date(draw.integer(1950, 2049), draw.integer(1, 12), draw.integer(1, 28))
    long, month = f"{day.day} {words.MONTHS[day.month - 1]} {day.year}", words.MONTHS[day.month - 1]
    if kind == 2:
        return ask(f"Write {long} as YYYY-MM-DD.", day.isoformat())
    if kind == 3:
        return ask(f"Write {day.isoformat()} in words.", long)
    if kind == 4:
        return ask(f"Write {month} {day.day}, {day.year} as DD/MM/YYYY.", f"{day.day:02d}/{day.month:02d}/{day.year}")
    return ask(f"In which year and month is {day.isoformat()}?", f"{month} {day.year}")


def clock_times(draw: Draw) -> Document:
    hour, minute = draw.integer(0, 23), draw.integer(0, 11) * 5
    kind = draw.integer(0, 2)
    if kind == 0:
        half = "am" if hour < 12 else "pm"
        return ask(f"Write {hour:02d}:{minute:02d} with am or pm.", f"{(hour + 11) % 12 + 1}:{minute:02d} {half}")
    ahead = draw.integer(1, 18) * 5
    end = hour * 60 + minute + ahead
    shown = f"{end // 60 % 24:02d}:{end % 60:02d}"
    if kind == 1:
        return ask(f"It is {hour:02d}:{minute:02d}. What time is it in {ahead} minutes?", shown)
    what = draw.pick(("train", "film", "lesson", "walk"))
    return ask(f"A {what} starts at {hour:02d}:{minute:02d} and lasts {ahead} minutes. When does it end?", shown)


def money(draw: Draw) -> Document:
    """A bill with two or three items: its total, or the change."""
    items = draw.sample(words.FOODS, draw.integer(2, 3))
    prices = [draw.integer(1, 30) for _ in items]
    bill = "\n".join(f"{item}: {price}" for item, price in zip(items, prices, strict=True))
    total = sum(prices)
    if draw.chance(0.5):
        return ask(f"What is the total?\n{bill}", f"{' + '.join(map(str, prices))} = {total}")
    paid = total + draw.integer(1, 40)
    return ask(f"{bill}\nI pay {paid}. How much change do I get?", f"{paid} - {total} = {paid - total}")
