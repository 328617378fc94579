"""Kinds of records of daily life: notices, receipts, notes and cards, with their fields and wordings.

A record kind is a maker of (fields, wordings): the fields in a fixed key order, each value a verbatim span of the text.
"""

from __future__ import annotations

from collections.abc import Callable

from base_model import words
from base_model.draw import Draw
from base_model.style import Style

Fields = dict[str, str]
Record = tuple[Fields, tuple[str, ...]]
"""The fields, and several wordings with `{key}` where a field stands. A wording may leave fields out."""


def meeting(d: Draw) -> Record:
    fields = {
        "title": d.title(),
        "date": d.date(),
        "time": d.clock(),
        "place": d.pick(words.PLACES),
        "host": d.person(),
    }
    return fields, (
        "Invitation: {title}, {date} at {time} in the {place}. Host: {host}",
        "{host} invites you to {title} in the {place} on {date}, {time}",
        "Hi all, we will talk about {title} on {date}. Be at the {place} by {time}. Regards, {host}",
        "Meeting moved! {title} is now {date} {time}",
    )


def receipt(d: Draw) -> Record:
    fields = {"shop": d.company(), "item": d.thing(), "total": d.price(), "date": d.date(), "receipt_no": d.code()}
    return fields, (
        "{shop}\n{date}\n1 x {item}\nTOTAL {total}\nReceipt {receipt_no}",
        "I bought the {item} at {shop} on {date} and paid {total}, the receipt says {receipt_no}",
        "Receipt no. {receipt_no} from {shop}: {item}, {total}",
        "{date}: {total} for {item} ({shop})",
    )


def shipment(d: Draw) -> Record:
    fields = {
        "tracking": d.code(),
        "content": d.thing(),
        "from": d.place(),
        "to": d.place(),
        "weight": f"{d.integer(1, 90)} kg",
    }
    return fields, (
        "Parcel {tracking} from {from} to {to}: {content}, {weight}",
        "We shipped the {content} ({weight}) out of {from}. It reaches {to} soon. Tracking: {tracking}",
        "Tracking number {tracking}\nContent: {content}\nOrigin: {from}\nDestination: {to}",
        "where is my {content}? it left {from} for {to}",
    )


def contact(d: Draw) -> Record:
    fields = {
        "name": d.person(),
        "company": d.company(),
        "role": d.pick(words.JOBS),
        "email": d.email(),
        "phone": d.phone(),
    }
    return fields, (
        "{name}, {role}\n{company}\n{email}\n{phone}",
        "My name is {name} and I work as a {role} at {company}. Write to {email} or call {phone}",
        "You can reach our {role} {name} on {phone}",
        "New contact from {company}: {name} <{email}>",
    )


def match(d: Draw) -> Record:
    fields = {
        "home": d.place(),
        "away": d.place(),
        "score": f"{d.integer(0, 9)}-{d.integer(0, 9)}",
        "scorer": d.surname(),
        "date": d.date(),
    }
    return fields, (
        "{home} - {away} {score} ({scorer})",
        "{date}: {home} met {away} and it ended {score} after a late goal by {scorer}",
        "On {date} the team of {away} travelled to {home}. Final score: {score}",
        "{scorer} decided the game between {home} and {away}, {score}",
    )


def lost_item(d: Draw) -> Record:
    fields = {
        "item": d.thing(),
        "place": f"{d.pick(words.PLACES)}",
        "date": d.date(),
        "finder": d.person(),
        "shelf": d.code(),
    }
    return fields, (
        "Found: {item}, in the {place}, on {date}. Kept on shelf {shelf}. Finder: {finder}",
        "{finder} handed in a {item} from the {place}",
        "Somebody left a {item} at the {place} on {date}, it is on shelf {shelf} now",
        "Lost and found, shelf {shelf}: {item} ({date})",
    )


def loan(d: Draw) -> Record:
    fields = {"book": d.title(), "author": d.person(), "reader": d.person(), "due": d.date(), "mark": d.code()}
    return fields, (
        "{reader} borrowed {book} by {author}, due {due}, shelf mark {mark}",
        '"{book}" ({author}) is due on {due}. Reader: {reader}',
        "Please bring back {book} by {due}, {reader}!",
        "Mark {mark}: {book}, written by {author}",
    )


def order(d: Draw) -> Record:
    fields = {
        "dish": d.thing(),
        "drink": d.pick(words.FOODS),
        "table": str(d.integer(1, 60)),
        "guest": d.first_name(),
        "extra": d.pick(words.FOODS),
    }
    return fields, (
        "Table {table}: {dish}, {drink}, extra {extra}",
        "{guest} at table {table} would like the {dish} with {extra} and a glass of {drink}",
        "One {dish} for {guest} and a {drink} please",
        "For {guest}: {dish}, no drink, {extra} on the side, table {table}",
    )


def ticket(d: Draw) -> Record:
    fields = {
        "passenger": d.person(),
        "from": d.place(),
        "to": d.place(),
        "departure": d.clock(),
        "seat": d.code(),
        "date": d.date(),
    }
    return fields, (
        "{passenger}\n{from} -> {to}\n{date} {departure}\nSeat {seat}",
        "Train from {from} to {to} on {date}, leaving at {departure}, seat {seat} for {passenger}",
        "{passenger} travels to {to} from {from} on {date}",
        "I need a ticket to {to}, leaving {from} at {departure}. The name is {passenger}",
    )


