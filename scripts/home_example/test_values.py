"""The open slot values of the held-out test set: other words and names than those of the training set."""

from __future__ import annotations

PARTS = {
    "first": "(Agnes|Boris|Celeste|Dunja|Emre|Fiona|Gwen|Hugo|Imani|Jasper|Kirsten|Lionel|Maeve|Nils|Odette|Pedro|"
    "Quinn|Ruth|Stella|Tariq|Ulla|Viktor|Wanda|Xenia|Yara|Zane|Søren|Chloé)",
    "kin": "(my aunt|my uncle|granny|my daughter|my son|the babysitter|my teacher|the electrician)",
    "adjective": "(Copper|Marble|Distant|Burning|Faded|Secret|Sleepy|Crystal|Southern|Clever|Stolen|Purple|Heavy|"
    "Salty)",
    "noun": "(Carousel|Lighthouse|Umbrella|Valley|Telescope|Autumn|Kite|Tunnel|Pillow|Desert|Violin|Airport|Cathedral)",
    "nouns": "(Owls|Dancers|Mountains|Clocks|Whales|Pirates|Shadows|Tailors|Beetles|Kings|Umbrellas|Farmers)",
    "thing": "(gutters|curtain rail|lawn mower|wardrobe|camera|contract|rucksack|bird feeder|carpet|phone bill|ladder|"
    "violin strings|swimming gear|windscreen|water filter|visa form)",
    "whom": "(the optician|the florist|my landlady|<first>|the tax office|the bakery|aunt <first>|mister <name>|"
    "the tailor)",
    "food": "(soy yoghurt|white beans|sunflower oil|pears|maple syrup|feta|sweet corn|green tea|plums|oatmeal|pickles|"
    "ginger|chickpeas|almonds|raisins|tortillas|mango juice|celery|blue cheese|couscous|vanilla sugar)",
    "goods": "(a bucket|clothes pegs|hand cream|tissues|cat food|fuses|glue|conditioner|mosquito spray|a folding chair|"
    "ribbon|screws|sponges|a tent|gloves|envelopes|a picnic blanket|ice cubes|plant pots)",
    "amount": "(five packs of|two bottles of|a jar of|a bag of|three boxes of|a kilo of|a few)",
}

