"""Conversations to record a model with when there are no records of one's own: many subjects, forms and scripts.

They are made up for this purpose. What a model would answer itself does not matter: the file is held to the model's
probabilities on these answers, whatever they are.
"""

from __future__ import annotations

from typing import Final

from edgeft.dataset.findings import Place
from edgeft.dataset.records import Record

PLAIN_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}Question: {{ message['content'] }}\n"
    "{% else %}Answer: {{ message['content'] }}{{ eos_token if loop.last else '\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Answer:{% endif %}"
)
"""For a model without a chat template: a conversation as text.

No text in it begins with a space or follows a special token: SentencePiece's prefix there is not the same in llama.cpp.
"""

_CONVERSATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "Why does bread rise?",
        "Yeast feeds on the sugars in the flour and gives off carbon dioxide. The gluten in the dough is elastic "
        "and holds the gas in small bubbles, so the loaf grows. In the oven the bubbles expand once more, and "
        "then the crumb sets around them.",
    ),
    (
        "Give me three tips for carrying a heavy rucksack.",
        "1. Pack heavy things close to your back and high up.\n2. Let the hip belt take most of the weight, and "
        "use the shoulder straps only to keep the load steady.\n3. Take short breaks often rather than long ones "
        "seldom.",
    ),
    (
        "A train leaves at 14:35 and takes 2 hours and 50 minutes. When does it arrive?",
        "14:35 plus 2 hours is 16:35. Another 50 minutes make it 17:25. The train arrives at 17:25.",
    ),
    (
        "What is 37 * 24? Show your steps.",
        "37 * 24 = 37 * 20 + 37 * 4\n37 * 20 = 740\n37 * 4 = 148\n740 + 148 = 888\n\nThe answer is 888.",
    ),
    (
        "Write a Python function that returns the median of a list of numbers.",
        "```python\ndef median(values):\n    ordered = sorted(values)\n    middle = len(ordered) // 2\n    if "
        "len(ordered) % 2:\n        return ordered[middle]\n    return (ordered[middle - 1] + ordered[middle]) / "
        "2\n```\nIt raises an IndexError for an empty list.",
    ),
    (
        "Extract name, city and age as JSON: Marta Olsen, 34, moved from Bergen to Graz last spring.",
        '{"name": "Marta Olsen", "city": "Graz", "age": 34}',
    ),
    (
        "turn the heating in the bathroom up to 22 degrees at half past six",
        '{"intent": "set_temperature", "slots": {"room": "bathroom", "degrees": 22, "time": "06:30"}}',
    ),
    (
        "Which customers have placed more than five orders? The tables are customers(id, name) and orders(id, "
        "customer_id).",
        "SELECT c.name, COUNT(*) AS order_count\nFROM customers AS c\nJOIN orders AS o ON o.customer_id = c.id\n"
        "GROUP BY c.id, c.name\nHAVING COUNT(*) > 5\nORDER BY order_count DESC;",
    ),
    (
        "Find all files over 100 MB below the current folder.",
        "Run `find . -type f -size +100M -exec ls -lh {} +`. It lists each file with its size; add `2>/dev/null` "
        "to leave out folders that you may not read.",
    ),
    (
        "Summarize in one sentence: The council met on Tuesday to discuss the old bridge. Engineers reported that "
        "two of its pillars are cracked. It will stay closed to lorries until a repair is paid for.",
        "The old bridge stays closed to lorries until the cracks in two of its pillars are repaired.",
    ),
    (
        'Is this review positive or negative? "The soup was cold, but the waiter could not have been kinder."',
        "Mixed: it complains about the food and praises the service.",
    ),
    (
        "Übersetze ins Englische: Der Zug hat wegen eines Sturms vierzig Minuten Verspätung.",
        "The train is forty minutes late because of a storm.",
    ),
    (
        "Wie funktioniert eine Wärmepumpe?",
        "Eine Wärmepumpe entzieht der Luft, der Erde oder dem Grundwasser Wärme. Ein Kältemittel verdampft dabei, "
        "ein Verdichter erhöht seinen Druck und damit seine Temperatur, und im Haus gibt es die Wärme an das "
        "Heizwasser ab.",
    ),
    (
        "Explique en deux phrases pourquoi le ciel est bleu.",
        "L'air diffuse davantage la lumière bleue que la lumière rouge, parce que sa longueur d'onde est plus "
        "courte. Cette lumière bleue nous arrive donc de toutes les directions du ciel.",
    ),
    (
        "¿Qué llevo a la montaña en otoño?",
        "Lleva botas impermeables, un forro polar y un chubasquero. Añade una linterna, porque anochece pronto, y "
        "comida y agua para todo el día.",
    ),
    (
        "请用一句话解释什么是电流。",
        "电流是电荷在导体中的定向移动，单位是安培。",
    ),
    (
        "Как хранить хлеб?",
        "Храните хлеб в хлебнице или бумажном пакете, но не в холодильнике.",
    ),
    (
        "Describe the sea in winter in two lines of verse.",
        "Grey upon grey, the long waves lean and break,\nand leave the cold shore shining in their wake.",
    ),
    (
        "Write a short message to my landlord: the kitchen tap drips, ask when someone can come.",
        "Dear Ms Harrow,\n\nThe tap in our kitchen has been dripping since Sunday, and it is getting worse. Could "
        "you send someone to look at it? I am at home on weekdays after four and all day on Saturday.\n\nKind "
        "regards,\nJonas",
    ),
    (
        "What is the difference between weather and climate?",
        "Weather is what the air does on a given day: rain, wind, heat. Climate is what it does on average over "
        "decades, so a single cold week says nothing about it.",
    ),
    (
        "Who wrote the letter?",
        "I do not know which letter you mean. Tell me a little more about it, and I will try to help.",
    ),
    (
        "List the planets from the sun outward, separated by commas.",
        "Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus, Neptune",
    ),
    (
        "I have two cats and a dog.",
        "That sounds like a lively home! How do they get along?",
        "The cats ignore the dog. How many animals do I have?",
        "You have three animals: two cats and one dog.",
    ),
    (
        "Rewrite politely: Send me the file now.",
        "Could you please send me the file when you have a moment?",
        "Shorter.",
        "Could you send me the file, please?",
    ),
    (
        "Make a table of the first four square numbers.",
        "| n | n² |\n| --- | --- |\n| 1 | 1 |\n| 2 | 4 |\n| 3 | 9 |\n| 4 | 16 |",
    ),
    (
        "What should I check before I buy a used bicycle?",
        "Look at the frame for cracks and dents, most of all at the welds. Spin the wheels: they should run true "
        "and not rub. Check how far the chain and the brake pads are worn, and whether the gears change cleanly "
        "under load. Then compare the number on the frame with the receipt, and ride it for ten minutes before "
        "you pay.",
    ),
    (
        "Complete the sentence: If I had known that it would rain,",
        "I would have taken an umbrella, or at least a hat.",
    ),
    (
        "Convert 5 miles to kilometres.",
        "One mile is 1.609 km, so 5 miles are about 8.05 km.",
    ),
)


def built_in_records() -> list[Record]:
    """Returns the conversations as records, each with an assistant's turn at its end."""
    roles = ("user", "assistant")
    return [
        Record(
            tuple({"role": roles[turn % 2], "content": text} for turn, text in enumerate(turns)),
            Place("built-in conversations", number + 1),
        )
        for number, turns in enumerate(_CONVERSATIONS)
    ]
