"""Checksums by which real numbers are told from digits that look like them."""

from __future__ import annotations

from zlib import crc32

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def luhn(digits: str) -> bool:
    """ISO/IEC 7812: every second digit from the right is doubled, and the sum of all digits ends in 0."""
    odd = sum(map(int, digits[-1::-2]))
    even = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (odd + even) % 10 == 0


def mod97(account: str) -> bool:
    """ISO 13616 (IBAN): the first four characters go to the end, letters become 10 to 35, and the rest by 97 is 1."""
    turned = account[4:] + account[:4]
    return int("".join(str(int(letter, 36)) for letter in turned)) % 97 == 1


def mod11_10(digits: str) -> bool:
    """ISO 7064 MOD 11,10 (German tax ids)."""
    product = 10
    for digit in digits[:-1]:
        rest = (int(digit) + product) % 10 or 10
        product = 2 * rest % 11
    return (11 - product) % 10 == int(digits[-1])


_VERHOEFF_D = (
    "0123456789",
    "1234067895",
    "2340178956",
    "3401289567",
    "4012395678",
    "5987604321",
    "6598710432",
    "7659821043",
    "8765932104",
    "9876543210",
)
_VERHOEFF_P = (
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
)


def verhoeff(digits: str) -> bool:
    """Verhoeff 1969 (Aadhaar): the digits, permuted by their place, multiply to 0 in the dihedral group of ten."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = int(_VERHOEFF_D[check][int(_VERHOEFF_P[place % 8][int(digit)])])
    return check == 0


def ean13(digits: str) -> bool:
    """Weights 1 and 3 in turn, and the sum ends in 0 (Swiss AHV numbers)."""
    return (sum(map(int, digits[::2])) + 3 * sum(map(int, digits[1::2]))) % 10 == 0


def weighted(digits: str, weights: tuple[int, ...]) -> int:
    """The sum of the digits times their weights."""
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def crc32_base62(random: str, check: str) -> bool:
    """GitHub's and npm's tokens end in the CRC-32 of what stands before, in base 62 and six characters."""
    value = 0
    for letter in check:
        value = value * 62 + _BASE62.index(letter)
    return value == crc32(random.encode())
