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
    (
        "How do tides come about?",
        "The moon pulls on the near side of the earth more strongly than on the far side. The water is stretched "
        "along that line and rises in two bulges, one towards the moon and one away from it. As the earth turns "
        "below them, most coasts see high water twice a day, about twelve and a half hours apart. The sun does the "
        "same with a little less than half the strength. When both pull along one line, at full and new moon, the "
        "range is largest; at half moon it is smallest.",
    ),
    (
        "What happens when a court of appeal sends a case back?",
        "The higher court sets the judgment aside, wholly or in part, and returns the case to the court it came "
        "from. That court must hear it again and is bound by what was said about the law. It may still find other "
        "facts, so the new judgment can have the same result as the old one, but it has to rest on other reasons.",
    ),
    (
        "My daughter has a temperature of 38.4 and a sore throat. What should I do?",
        "A temperature of 38.4 degrees is a mild fever and often goes away by itself. Let her rest, offer her drinks "
        "often, and give a medicine against fever only if she feels bad. Call a doctor if she is younger than three "
        "months, if the fever lasts more than three days, if she has trouble breathing or swallowing, or if she is "
        "hard to wake. I cannot examine her, so when in doubt, please ask a doctor today.",
    ),
    (
        "Fix the grammar: Yesterday me and him has went to the market for buy some apples, but they was all selled "
        "out already.",
        "Yesterday he and I went to the market to buy some apples, but they were already sold out.\n\nWhat changed:\n"
        '- "me and him" is the subject, so it becomes "he and I".\n- "has went" becomes the simple past, "went".\n- '
        '"for buy" becomes "to buy".\n- "they was" becomes "they were", and the participle of "sell" is "sold".',
    ),
    (
        "Write the opening of a story about a lighthouse keeper who finds a door in the sand.",
        "On the third morning after the storm, Ansel found the door. It lay flat in the sand below the tower, grey "
        "as driftwood, with a brass handle that somebody had polished. He walked around it twice. Then he knelt, "
        "laid his ear against the wood, and heard what he had heard every night for eleven years from the other side "
        "of the water: a bell, a dog, and a woman calling his name. He looked back at the lamp. It would not need "
        "him before dusk.",
    ),
    (
        "Explain what this function does:\n\nfunction debounce(fn, ms) {\n  let timer;\n  return (...args) => {\n    "
        "clearTimeout(timer);\n    timer = setTimeout(() => fn(...args), ms);\n  };\n}",
        "`debounce` takes a function `fn` and a delay in milliseconds. It returns a new function that puts off the "
        "call:\n\n1. Each time the new function is called, `clearTimeout` cancels the call that was waiting.\n2. "
        "Then `setTimeout` starts the delay again with the latest arguments.\n3. Only when no further call comes for "
        "`ms` milliseconds is `fn` run, once.\n\nThis is useful for a search box: the request is sent when the user "
        "stops typing, not at every key.",
    ),
    (
        "Write a C function that counts the set bits of a 32-bit number.",
        "```c\n#include <stdint.h>\n\nint count_bits(uint32_t x) {\n    int count = 0;\n    while (x != 0) "
        "{\n        x &= x - 1;  /* clears the lowest set bit */\n        count++;\n    }\n    return count;\n}\n"
        "```\nThe loop runs once for each set bit, so at most 32 times.",
    ),
    (
        "A rectangle is 3 cm longer than it is wide, and its area is 54 square centimetres. How long are its sides?",
        "Let the width be w. Then the length is w + 3, and the area gives\n\nw(w + 3) = 54\nw² + 3w - 54 = 0\n(w - "
        "6)(w + 9) = 0\n\nSo w = 6 or w = -9. A width cannot be negative, so the rectangle is 6 cm wide and 9 cm "
        "long. Check: 6 * 9 = 54.",
    ),
    (
        "If all the roses in the vase are red, and some red flowers fade quickly, do some of the roses fade quickly?",
        "That does not follow. We know that every rose in the vase is red, and that some red flowers fade quickly. "
        "But the red flowers that fade quickly may all be tulips or poppies. The roses could be among them, or they "
        "could not: the two statements leave it open.",
    ),
    (
        "Give me the steps to repot a house plant.",
        "1. Water the plant the day before, so that the roots come out of the pot easily.\n2. Choose a pot that is "
        "two to three centimetres wider, with a hole in its bottom.\n3. Cover the hole with a shard and put in a "
        "layer of fresh soil.\n4. Tip the plant out, loosen the outer roots with your fingers, and cut off those "
        "that are brown and soft.\n5. Set it in as deep as it stood before, fill up with soil, and press gently.\n6. "
        "Water it well, and keep it out of the midday sun for a week.",
    ),
    (
        "Sort these animals by weight, heaviest first, as a JSON list: cat, elephant, mouse, horse, goose",
        '["elephant", "horse", "goose", "cat", "mouse"]',
    ),
    (
        "Turn this into YAML: server on port 8080, two workers, logs to /var/log/app.log, debug off",
        "```yaml\nserver:\n  port: 8080\n  workers: 2\nlogging:\n  path: /var/log/app.log\ndebug: false\n```",
    ),
    (
        "play some quiet piano music in the study and wake me tomorrow at a quarter to seven",
        '[{"intent": "play_music", "slots": {"genre": "piano", "mood": "quiet", "room": "study"}}, {"intent": '
        '"set_alarm", "slots": {"date": "tomorrow", "time": "06:45"}}]',
    ),
    (
        'Classify the ticket as billing, login, delivery or other, and give your reason in one sentence: "I was '
        'charged twice for my March subscription, and now I cannot see my invoices."',
        "billing: the customer was charged twice, and the missing invoices concern the same payment.",
    ),
    (
        "What did people in cities do for light before electricity?",
        "For a long time the streets were dark, and whoever went out at night carried a lantern or paid a boy with a "
        "torch. Houses had candles of tallow or, for those who could afford it, of beeswax, and lamps that burned "
        "oil of plants or whales. In the nineteenth century gas came through pipes under the streets, first to lamps "
        "and theatres, later to homes. It was bright but hot, and it used up the air. Electric light replaced it "
        "within about fifty years.",
    ),
    (
        "Compare buying and renting a flat. Keep it short.",
        "**Buying**\n- You build up property and cannot be given notice.\n- You need savings to begin with, and "
        "repairs are yours to pay.\n- Moving is slow and costly.\n\n**Renting**\n- You stay flexible, and the owner "
        "pays for repairs.\n- The rent may rise, and nothing of it comes back to you.\n\nAs a rule of thumb, buying "
        "pays if you stay for at least seven to ten years.",
    ),
    (
        "Write a product description of a wool blanket, about fifty words.",
        "Woven in a small mill from the wool of mountain sheep, this blanket keeps you warm without weighing you "
        "down. The undyed yarn comes in three natural shades, from oat to charcoal. It is large enough for two on "
        "the sofa, airs clean overnight, and grows softer with every winter that you spend under it.",
    ),
    (
        "Why do my boiled eggs crack?",
        "Most often because cold eggs meet boiling water: the air inside expands faster than it can leave through "
        "the shell. Take the eggs out of the fridge half an hour before, or start them in cold water. You can also "
        "prick the round end, where the air is. A gentle simmer helps too, since in a rolling boil the eggs knock "
        "against each other.",
    ),
    (
        "Explain recursion to a child.",
        "Imagine a box. Inside is a smaller box, and in that one a smaller box still. You want to find the sweet in "
        "the last one. So you follow one rule: open the box; if there is another box inside, do the same with it. At "
        "some point there is no box any more, only the sweet, and you are done. A rule that uses itself on something "
        "smaller, until it is small enough to be easy, is called recursion.",
    ),
    (
        "How many ways are there to seat four people in a row?",
        "For the first seat there are 4 people to choose from, for the second 3, for the third 2, and for the last "
        "1. That makes 4 * 3 * 2 * 1 = 24 ways.",
    ),
    (
        "Is it safe to store passwords with MD5?",
        "No. MD5 is so fast that an attacker with a graphics card can try billions of passwords a second, and "
        "without a salt equal passwords get equal hashes. Use a function made for the purpose, such as Argon2id, "
        "scrypt or bcrypt, with a random salt for each user and a cost that takes your server about a tenth of a "
        "second.",
    ),
    (
        "Answer as a pirate: where is the nearest bakery?",
        "Arr, ye hungry soul! Sail down Harbour Street till ye see the old anchor, turn to starboard at the church, "
        "and follow yer nose. Two doors on ye'll find fresh bread, and no finer buns were ever plundered from here "
        "to Tortuga!",
    ),
    (
        "I want to learn the guitar. I have half an hour a day.",
        "Half an hour a day is plenty to start with. Do you have a guitar already, and is there a song that you "
        "would like to play?",
        "Yes, an old one of my uncle's, and I like slow folk songs.",
        "Then let us begin with three chords: G, C and D. Many folk songs need no more. In the first week, spend ten "
        "minutes tuning and plucking single strings, and twenty on changing from one chord to the next, slowly and "
        "evenly. From the second week on, play along with a song at half its speed. Have your uncle's strings "
        "changed first: old ones are hard on the fingers and do not stay in tune.",
    ),
    (
        "Draw up a packing list for a weekend by the sea with two small children.",
        "**Clothes**\n- two sets a child for each day, one of them warm\n- rain jackets, rubber boots, swimwear, sun "
        "hats\n\n**Beach**\n- towels, a blanket, buckets and spades\n- sun cream, water, fruit, wet wipes\n\n"
        "**Nights**\n- pyjamas, the cuddly toys, a night light\n- a thermometer, plasters, any medicine",
    ),
    (
        "What is the boiling point of water on a mountain 3,000 m high?",
        "About 90 °C. The air pressure there is only some 70% of that at sea level, and as a rule of thumb the "
        "boiling point falls by one degree for every 300 metres. Pasta and potatoes therefore take noticeably longer "
        "to cook.",
    ),
    (
        "Schreibe eine kurze Absage auf eine Einladung zum Geburtstag.",
        "Liebe Katrin,\n\nvielen Dank für deine Einladung! Leider kann ich am Samstag nicht kommen, weil wir an "
        "diesem Wochenende meine Eltern in Kiel besuchen. Ich wünsche dir ein schönes Fest und würde gern in der "
        "Woche darauf mit dir nachfeiern. Hast du am Donnerstag Zeit?\n\nHerzliche Grüße\nTobias",
    ),
    (
        "Résume ce message en une phrase : Bonjour, suite à la panne de la chaudière, l'immeuble sera sans eau "
        "chaude mardi de 8 h à 14 h. Le technicien passera dans chaque appartement. Merci de laisser quelqu'un "
        "ouvrir la porte.",
        "Mardi de 8 h à 14 h, il n'y aura pas d'eau chaude, et quelqu'un doit ouvrir la porte de l'appartement au "
        "technicien.",
    ),
    (
        "Come si prepara un buon caffè con la moka?",
        "Riempi la caldaia di acqua fino alla valvola, poi metti il filtro e riempilo di caffè macinato senza "
        "premerlo. Avvita bene la moka e mettila sul fuoco basso. Quando il caffè comincia a gorgogliare, spegni "
        "subito, altrimenti diventa amaro. Mescolalo prima di versarlo nelle tazzine.",
    ),
    (
        "Quais são as fases da lua?",
        "São quatro as fases principais: lua nova, quarto crescente, lua cheia e quarto minguante. O ciclo inteiro "
        "dura cerca de vinte e nove dias e meio, e a luz que vemos é sempre a do sol refletida.",
    ),
    (
        "Napisz jedno zdanie o jesieni.",
        "Jesienią liście żółkną i spadają, a wieczory są coraz dłuższe i chłodniejsze.",
    ),
    (
        "Расскажи коротко, зачем деревья сбрасывают листья.",
        "Зимой деревьям трудно брать воду из холодной земли, а листья испаряют её много. Поэтому осенью дерево "
        "забирает из листьев полезные вещества и сбрасывает их. Так оно бережёт воду, и снег не ломает ветви.",
    ),
    (
        "写一首关于雨的短诗。",
        "细雨落在窗前，\n灯光映着路面，\n远处有人撑伞，\n慢慢走过桥边。",
    ),
    (
        "傘を忘れたと友達に伝える短いメッセージを書いてください。",
        "昨日、君の家に傘を忘れてしまいました。明日の夕方に取りに行ってもいいですか。",
    ),
    (
        "서울에서 부산까지 얼마나 걸리나요?",
        "고속 열차로는 두 시간 반쯤, 자동차로는 다섯 시간쯤 걸립니다.",
    ),
    (
        "Πώς λέγεται η πρωτεύουσα της Ελλάδας;",
        "Η πρωτεύουσα της Ελλάδας είναι η Αθήνα.",
    ),
    (
        "ما هي عاصمة مصر؟",
        "عاصمة مصر هي القاهرة، وهي تقع على نهر النيل.",
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
