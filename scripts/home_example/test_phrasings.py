"""How the people of the held-out test set say things: no carrier here is one of the training set."""

from __future__ import annotations

PARTS = {
    "lights": "(light|lights|lamp|lamps)",
    "when": "(at {time:clock}|on {time:day}|{time:relative})",
    "blinds": "(blinds|curtains|shutters|shades)",
    "robot": "(vacuum|robot|robot vacuum)",
}

FRAMES = ("could you please", "i need you to", "you should", "would you please")
WAKE_WORDS = ("hello house", "listen", "hey home", "okay house")
CORRECTIONS = ("no wait", "sorry", "i mean")

PHRASINGS: dict[str, tuple[str, ...]] = {
    "switch_light": (
        "!get the {room} <lights> {state}",
        "in the {room}, <lights> {state}",
        "could the {room} lamps be switched {state}?",
        "for the {room}, turn {state} every lamp",
        "we can't see in the {room}, lights {state:on}",
    ),
    "set_light": (
        "!take the {room} lights (up|down) to {level}",
        "in the {room}, dim every lamp to {level}",
        "the lights in the {room} are too bright, set them to {level}",
        "i would like the brightness in the {room} at {level}",
        "for the {room}, set the lamp to {color} at {level}",
        "!dim the {room} down to {level}",
    ),
    "set_temperature": (
        "!get the {room} (up|down) to {temperature}",
        "the thermostat should be at {temperature} in the {room}",
        "!have the heating at {temperature} in the {room}",
        "for the {room}, make the temperature {temperature}",
        "i'm too hot in the {room}, put the thermostat at {temperature}",
    ),
    "move_blinds": (
        "in the {room}, {action} the <blinds>",
        "!get the <blinds> {action:particle} in the {room}",
        "!make sure the <blinds> are {action:drawn} in the {room}",
        "the {room} is too sunny, so {action:shut} the <blinds> there",
        "could you have the {room} <blinds> {action:drawn}?",
    ),
    "set_timer": (
        "!let a timer run for {duration}",
        "for the {label}, start a timer for {duration}",
        "the {label} must have {duration}, so start the timer",
        "a timer for the {label}, {duration}",
        "!start counting down {duration} for the {label}",
    ),
    "set_alarm": (
        "can i have an alarm on {day} at {time:clock}?",
        "the alarm should be at {time:clock} on {day}",
        "we have to be up on {day} at {time:clock}",
        "!make sure i wake up at {time:clock} [on {day}]",
        "{day:nearday} set an alarm for {time:clock}",
    ),
    "add_reminder": (
        "i want you to remind me <when> to {text}",
        "!make sure i don't forget to {text} [<when>]",
        "can i have a reminder <when> to {text}?",
        "!give me a reminder to {text} [<when>]",
        "!remember that i have to {text} [<when>]",
    ),
    "add_to_list": (
        "can you see that {item} goes on the {list} list?",
        "i want you to put {item} down on my {list} list",
        "there is no {item} left, write it on the {list} list",
        "for my {list} list, add {item}",
        "on to the {list} list with {item}",
    ),
    "play_music": (
        "we want to hear {title} by {artist}",
        "!put {title} by {artist} on in the {room}",
        "i'd love to listen to the {playlist} playlist in the {room}",
        "for the {room}, put on the song {title}",
        "!get the track {title} by {artist} playing",
        "!have my playlist {playlist} playing in the {room}",
    ),
    "set_volume": (
        "!get the volume (up|down) to {level:volume} in the {room}",
        "in the {room}, the sound should be at {level:volume}",
        "!put the volume at {level:volume} in the {room}",
        "for the {room}, turn the sound to {level:volume}",
        "i can't hear the speakers, set them to {level:volume}",
    ),
    "lock_door": (
        "!see to it that the {door} is {action:locked}",
        "could we have the {door} {action:locked} now?",
        "we are going to bed, so the {door} must be {action:onlylocked}",
        "is it possible to {action:lock} the {door}?",
        "we forgot the {door}, {action:lock} it",
    ),
    "start_vacuum": (
        "!get the {room} vacuumed [at {time:clock}]",
        "for the {room}, start the <robot>",
        "can you have the <robot> clean up the {room}?",
        "we made crumbs in the {room}, send the <robot> there",
        "it's dusty in the {room}, so run the <robot>",
    ),
    "send_message": (
        "i want {person} to know that {message}",
        "can we tell {person} that {message}?",
        "!say to {person} that {message}",
        "i would like to let {person} know that {message}",
        "{person} should get a text saying {message:words}",
    ),
    "get_state": (
        "can you see if the {device} is on in the {room}?",
        "the {device} in the {room}, is it running?",
        "!let me know if the {device} is still running [in the {room}]",
        "how about the {device} in the {room}, is it off?",
        "what is going on with the {device} in the {room}?",
    ),
}  # fmt: skip