VALUES: dict[str, tuple[str, ...]] = {
    "room": (
        "(utility room|veranda|lounge|music studio|mud room|wine cellar|boathouse|greenhouse|gallery|spare room|gym|"
        "sunroom|dressing room|closet|mezzanine|family room|home cinema|entrance hall)",
        "(left|right|blue|red|tall|narrow|new|west|east) (bedroom|bathroom|office|room|lounge|study)",
        "(chess|craft|puzzle|yoga|comic|fish|model|guitar) (room|corner|nook|den)",
        "<first>'s (room|bedroom|office|corner|studio)",
        "(<name>|<name> room|dungeon|pirate ship|treehouse|crow's nest)",
    ),
    "color": (
        "(magenta|crimson|cyan|indigo|peach|coral|ivory|lilac|maroon|salmon|mustard)",
        "(rich|faint|muted|warm|strong|smoky) (red|blue|green|orange|purple|pink|yellow)",
        "(ocean blue|apple green|cherry red|sand yellow|moonlight white|rose pink)",
    ),
    "label": (
        "(lasagne|dumplings|muffins|porridge|turkey|lentils|waffles|meditation|shower|sourdough|marinade|jigsaw|"
        "parking|"
        "pudding|ironing|chess game|push ups|glue|steak)",
        "(pumpkin|tomato|fish|leek|plum|ginger) (pie|soup|bread|cake|curry)",
        "<name> (soup|game|cake)",
    ),
    "text": (
        "(call|ring|visit|email|write to|thank) <whom> [about (the invoice|monday|the concert|the roof)]",
        "(clean|check|repair|return|measure|pick up|put away|paint) the <thing>",
        "(water|feed|wash|brush|walk) the (cactus|parrot|orchids|goats|guinea pig|basil|pony|neighbour's cat)",
        "(buy|order|get|pick up) [<amount>] (<food>|<goods>)",
        "take the <thing> (to <whom>|back to the store|up to the attic|over to <first>)",
        "(book|cancel|change) the (haircut|ferry|court|rental car|check up|dance class) [with <first>|for <first>]",
        "(empty the dryer|update the calendar|stretch my back|download the tickets|bake the bread|cover the pool|"
        "learn the poem|tune the guitar|change the sheets|descale the kettle)",
        "ask <whom> (for the <thing>|about the <thing>)",
    ),
    "item": (
        "[<amount>] <food>",
        "<goods>",
        "(ripe|frozen|thick|long|soft) (<food>|gloves|sponges|ribbon)",
        "<food> and <food>",
        "(<name> (bread|soap|spice)|a present for <first>|a book for <kin>)",
    ),
    "list": (
        "(supermarket|festival|hiking|barbecue|sewing|gift|anniversary|kitchen|sailing|halloween|drugstore|brunch|"
        "spring)",
        "(sailing|hiking|easter|family|museum) (trip|party|tour|brunch)",
        "(<first>'s|daily|other) (grocery|craft|wedding|lunch)",
        "(<name>|<name> tour)",
    ),
    "title": (
        "<adjective> <noun>",
        "The <adjective> <noun>",
        "<noun> (and|of|without) <nouns>",
        "(Postcards from|Walking with|Lost near|Hello|Lullaby for) (<name>|<first>|the <noun>)",
        "(Seven|Nine|A Million|Not Enough) <nouns>",
        "(Where|How) the <nouns> (Sleep|Travel|Dream)",
        "(Never|We Could|You Always) (Leave|Remember|Catch) (<first>|the <nouns>)",
        "<name>",
    ),
    "artist": (
        "The <adjective> <nouns>",
        "The <nouns>",
        "<first> <name>",
        "<first> and the <nouns>",
        "<noun> <noun>",
        "<name>",
        "(Professor|Sister|Young) (<name>|<noun>|<first>)",
    ),
    "playlist": (
        "(calm|stormy|busy|golden|sleepy|fresh) (monday|afternoon|garden|train|autumn|lunch|night)",
        "(stretching|baking|painting|gaming|classical|holiday|guitar|swing|gardening|focus time)",
        "(<first>'s|best of|songs for) (<name>|walking|spring|the beach|the night shift)",
        "<adjective> <nouns>",
        "<name>",
    ),
    "door": (
        "(terrace|laundry|studio|stable|guest|hall|pantry|roof|library) door",
        "(orchard|south|north|bike|rear|wooden) gate",
        "(blue|white|middle|downstairs|heavy|narrow) door",
        "(<first>'s|<name>) door",
        "(tool shed|boathouse|summer house|wine cellar)",
    ),
    "person": ("<first>", "<first>", "<name>", "<kin>", "(aunt|uncle|doctor|coach) (<first>|<name>)", "<first> <name>"),
    "message": (
        "(i am|i'm|we are|we're) (at the dentist|nearly home|waiting upstairs|late for work|on the train|lost in town|"
        "out of <food>|in the garden|done with the <thing>)",
        "(breakfast|the barbecue|the <thing>|the taxi) is (ready|nearly done|outside|broken)",
        "the (<thing>|class|match|rehearsal|ferry) is (delayed|off|repaired|in the hall|at <first>'s flat)",
        "(i|we) (saw|packed|broke|borrowed|ordered|need) (the <thing>|your <thing>|<food>|<goods>)",
        "my friend <first> (is waiting|has a fever|found the wallet|wants to talk|will bring the <food>)",
        "(i|we) (can't|won't) (come to the match|find the <thing>|be there tonight|reach <first>)",
    ),
    "words": (
        "(congratulations on the job|get well soon|see you at the harbour|thanks for the <food>)",
        "(water the orchids|bring the <thing>|don't forget the <goods>|wait for <first>)",
        "(the taxi|our guest|the <thing>) is (here|late|ready)",
        "(i am|i'm|we are) (still in bed|at <first>'s flat|too tired)",
    ),
    "device": (
        "(dehumidifier|blender|projector|humidifier|tumble dryer|space heater|microwave|scanner|ventilator|vacuum pump|"
        "hot tub|wine cooler|treadmill|record player|sewing machine|grill|air purifier)",
        "(white|red|tall|broken|portable) (heater|fan|radio|lamp|freezer)",
        "(waffle|slow|bird|patio|aquarium|foot) (cooker|iron|bath|heater|light|warmer)",
        "(<name> (radio|heater)|<first>'s (laptop|console|amplifier))",
    ),
}
