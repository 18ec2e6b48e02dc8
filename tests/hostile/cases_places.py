"""Cases from tables: every structure over every other one, BAT entries of every state at every kind of place."""
import builder as b
from builder import (FULLY_PRESENT, MIB, NOT_PRESENT, PARTIALLY_PRESENT, UNDEFINED, UNMAPPED, ZERO, Region,
                     bat_entry)
from cases_locator import partial
from verdicts import bad_blocks, child, good, read_only, refused
from verdicts import case_of_table as case

# ---- log and regions over each other: the same place, or only the last MiB of one ----

OPTIONAL = b.unknown_guid(1)
STRUCTURES = {"log": MIB, "metadata": 2 * MIB, "bat": 3 * MIB, "optional": 6 * MIB}
FOLLOWS = [*range(75, 102), *range(130, 151)]  # what is read there is not what was written there


def move(image, name, offset, length):
    kinds = {"metadata": b.METADATA, "bat": b.BAT, "optional": OPTIONAL}
    if name == "log":
        image.change_headers(log_offset=offset, log_length=length)
    else:
        image.region(kinds[name]).change(offset=offset, length=length)


def lay_over(name, other, length):
    def bend(image):
        image.regions.append(Region(OPTIONAL, STRUCTURES["optional"], MIB, required=0))
        image.length = 8 * MIB
        move(image, name, STRUCTURES[other] + MIB - length, length)

    return bend


for name in STRUCTURES:
    for other in STRUCTURES:
        if name == other:
            continue
        case(f"over-{name}-{other}", f"{name} at the place of {other}", refused(63, "BAD_REGION", follow=FOLLOWS),
             lay_over(name, other, MIB))
        if other != "log":  # before the log are the headers: V20, V61
            case(f"over-{name}-{other}-end", f"the end of {name} over {other}",
                 refused(63, "BAD_REGION", follow=FOLLOWS), lay_over(name, other, 2 * MIB))

for name, offset, length in (("optional", 4 * MIB, MIB), ("optional", 5 * MIB, 2 * MIB),
                             ("optional", 4 * MIB, 2 * MIB), ("log", 4 * MIB, MIB), ("log", 5 * MIB, 2 * MIB)):
    def bend_over_block(image, name=name, offset=offset, length=length):
        image.regions.append(Region(OPTIONAL, 6 * MIB if name == "optional" else MIB, MIB, required=0))
        image.length = 8 * MIB
        move(image, name, offset, length)

    case(f"over-{name}-block-{offset // MIB}-{length // MIB}", f"{name} of {length // MIB} MiB over a block",
         read_only(135, follow=[148]), bend_over_block)


# ---- block 1, in every state, at every kind of place ----

PLACES = {"none": 0, "own": 6 * MIB, "block": 4 * MIB, "bat": 3 * MIB, "log": MIB, "end": 7 * MIB, "far": 64 * MIB,
          "2-43": 2**43 * MIB, "max": (2**44 - 1) * MIB}


def verdict_of_block(state, place):
    """Digest, section 4.1 and 8.8, for a disk without parent."""
    is_out = place in ("end", "far", "2-43", "max")
    if state in (NOT_PRESENT, ZERO):
        return good() if place == "none" else good(138)
    if state in (UNDEFINED, UNMAPPED):
        return good() if place in ("none", "own") else good(139)
    if state in (4, 5):
        return bad_blocks(131, 1)
    state_rule = [133] if state == PARTIALLY_PRESENT else []
    if place in ("none", "2-43", "max"):
        return bad_blocks(132, 1, follow=state_rule)
    if is_out:
        return bad_blocks(134, 1, follow=state_rule)
    place_rule = {"own": [], "block": [137]}.get(place, [135])
    rules = state_rule + place_rule
    return read_only(*rules) if rules else good()


def put_block(state, place, reserved=0):
    def bend(image):
        offset = PLACES[place]
        image.length = 7 * MIB
        image.blocks[6 * MIB] = b.pattern(1)
        image.bat[1] = bat_entry(state, offset) | reserved
        if state in (FULLY_PRESENT, PARTIALLY_PRESENT) and 0 < offset < image.length:
            image.disk[1] = offset

    return bend


for state in range(8):
    for place in PLACES:
        case(f"block-{state}-{place}", f"state {state}, place {place}", verdict_of_block(state, place),
             put_block(state, place))
for state, place in ((NOT_PRESENT, "none"), (UNDEFINED, "none"), (ZERO, "none"), (UNMAPPED, "own"),
                     (FULLY_PRESENT, "own")):
    for bit in (3, 11, 19):
        case(f"block-{state}-bit-{bit}", f"state {state}, reserved bit {bit}", good(140),
             put_block(state, place, reserved=1 << bit))


# ---- the bitmap of a partly present block, in every state, at every kind of place ----

BITMAP_PLACES = {"none": 0, "own": 7 * MIB, "payload": 6 * MIB, "other": 5 * MIB, "bat": 3 * MIB, "log": MIB,
                 "end": 8 * MIB, "far": 64 * MIB, "max": (2**44 - 1) * MIB}


def verdict_of_bitmap(state, place):
    if state == NOT_PRESENT:
        return child(143, follow=[138])
    if state != FULLY_PRESENT:
        return child(141)
    return {"own": child(), "payload": child(137), "other": child(137)}.get(place, child(144))


for state in range(8):
    for place in BITMAP_PLACES if state == FULLY_PRESENT else ("none", "own"):
        case(f"bitmap-{state}-{place}", f"bitmap state {state}, place {place}", verdict_of_bitmap(state, place),
             partial(bat_entry(state, BITMAP_PLACES[place])))
