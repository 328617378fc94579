"""Word lists of the curriculum: ordinary English, written for this project. Each list is a tuple of strings."""

from __future__ import annotations


def entries(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


FIRST_NAMES = entries(
    """
    Ada Adam Agnes Ahmed Aisha Alan Albert Alice Amara Amelia Amir Amy Ana Andrew Anika Anna Anton Arthur Asha
    Astrid Beatrix Ben Bella Boris Brenda Bruno Carla Carlos Carmen Cecilia Charlie Chen Chloe Clara Claude
    Colin Dalia Dan Daniel David Dean Delia Dennis Diana Diego Dmitri Dora Edith Eduardo Elena Eli Ella Elsa
    Emil Emily Emma Eric Erin Esther Ethan Eva Farah Felix Fiona Frank Freya Gabriel George Gina Grace Greta
    Gustav Hana Hannah Harold Harry Hassan Hector Helen Henry Hugo Ian Ida Igor Imogen Ines Ingrid Irene Isaac
    Isla Ivan Ivy Jack Jacob James Jane Jasper Javier Jenny Jerome Joan Joel John Jonas Joseph Josie Julia June
    Karim Kate Keith Kenji Kim Klaus Lara Lars Laura Layla Leah Leo Leon Lena Liam Lily Linda Lotte Louis Lucas
    Lucy Luis Lydia Mabel Magnus Malik Marco Maria Marie Mark Martha Martin Mary Matteo Maya Mei Mia Michael
    Mila Milo Mina Mohamed Molly Mona Nadia Naomi Nasir Natalie Neil Nico Nina Noah Nora Oliver Olga Omar Oscar
    Otto Pablo Paula Pedro Peter Petra Philip Pia Priya Quentin Rachel Rafael Raj Ravi Rebecca Rita Robert Robin
    Rosa Rose Ruby Rupert Ruth Sally Sam Samira Sandra Sara Sean Selma Simon Sofia Sonia Stefan Stella Susan
    Sven Tara Tess Theo Thomas Tim Tina Tom Tony Uma Ursula Vera Victor Viola Walter Wanda Wendy Will Xavier
    Yara Yusuf Zara Zoe Ling Björn Zoë Renée José Jürgen Søren Núria André Chloé Måns
    """
)

SURNAMES = entries(
    """
    Abbott Adeyemi Ahmed Alvarez Anders Archer Baker Banerjee Barnes Becker Bell Bennett Berg Bishop Blake Bond
    Bowen Brandt Brooks Brown Burke Carter Castro Chan Chen Clarke Cole Cooper Costa Cox Cruz Dalton Davies Dean
    Diaz Dixon Dubois Duncan Eaton Ellis Evans Farrell Fischer Fletcher Foster Fox Garcia Gibbs Gomez Gray Green
    Griffin Gupta Hale Hansen Harper Hart Hayes Hill Holm Howard Hughes Hunt Ibrahim Ito Jackson Jensen Jones
    Kahn Keller Kelly Khan King Klein Knight Kowalski Kumar Lane Larsen Lee Lopez Lowe Lund Marsh Martin Mason
    Meyer Miller Mills Moore Morales Morgan Moss Murphy Nair Nash Nguyen Novak Nowak Okafor Olsen Osman Owens
    Palmer Park Parker Patel Pearce Perez Petrov Pope Porter Price Quinn Ramos Reed Reyes Rhodes Rice Rivera
    Roberts Rossi Rowe Russo Ryan Sanders Santos Sato Schmidt Scott Shah Sharma Shaw Silva Singh Smith Stein
    Stone Suzuki Tanaka Taylor Thorne Torres Turner Underwood Vance Vargas Vogel Wagner Walsh Ward Watson Webb
    Weber West White Wolf Wong Wood Wright Yates York Young Zhang Zimmer Müller Gonçalves Østergaard
    """
)

CITIES = entries(
    """
    Aberdeen Accra Amsterdam Athens Austin Bangkok Barcelona Belfast Bergen Berlin Bogota Boston Bristol
    Brussels Budapest Cairo Calgary Cardiff Chicago Copenhagen Cork Dakar Dallas Delhi Denver Dresden Dublin
    Edinburgh Florence Geneva Genoa Glasgow Hamburg Hanoi Havana Helsinki Istanbul Jakarta Kyoto Lagos Leeds
    Lima Lisbon Liverpool London Lyon Madrid Malmö Manchester Manila Marseille Melbourne Miami Milan Montreal
    Moscow Mumbai Munich Nairobi Naples Nice Norwich Osaka Oslo Oxford Paris Perth Porto Prague Quito Rabat Riga
    Rome Rotterdam Santiago Seattle Seoul Seville Sofia Stockholm Sydney Tallinn Tokyo Toronto Tunis Turin
    Utrecht Vienna Vilnius Warsaw Zagreb Zürich
    """
)

OBJECTS = entries(
    """
    anchor apron badge bag ball balloon basket bell belt bench bicycle blanket board boat book boot bottle bowl
    box bracelet brick broom brush bucket button cable cage camera candle card carpet cart chain chair chest
    clock cloth coat coin comb compass cord cradle crate crown cup curtain cushion desk diary dish doll drawer
    dress drill drum easel engine envelope fan feather fence fiddle file flag flask flute fork frame gate glass
    globe glove guitar hammer harp hat hook horn hose jacket jar jug kettle key kite knife ladder lamp lantern
    lens letter lid lock locket loom magnet map mask mat mattress medal mirror mug nail napkin necklace needle
    net notebook oar oven paddle painting pan paper parcel pen pencil phone piano picture pillow pin pipe plank
    plate plough pocket poster pot printer pump purse puzzle quilt racket radio rake razor ribbon ring robe rope
    rug ruler sack saddle sail saw scale scarf scissors screw sculpture shawl sheet shelf shell shield shirt
    shoe shovel sign skirt sled soap sock sofa spade spoon stamp statue stool stove string suitcase sword table
    tent thread ticket tie tile torch towel toy tray trophy trumpet trunk umbrella vase vest violin wagon wallet
    watch wheel whistle wig window wire zip
    """
)

FOODS = entries(
    """
    almonds apple apricot bacon bagel banana beans beef beetroot berries biscuit bread broccoli broth burger
    butter cabbage cake carrot celery cheese cherry chicken chocolate cinnamon coconut cod coffee cookie corn
    cracker cream crisps cucumber curry custard dates dumpling eggs fig fish flour garlic ginger grapes ham
    hazelnuts honey jam juice kale kiwi lamb leek lemon lentils lettuce lime mango milk mint muffin mushroom
    mustard noodles nuts oats oil olives omelette onion orange pancake parsley pasta peach peanuts pear peas
    pepper pickle pie pineapple pizza plum pork porridge potato prawns pudding pumpkin quinoa radish raisins
    rice risotto salad salmon salt sandwich sauce sausage seeds soup spinach squash steak stew strawberry sugar
    syrup tart tea toast tofu tomato trout tuna turkey turnip vanilla vinegar waffle walnut yogurt
    """
)

ANIMALS = entries(
    """
    ant badger bat bear beaver bee beetle buffalo butterfly camel cat chicken cow crab crow deer dog dolphin
    donkey dove duck eagle eel elephant falcon fox frog giraffe goat goose hamster hare hawk hedgehog heron
    horse kangaroo lion lizard lobster lynx mole monkey moose mouse newt octopus otter owl ox parrot peacock
    penguin pig pigeon pony rabbit raccoon rat raven seal shark sheep snail snake sparrow spider squirrel stork
    swan tiger toad tortoise turtle walrus wasp whale wolf worm zebra
    """
)

JOBS = entries(
    """
    accountant actor architect artist baker barber builder butcher captain carpenter cashier chef clerk coach
    cook courier dancer dentist designer doctor driver editor electrician engineer farmer firefighter fisherman
    florist gardener guard guide hunter inspector janitor jeweller judge lawyer lecturer librarian manager
    mechanic midwife miller miner musician nurse officer optician painter pharmacist photographer pilot plumber
    poet porter potter printer producer professor reporter researcher sailor salesman scientist secretary
    sculptor shepherd singer soldier surgeon tailor teacher technician translator vet waiter weaver writer
    """
)

PLACES = entries(
    """
    airport attic bakery bank barn basement bathroom beach bedroom bridge cabin cafe camp canteen castle cave
    cellar church cinema clinic closet corridor cottage courtyard dock factory farm field forest fountain
    gallery garage garden gym hall harbour hill hospital hotel hut inn island kitchen laboratory lake laundry
    library lighthouse lobby market meadow mill mine monastery museum office orchard palace pantry park pharmacy
    pier playground pond porch port prison quarry restaurant river school shed shop square stable stadium
    station storeroom studio study swamp temple theatre tower town tunnel valley village warehouse well workshop
    yard zoo
    """
)

COLOURS = entries(
    """
    red blue green yellow black white orange purple pink brown grey silver golden violet scarlet turquoise beige
    """
)

MATERIALS = entries(
    """
    wood iron steel glass stone paper leather cotton wool silk clay copper brass plastic straw tin
    """
)

ADJECTIVES = entries(
    """
    ancient angry bitter bold brave brief bright broad broken busy calm careful cheap cheerful clean clear
    clever cold common cool crooked crowded cruel curious damp dark deep dirty dry dull dusty eager early easy
    empty expensive faint fair famous fast fierce fine firm flat fragile free fresh friendly full gentle giant
    glad grand great happy hard heavy hidden high hollow honest huge humble hungry kind large late lazy light
    little lively lonely long loose loud lovely low lucky mighty modern narrow neat nervous new noisy odd old
    open patient plain polite poor pretty private proud pure quick quiet rare ready rich rough round rude rusty
    sad safe secret shallow sharp shiny short shy silent simple slow small smart smooth soft solid sour special
    steady stiff strange strict strong sudden sweet swift tall tame tender thick thin tidy tiny tired tough ugly
    useful vast warm weak wet wide wild wise wooden young
    """
)

ABSTRACT = entries(
    """
    accident advice age air answer autumn battle beauty beginning birth breath business cause chance change
    choice circle cloud colour comfort corner country courage crime crowd danger darkness dawn day death dream
    dust earth east echo edge end evening event eye face fall fear fire flame flight flower fog friend frost
    future game ghost gift glory grass ground growth habit hand harbour heart heaven history home honour hope
    horizon hour house hunger idea iron joke journey joy justice king knowledge land language laughter law leaf
    legend lesson life light line luck machine meaning memory midnight mind minute mist moment money month moon
    morning mother mountain music mystery name nation nature night noise north ocean order pain past path
    patience peace people pleasure poem power price pride promise queen question rain reason rest rhythm road
    root salt sand sea season secret shadow shape shore silence sister sky sleep smoke snow song sorrow sound
    south space spring star stone storm story stranger street summer sun surprise thunder tide time tomorrow
    tree truth valley voice war water wave wealth west wind winter wonder word work world year
    """
)

REGULAR_VERBS = entries(
    """
    accept add admire admit adopt answer arrange arrive ask attack attend avoid bake borrow brush call carry
    change check clean climb close collect cook count cover cross dance decide deliver describe discover divide
    drop earn enjoy enter examine explain explore fetch fill finish fix fold follow gather greet guard guess
    hang help hope hunt hurry identify imagine improve include invent invite join jump kick knock land laugh
    learn lift listen load look love mark measure mend miss mix move name notice offer open order own pack paint
    pass phone pick place plan plant play point polish post pour practise prepare present press print promise
    protect pull push reach receive record refuse remember remove rent repair repeat reply report rescue rest
    return rush sail save search serve share shout sign smile solve sort start stay stop store study suggest
    surprise talk taste thank touch train travel trust try turn use visit wait walk want warn wash watch water
    whisper wish wonder work worry wrap
    """
)

IRREGULAR_VERBS = {
    "become": "became", "begin": "began", "bite": "bit", "blow": "blew", "break": "broke", "bring": "brought",
    "build": "built", "buy": "bought", "catch": "caught", "choose": "chose", "come": "came", "cut": "cut", "dig": "dug",
    "do": "did", "draw": "drew", "drink": "drank", "drive": "drove", "eat": "ate", "fall": "fell", "feed": "fed",
    "feel": "felt", "fight": "fought", "find": "found", "fly": "flew", "forget": "forgot", "get": "got", "give": "gave",
    "go": "went", "grow": "grew", "have": "had", "hear": "heard", "hide": "hid", "hit": "hit", "hold": "held",
    "keep": "kept", "know": "knew", "lead": "led", "leave": "left", "lend": "lent", "lose": "lost", "make": "made",
    "meet": "met", "pay": "paid", "put": "put", "read": "read", "ride": "rode", "ring": "rang", "run": "ran",
    "say": "said", "see": "saw", "sell": "sold", "send": "sent", "sing": "sang", "sit": "sat", "sleep": "slept",
    "speak": "spoke", "spend": "spent", "stand": "stood", "steal": "stole", "swim": "swam", "take": "took",
    "teach": "taught", "tell": "told", "think": "thought", "throw": "threw", "wake": "woke", "wear": "wore",
    "win": "won", "write": "wrote",
}  # fmt: skip

MONTHS = entries(
    """
    January February March April May June July August September October November December
    """
)
WEEKDAYS = entries("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
STOP_WORDS = entries(
    """
    the of a and in to for on with from at by under over beyond without between after before our my
    """
)
UNITS = entries(
    """
    boxes kilos litres bags bottles packets metres crates pairs sheets cans jars
    """
)
COMPANY_ENDS = (
    *entries("Ltd GmbH Inc Works Partners Group Traders Logistics Foods Labs Studio Bros Supplies"),
    "& Sons",
    "and Daughters",
)
STREET_ENDS = entries("Street Road Lane Avenue Square Way Close Drive Hill Court Row Terrace")
MEMBERS = {
    "food": FOODS,
    "animal": ANIMALS,
    "job": JOBS,
    "place": PLACES,
    "colour": COLOURS,
    "material": MATERIALS,
    "month": MONTHS,
    "weekday": WEEKDAYS,
    "city": CITIES,
    "object": OBJECTS,
}
