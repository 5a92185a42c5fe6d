"""Sets of GPUs as 64-bit masks: bit i is card i (0 to 62), bit 63 says that cards are used, but not known which.

The unknown set absorbs every other in a union: its mask is exactly bit 63.
"""

import re

__all__ = ["LARGEST_CARD", "UNKNOWN", "mask_of", "mask_of_cards", "size_of", "text_of"]

UNKNOWN = 1 << 63
LARGEST_CARD = 62

_LIST = re.compile(r"\+?\d+(?:,\+?\d+)*", re.ASCII)


def mask_of(text: str) -> int | None:
    """Return the mask of `none` (or nothing), `unknown` or a list like `0,2,5`; None if the text is none of these."""
    if text in {"none", ""}:
        return 0
    if text == "unknown":
        return UNKNOWN
    if not _LIST.fullmatch(text):
        return None
    cards = [int(card) for card in text.split(",")]
    return mask_of_cards(cards) if max(cards) < 2**32 else None


def mask_of_cards(cards: list[int]) -> int:
    """Return the mask of card numbers; a number that has no bit makes the whole set unknown."""
    mask = 0
    for card in cards:
        if not 0 <= card <= LARGEST_CARD:
            return UNKNOWN
        mask |= 1 << card
    return mask


def text_of(mask: int) -> str:
    """Return `none`, `unknown`, or the card numbers ascending, joined by commas."""
    if mask == 0:
        return "none"
    if mask & UNKNOWN:
        return "unknown"
    return ",".join(str(card) for card in range(LARGEST_CARD + 1) if mask >> card & 1)


def size_of(mask: int) -> int:
    """Return the number of cards; 0 of the unknown set."""
    return 0 if mask & UNKNOWN else mask.bit_count()
