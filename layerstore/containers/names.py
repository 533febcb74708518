"""Names for containers that were created without one: an adjective and an animal.

Decided here and only here: the words.  They are short, sound different, and are not
names of people.
"""

from __future__ import annotations

import os
from collections.abc import Callable

_ADJECTIVES = """
able amber apt bold brave brisk broad calm clear clever cool cosy crisp deft dry eager early easy
fair fast fine firm fond free fresh gentle glad good grand green happy hardy keen kind large light
lively loyal lucky merry mild neat nimble noble plain polite proud quick quiet rapid ready rich
round royal sharp silent silver simple sleek smart smooth soft solid spry still stout sunny sure
sweet swift tall tame tidy true trusty vivid warm wary wise witty young
"""
_ANIMALS = """
adder ant badger bat bear beaver bee bison boar buck bull calf cat colt crab crane crow deer dog
dove duck eagle eel elk falcon fawn ferret finch fish fly foal fox frog gnat goat goose grouse gull
hare hawk hen heron hind horse hound ibis jay kestrel kite lamb lark leech lynx mole moose moth
mouse mule newt otter owl ox panda perch pike plover pony quail ram raven robin rook salmon seal
shark shrew shrike skua slug snail snipe squid stag stoat stork swan tern thrush tiger toad trout
tuna turtle viper vole wasp weasel whale wolf worm wren yak zebra
"""
_PLAIN_TRIES = 20


def new_name(taken: Callable[[str], bool]) -> str:
    """Return a name that is not `taken`, with a number at its end if most names are taken."""
    for _ in range(_PLAIN_TRIES):
        name = _pair()
        if not taken(name):
            return name
    while True:
        name = f"{_pair()}{_any(1_000_000)}"
        if not taken(name):
            return name


def _pair() -> str:
    adjectives, animals = _ADJECTIVES.split(), _ANIMALS.split()
    return f"{adjectives[_any(len(adjectives))]}_{animals[_any(len(animals))]}"


def _any(below: int) -> int:
    return int.from_bytes(os.urandom(4), "little") % below