def appointment(d: Draw) -> Record:
    fields = {
        "patient": d.person(),
        "doctor": f"Dr {d.surname()}",
        "reason": d.pick(
            ("a check-up", "back pain", "a cough", "a sore throat", "a fever", "new glasses", "a vaccination")
        ),
        "date": d.date(),
        "time": d.clock(),
    }
    return fields, (
        "{patient} sees {doctor} on {date} at {time} because of {reason}",
        "Appointment for {patient}: {date}, {time}, {doctor}. Reason: {reason}",
        "this is {patient}, i need to come in for {reason}, does {date} {time} work?",
        "{doctor} can see you at {time} on {date}",
    )


def repair(d: Draw) -> Record:
    fields = {
        "ticket": d.code(),
        "device": d.thing(),
        "fault": d.pick(
            (
                "does not start",
                "is leaking",
                "makes a loud noise",
                "has a broken switch",
                "gets too hot",
                "lost its cover",
            )
        ),
        "owner": d.person(),
        "price": d.price(),
    }
    return fields, (
        "Job {ticket}: {device} of {owner}. Fault: {fault}. Estimate {price}",
        "The {device} {fault}. Ticket {ticket}, owner {owner}",
        "{owner} brought a {device} that {fault}; the repair costs {price}",
        "{device}: {fault} ({ticket})",
    )


def message(d: Draw) -> Record:
    fields = {"from": d.email(), "to": d.email(), "subject": d.title(), "date": d.date(), "request": d.clause()}
    return fields, (
        "From: {from}\nTo: {to}\nDate: {date}\nSubject: {subject}\n\nHello, could you {request}? Thanks",
        "From: {from}\nSubject: {subject}\n\nPlease {request} by {date}",
        "{from} wrote to {to} about {subject}",
        "mail from {from} on {date}: {request}",
    )


def advert(d: Draw) -> Record:
    fields = {
        "job": f"{d.pick(words.ADJECTIVES)} {d.pick(words.JOBS)}",
        "company": d.company(),
        "city": d.place(),
        "pay": f"{d.integer(10, 90)} an hour",
        "contact": d.person(),
    }
    return fields, (
        "{company} in {city} is looking for a {job}. Pay: {pay}. Ask for {contact}",
        "Wanted: {job}, {pay}, {city}",
        "We need a {job} at our {city} branch. Call {contact} at {company}",
        "{contact} of {company} offers {pay} to a {job}",
    )


def property_note(d: Draw) -> Record:
    fields = {
        "address": d.address(),
        "rooms": str(d.integer(1, 9)),
        "rent": f"{d.integer(200, 4000)}",
        "agent": d.person(),
        "free_from": d.date(),
    }
    return fields, (
        "{rooms} rooms at {address}, rent {rent}, free from {free_from}. Agent: {agent}",
        "{agent} lets a flat with {rooms} rooms at {address}",
        "To rent: {address}. {rent} a month for {rooms} rooms",
        "The flat at {address} is free from {free_from}, call {agent}",
    )


def stock(d: Draw) -> Record:
    fields = {
        "product": d.thing(),
        "sku": d.code(),
        "quantity": str(d.integer(0, 900)),
        "bin": d.code(),
        "supplier": d.company(),
    }
    return fields, (
        "{product} (sku {sku}): {quantity} left in bin {bin}, supplier {supplier}",
        "Counted {quantity} of {product} in {bin}",
        "{supplier} sent {quantity} pieces of {product}, sku {sku}, put them in {bin}",
        "bin {bin} / {sku} / {quantity}",
    )


def course(d: Draw) -> Record:
    fields = {
        "course": d.title(),
        "teacher": d.person(),
        "room": d.code(),
        "day": d.pick(words.WEEKDAYS),
        "starts": d.clock(),
    }
    return fields, (
        "{course} with {teacher}, every {day} at {starts}, room {room}",
        "On {day} {teacher} gives {course}",
        "Room {room}, {starts}: {course}",
        "The course {course} starts at {starts} on {day} and is taught by {teacher} in {room}",
    )


RECORDS: dict[str, Callable[[Draw], Record]] = {
    "meeting": meeting, "receipt": receipt, "shipment": shipment, "contact": contact, "match": match,
    "lost item": lost_item, "loan": loan, "order": order, "ticket": ticket, "appointment": appointment,
    "repair": repair, "message": message, "advert": advert, "property": property_note, "stock": stock, "course": course,
}  # fmt: skip
SYNONYMS = {
    "name": ("full_name", "person"),
    "title": ("subject", "topic"),
    "date": ("day", "on"),
    "time": ("at", "hour"),
    "place": ("location", "where"),
    "from": ("origin", "source"),
    "to": ("destination", "target"),
    "item": ("object", "thing"),
    "price": ("cost", "amount"),
    "total": ("sum", "paid"),
    "ticket": ("ticket_id", "job_no"),
    "company": ("firm", "employer"),
}


def write(draw: Draw, kind: str) -> tuple[str, Fields, list[str]]:
    """A text of this kind, the fields it states in schema order, and all keys of the schema."""
    fields, wordings = RECORDS[kind](draw)
    style = Style(draw)
    fields = {key: style.value(given) for key, given in fields.items()}
    pieces = draw.pick(wordings).replace("}", "{").split("{")
    text, stated = "", set()
    for index, piece in enumerate(pieces):
        if index % 2:
            text += fields[piece]
            stated.add(piece)
        else:
            text += style.carrier(piece) if piece.strip() else piece
    if not style.bare and text[-1] not in ".?!":
        text += "."
    return text, {key: given for key, given in fields.items() if key in stated}, list(fields)
