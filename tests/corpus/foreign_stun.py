"""Writes random STUN messages as aioice encodes them, with what they mean: vectors that nobody here has made.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install aioice==0.13.0
    /tmp/venv/bin/python tests/corpus/foreign_stun.py 240 > tests/corpus/foreign_stun.jsonl       # those that are committed
    /tmp/venv/bin/python tests/corpus/foreign_stun.py 10000 > /tmp/foreign_stun.jsonl             # many
    TURNPIKE_FOREIGN_STUN=/tmp/foreign_stun.jsonl cargo test --test corpus foreign
"""

import ipaddress
import json
import random
import sys

from aioice import stun

SEED = 8489
STRINGS = ["", "alice", "1893456000:bob", "example.org", "\u30de\u30c8\u30ea\u30c3\u30af\u30b9", "x" * 127, "a\"b\\c"]


def value(chance, name, pack):
    if pack in (stun.pack_address, stun.pack_xor_address):
        kind, bits = chance.choice([(ipaddress.IPv4Address, 32), (ipaddress.IPv6Address, 128)])
        return [str(kind(chance.getrandbits(bits))), chance.getrandbits(16)]
    if pack is stun.pack_error_code:
        return [chance.randrange(300, 700), chance.choice(STRINGS)]
    if pack is stun.pack_string:
        return chance.choice(STRINGS)
    if pack is stun.pack_bytes:
        return chance.randbytes(chance.randrange(40)).hex()
    if pack is stun.pack_none:
        return None
    return chance.getrandbits({stun.pack_unsigned: 32, stun.pack_unsigned_short: 16, stun.pack_unsigned_64: 64}[pack])


def meant(name, value):
    """The value as aioice takes it."""
    pack = stun.ATTRIBUTES_BY_NAME[name][2]
    if pack is stun.pack_bytes:
        return bytes.fromhex(value)
    return tuple(value) if isinstance(value, list) else value


def message(chance):
    names = [name for name in stun.ATTRIBUTES_BY_NAME if name not in ("MESSAGE-INTEGRITY", "FINGERPRINT")]
    names = chance.sample(names, chance.randrange(6))
    attributes = {name: value(chance, name, stun.ATTRIBUTES_BY_NAME[name][2]) for name in names}
    method, kind = chance.choice(list(stun.Method)), chance.choice(list(stun.Class))
    key, seal = chance.randbytes(chance.choice([16, 32, 5])), chance.choice(["", "fingerprint", "integrity"])
    encoded = stun.Message(
        message_method=method,
        message_class=kind,
        transaction_id=chance.randbytes(12),
        attributes={name: meant(name, value) for name, value in attributes.items()},
    )
    if seal == "integrity":
        encoded.add_message_integrity(key)
    elif seal == "fingerprint":
        encoded.add_fingerprint()
    read = stun.parse_message(bytes(encoded))
    assert {name: read.attributes[name] for name in attributes} == {n: meant(n, v) for n, v in attributes.items()}
    return {
        "method": method, "class": kind, "id": encoded.transaction_id.hex(), "key": key.hex(), "seal": seal,
        "attributes": [[stun.ATTRIBUTES_BY_NAME[name][0], name, value] for name, value in attributes.items()],
        "bytes": bytes(encoded).hex(),
    }


def main():
    chance = random.Random(SEED)
    for _ in range(int(sys.argv[1])):
        print(json.dumps(message(chance), separators=(",", ":")))


if __name__ == "__main__":
    main()
