"""Rows with planted faults, and what was planted where. Clean rows are real text: grade-school maths (MIT licence)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from zlib import crc32

from spotune.contracts.quality import IssueKind
from spotune.data.quality.checksums import luhn, mod97

GSM8K = Path(__file__).parents[3] / "benchmarks" / "data" / "gsm8k.jsonl"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE62 = "0123456789" + _LETTERS


@dataclass
class Planted:
    """A file's rows, and the lines of every fault that was planted in it."""

    rows: list[dict[str, object]]
    faults: dict[IssueKind, list[int]] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    """Whatever must never be shown."""

    @property
    def body(self) -> bytes:
        return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in self.rows)


def chat(asked: str, answered: str, system: str = "") -> dict[str, object]:
    turns = [("system", system)] * bool(system) + [("user", asked), ("assistant", answered)]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def clean_rows(count: int = 400, skip: int = 0) -> list[dict[str, object]]:
    lines = GSM8K.read_text(encoding="utf-8").splitlines()[skip : skip + count]
    return [chat(row["question"], row["answer"], "You are a patient teacher.") for row in map(json.loads, lines)]


def planted(seed: int, count: int = 400, times: int = 3) -> Planted:
    """Each fault `times` times, at lines drawn by the seed, among clean rows."""
    random = Random(seed)
    made = Planted(clean_rows(count))
    kinds: list[IssueKind] = [kind for kind in VALUES for _ in range(times)]
    places = random.sample(range(count // 4, count), len(kinds) + 4 * times)
    for place, kind in zip(places, kinds, strict=False):
        value = VALUES[kind](random)
        _insert(made.rows[place], value, random)
        made.faults.setdefault(kind, []).append(place + 1)
        if kind not in DAMAGE:
            made.secrets.append(value)
    rest = iter(places[len(kinds) :])
    for _ in range(times):
        _replace(made, next(rest), "exact_duplicate", dict(made.rows[random.randrange(count // 4)]))
        _replace(made, next(rest), "near_duplicate", _nearly(made.rows[random.randrange(count // 4)], random))
        _replace(made, next(rest), "says_nothing", chat("What is the answer?" + str(random.random()), "N/A"))
        _replace(made, next(rest), "too_short", chat(f"a{random.randrange(9999)}", "b"))
    for lines in made.faults.values():
        lines.sort()
    return made


def _replace(made: Planted, place: int, kind: IssueKind, row: dict[str, object]) -> None:
    made.rows[place] = row
    made.faults.setdefault(kind, []).append(place + 1)


def _insert(row: dict[str, object], value: str, random: Random) -> None:
    turn = row["messages"][random.choice((1, 2))]  # type: ignore[index]
    words = turn["content"].split(" ")
    words.insert(random.randrange(len(words)), value)
    turn["content"] = " ".join(words)


def _nearly(row: dict[str, object], random: Random) -> dict[str, object]:
    """The row with a short sentence more."""
    copy: dict[str, object] = json.loads(json.dumps(row))
    turn = copy["messages"][-1]  # type: ignore[index]
    turn["content"] += f" So the answer is {random.randrange(10**6)}!"
    return copy


def card(random: Random) -> str:
    prefix, length = random.choice((("4", 16), ("51", 16), ("37", 15), ("6011", 16), ("2230", 16)))
    digits = prefix + "".join(random.choices("0123456789", k=length - len(prefix) - 1))
    digits += next(last for last in "0123456789" if luhn(digits + last))
    if length == 15:
        return random.choice((digits, f"{digits[:4]} {digits[4:10]} {digits[10:]}"))
    separator = random.choice(("", " ", "-"))
    return separator.join(digits[at : at + 4] for at in range(0, 16, 4))


def iban(random: Random) -> str:
    country, length = random.choice((("DE", 22), ("FR", 27), ("NL", 18), ("NO", 15), ("ES", 24)))
    account = "".join(random.choices("0123456789", k=length - 4))
    check = next(f"{each:02}" for each in range(2, 99) if mod97(f"{country}{each:02}{account}"))
    written = country + check + account
    return random.choice((written, " ".join(written[at : at + 4] for at in range(0, length, 4))))


def ssn(random: Random) -> str:
    return f"{random.randrange(100, 600):03}-{random.randrange(1, 99):02}-{random.randrange(1, 9999):04}"


def dni(random: Random) -> str:
    number = random.randrange(10_000_000, 99_999_999)
    return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def email(random: Random) -> str:
    name = "".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=8))
    return f"{name}.{random.choice(('lee', 'ortiz'))}@{random.choice(('gmail.com', 'mail.firma-nord.de'))}"


def phone(random: Random) -> str:
    line = f"{random.randrange(220, 290):03}{random.choice('-.')}{random.randrange(2000, 9999):04}"
    return random.choice((f"(41{random.randrange(2, 9)}) {line}", f"+49 170 {random.randrange(10**6, 10**7)}"))


def aws_key(random: Random) -> str:
    return random.choice(("AKIA", "ASIA")) + "".join(random.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=16))


def github_token(random: Random) -> str:
    body = "".join(random.choices(_BASE62, k=30))
    value, check = crc32(body.encode()), ""
    for _ in range(6):
        value, rest = divmod(value, 62)
        check = _BASE62[rest] + check
    return f"gh{random.choice('pousr')}_{body}{check}"


def api_token(random: Random) -> str:
    return random.choice(
        (
            github_token(random),
            "hf_" + "".join(random.choices(_LETTERS, k=34)),
            "sk-ant-api03-" + "".join(random.choices(_BASE62, k=40)),
            "xoxb-" + "".join(random.choices("0123456789", k=12)) + "-" + "".join(random.choices(_BASE62, k=24)),
            "AIza" + "".join(random.choices(_BASE62, k=35)),
        )
    )


def jwt(random: Random) -> str:
    parts = [{"alg": "HS256", "typ": "JWT"}, {"sub": random.randrange(10**9)}]
    head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return f"{head}.{body}.{''.join(random.choices(_BASE62, k=43))}"


def private_key(random: Random) -> str:
    kind = random.choice(("RSA ", "EC ", "OPENSSH ", ""))
    body = "".join(random.choices(_BASE62, k=64))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{body}\n-----END {kind}PRIVATE KEY-----"


def password_in_url(random: Random) -> str:
    return f"postgres://app:{''.join(random.choices(_BASE62, k=12))}@db/prod"


VALUES = {
    "card_number": card,
    "iban": iban,
    "national_id": lambda random: random.choice((ssn, dni))(random),
    "email": email,
    "phone": phone,
    "aws_key": aws_key,
    "api_token": api_token,
    "jwt": jwt,
    "private_key": private_key,
    "password_in_url": password_in_url,
    "mojibake": lambda random: random.choice(("cafÃ©", "donâ€™t", "Ã¼ber", "Â£", "ðŸ˜€")),
    "replacement_character": lambda _: "na\ufffdve",
    "control_character": lambda random: f"bell{random.choice(chr(7) + chr(27) + chr(0x85))}",
}
DAMAGE = ("mojibake", "replacement_character", "control_character")


def found_lines(issues: Iterator[object]) -> dict[str, list[int]]:
    return {issue.kind: [each.line for each in issue.findings] for issue in issues}  # type: ignore[attr-defined]
