"""The open slot values of the training set, as phrases of the grammar in `grammar.py`; `<name>` is an invented word."""

from __future__ import annotations

PARTS = {
    "first": "(Ada|Ben|Clara|Dario|Elif|Femi|Greta|Hassan|Ines|Jonas|Karim|Lotte|Mateo|Nadia|Olek|Paula|Rosa|Samir|"
    "Tilda|Umar|Vera|Wim|Yusuf|Zoe|Anna|Carlos|Dmitri|Esther|Freya|Gus|Helen|Ivo|Julia|Kemal|Leo|Mina|Noah|Otis|"
    "Priya|Sofia|Theo|Walter|Mei|Tom|Lucy|Björn|José|Zoë)",
    "kin": "(mum|dad|grandma|grandpa|my sister|my brother|my boss|my neighbour|the landlord|the plumber)",
    "adjective": "(Silver|Velvet|Quiet|Broken|Golden|Empty|Electric|Paper|Crooked|Gentle|Scarlet|Frozen|Hollow|Lazy|"
    "Bitter|Northern|Restless|Plastic|Wooden|Lonely|Midnight|Second|Wild|Tiny|Rusty)",
    "noun": "(Harbour|Orchard|Lantern|River|Window|Mirror|Engine|Garden|Feather|Station|Compass|Winter|Bridge|Canyon|"
    "Signal|Ladder|Tiger|Anchor|Island|Pocket|Sailor|Thunder|Balcony|Meadow|Circus)",
    "nouns": "(Wolves|Pilots|Lanterns|Bakers|Comets|Strangers|Rivers|Painters|Foxes|Candles|Drifters|Neighbours|"
    "Sparrows|Twins|Astronauts|Gardeners|Magnets|Postcards)",
    "thing": "(plants|bins|car|bike|dishwasher|passport|rent|gas bill|library books|tickets|printer ink|homework|"
    "smoke alarm|suitcase|winter coats|tax form|garden hose|piano|fish tank|parcel|spare keys|laundry|tyres|chairs)",
    "whom": "(the dentist|the bank|<first>|grandma|the vet|my cousin|the school|the plumber|aunt <name>|uncle <first>|"
    "doctor <name>|the insurance|the garage|the hairdresser)",
    "food": "(oat milk|rye bread|red lentils|olive oil|green apples|brown sugar|goat cheese|frozen peas|black tea|"
    "tomato paste|rice|butter|smoked tofu|cherry jam|spinach|walnuts|sea salt|orange juice|eggs|honey|potatoes|onions|"
    "peanut butter|crackers|yoghurt|dark chocolate|coffee beans|carrots|lemons|mustard|flour|bananas|pasta|garlic)",
    "goods": "(batteries|candles|dish soap|toothpaste|paper towels|dog food|light bulbs|tape|shampoo|sun cream|"
    "tent pegs|"
    "a sleeping bag|wrapping paper|matches|a water bottle|bin bags|nails|sandpaper|a new broom|paint brushes|socks|"
    "cat litter|a torch|gift cards|napkins|balloons|stamps|a phone charger|wool|string)",
    "amount": "(two bags of|three jars of|a box of|six packs of|a bottle of|half a kilo of|some|more|a tin of|four)",
}

VALUES: dict[str, tuple[str, ...]] = {
    "room": (
        "(kitchen|bedroom|living room|bathroom|hallway|attic|basement|garage|office|nursery|dining room|study|den|loft|"
        "laundry room|playroom|guest room|porch|cellar|pantry|library|studio|workshop|conservatory|landing|sauna)",
        "(upstairs|downstairs|back|small|big|front|second|old|green|yellow|corner) (bedroom|bathroom|office|hallway|"
        "room|kitchen|lounge|studio)",
        "(music|reading|sewing|games|tool|tea|storage|train|plant|painting|bike|boot|puppet|map) (room|corner|cave|"
        "nook)",
        "<first>'s (room|bedroom|office|corner|den|place)",
        "(<name>|<name> room|blue lagoon|tower|nest|captain's cabin|cinema|bunker|cave|snug)",
        "(rocket|moon|river|star|garden|whale|paper|winter) (ship|base|deck|fort|house|camp|dock|barn)",
    ),
    "color": (
        "(red|blue|green|orange|purple|pink|yellow|warm white|cool white|turquoise|violet|amber|gold|teal|lavender)",
        "(deep|pale|soft|dark|bright|light|dusty|icy) (red|blue|green|orange|purple|pink|yellow|violet|teal)",
        "(sea green|sky blue|brick red|mint green|lemon yellow|wine red|forest green|sunset orange|candle white)",
    ),
    "label": (
        "(pasta|rice|eggs|bread|laundry|pizza|tea|cake|roast|soup|potatoes|cookies|homework|nap|workout|dishwasher|"
        "chicken|noodles|bath|dough|beans|yoga|face mask|hair dye|quiz|board game|piano practice|study break|stew)",
        "(apple|cheese|carrot|lentil|mushroom|lemon|garlic|onion) (pie|bread|soup|stew|bake|cake|dip|tart)",
        "(first|second|last|long|short) (round|break|nap|stretch|batch|wash|run)",
        "<name> (stew|pie|practice|dance)",
    ),
    "text": (
        "(call|ring|visit|email|write to|thank|pay) <whom> [about (the bill|saturday|the party|the trip|the keys)]",
        "(clean|check|move|sort|pack|fix|sell|pick up|bring in|put away|look at|take care of) the <thing>",
        "(water|feed|wash|brush|walk) the (plants|dog|cat|rabbits|tomatoes|horse|puppy|roses|ferns|hamster)",
        "(buy|order|get|pick up) [<amount>] (<food>|<goods>)",
        "(take|bring) (the <thing>|the <goods>) (to <whom>|back to the shop|down to the cellar|over to <first>)",
        "(book|cancel|change|confirm) the (table|flight|hotel|appointment|train tickets|piano lesson|meeting) "
        "[with <first>|for <first>]",
        "(take my pills|do my stretches|charge the phone|back up the laptop|sign the form|renew the passport|"
        "defrost the chicken|turn off the sprinkler|lock the shed|read chapter nine|practise the violin|"
        "drink some water)",
        "ask <whom> (for the <thing>|to look at the <thing>|about the <thing>)",
        "(meet <first> at the station|pick up <first> from (school|the airport)|"
        "wish <first> (a happy birthday|good luck))",
    ),
    "item": (
        "[<amount>] <food>",
        "<goods>",
        "(blue|large|small|fresh|cheap|organic|spare) (<food>|batteries|candles|towels|napkins|plates|buttons|cups)",
        "<food> and <food>",
        "(<name> (cheese|sauce|tea|powder)|a gift for <first>|flowers for <kin>|a card for <first>)",
    ),
    "list": (
        "(shopping|grocery|packing|camping|birthday|holiday|party|hardware|garden|school|pharmacy|christmas|wedding|"
        "picnic|moving|cleaning|wish|travel|baby|weekend|office|bakery|market|reading|summer|pet|beach|ski)",
        "(camping|birthday|road|beach|garden|school|ski|summer|city) (trip|party|project|fair|weekend)",
        "(<first>'s|our|big|weekly|monthly|second) (shopping|party|packing|food|dinner|birthday|farm)",
        "(<name>|<name> trip)",
    ),
    "title": (
        "<adjective> <noun>",
        "The <adjective> <noun>",
        "<noun> (and|of|without) (<noun>|<nouns>)",
        "(Letters to|Dancing with|Waiting for|Goodbye|Song for|Half of|Under the|Nobody Knows|Meet Me Near) "
        "(<name>|<noun>|the <noun>|<first>)",
        "(Running|Falling|Sleeping|Burning|Counting|Painting) (<nouns>|Slowly|Again|All Day|Upstairs|Backwards)",
        "(Seven|Twelve|A Thousand|Too Many|No More|Almost) <nouns>",
        "(Where|When|Why) the <nouns> (Sleep|Sing|Go|Hide|Dance)",
        "(Don't|You Can|We Never|I Will|She Used to) (Wake|Call|Follow|Paint|Carry) (<first>|the <nouns>|Me Home)",
        "<name>",
    ),
    "artist": (
        "The <adjective> <nouns>",
        "The <nouns>",
        "<first> <name>",
        "<first> and the <nouns>",
        "<noun> <noun>",
        "<name>",
        "(DJ|Lady|Little|Old|Captain|Doctor) (<name>|<noun>|<first>)",
    ),
    "playlist": (
        "(slow|happy|late|rainy|sunny|lazy|loud|quiet|early|deep) (sunday|morning|evening|kitchen|drive|summer|"
        "focus|dinner)",
        "(workout|cooking|party|jazz|sleep|road trip|dinner|study|cleaning|chill|dance|piano|folk|running|breakfast|"
        "rock)",
        "(<first>'s|best of|songs for|more) (<name>|running|driving|cooking|summer|coffee|the gym|winter)",
        "<adjective> <nouns>",
        "<name>",
    ),
    "door": (
        "(front|back|side|garage|kitchen|cellar|balcony|porch|patio|shed|basement|main|garden|attic|office) door",
        "(garden|side|front|back|drive|iron|little|pool|field) gate",
        "(green|red|old|second|upstairs|left|right|glass|steel|wooden) (door|gate)",
        "(<first>'s|<name>) door",
        "(garage|shed|barn|cottage|greenhouse|bike shed)",
    ),
    "person": (
        "<first>",
        "<first>",
        "<name>",
        "<kin>",
        "(aunt|uncle|doctor|coach|cousin) (<first>|<name>)",
        "<first> <name>",
    ),
    "message": (
        "(i am|i'm|we are|we're|i will be) (running late|on my way|almost there|at the station|stuck in traffic|"
        "home by six|"
        "at the shop|still at work|leaving now|outside|ready to go|ten minutes late|out of <food>)",
        "(dinner|the soup|the cake|lunch|the <thing>|the room) is (ready|almost done|on the table|late|finally here)",
        "the (<thing>|meeting|concert|lesson|game|bus) is (cancelled|late|fixed|at <first>'s place|in the car|sold)",
        "(i|we) (found|forgot|lost|bought|fixed|need|sold|left) (the <thing>|your <thing>|<food>|"
        "<goods>) [at <first>'s place]",
        "my friend <first> (is here|has the keys|called twice|is asleep|wants to come too|will bring the <food>)",
        "(i|we) (can't|won't) (come to the party|find the <thing>|make it to dinner|open the shed|reach <first>)",
    ),
    "words": (
        "(happy birthday|good luck with the exam|see you at the station|thanks for the <food>|sorry about the <thing>)",
        "(call me back|bring the <thing>|don't forget the <goods>|wait for <first>|buy <food>|"
        "meet us at the <noun> cafe)",
        "(dinner|the bus|the <thing>) is (here|late|ready)",
        "(i am|i'm|we are) (on the way|at <first>'s place|not coming)",
    ),
    "device": (
        "(heater|fan|oven|stove|kettle|washing machine|dishwasher|television|radio|printer|air conditioner|"
        "coffee maker|"
        "iron|toaster|boiler|freezer|fridge|lamp|sprinkler|router|speaker|dryer|doorbell|electric blanket|fish tank)",
        "(old|big|small|second|electric|new) (heater|fan|oven|radio|television|fridge|speaker|kettle|camera)",
        "(rice|egg|pool|garden|floor|water|hair|bread) (cooker|pump|heater|machine|dryer|lamp|fountain)",
        "(<name> (lamp|machine|speaker)|<first>'s (radio|computer|lamp|heater))",
    ),
}
