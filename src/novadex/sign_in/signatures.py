"""Whether a wallet signed a text: personal_sign of EIP-191 over secp256k1, and ed25519.

No second signature can be made from one that was seen: the upper ``s`` is refused. The same one may be written in
several ways (digits in either case, a last byte of 0 or 27, 1 or 28, base58 or base64), so it is no unique key: what
makes a sign-in single is its nonce. Wallets that are contracts (EIP-1271, EIP-6492) cannot be asked without a node of
their chain: they are not accepted.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

from novadex.errors import NotAuthenticatedError, ValidationError
from novadex.users.addresses import keccak_256

if TYPE_CHECKING:
    from novadex.sign_in.message import Chain

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Of secp256k1 (SEC 2, 2.4.1)."""
ETHEREUM_SIGNATURE = re.compile(r"0x(?P<r>[0-9a-fA-F]{64})(?P<s>[0-9a-fA-F]{64})(?P<v>[0-9a-fA-F]{2})")
RECOVERY_OF = {0: 0, 1: 1, 27: 0, 28: 1}
"""The last byte is 27 or 28; some devices write 0 or 1."""
ED25519_SIGNATURE_BYTES = 64
SIGNATURE_CHARACTERS_MAX = 200


def hash_of_personal_message(text: str) -> bytes:
    """What ``personal_sign`` signs: EIP-191 with version 0x45."""
    data = text.encode()
    return keccak_256(b"\x19Ethereum Signed Message:\n" + str(len(data)).encode() + data)


def check_signature(chain: Chain, address: str, text: str, signature: str) -> None:
    """Raise ``ValidationError`` where it has not the form of a signature, ``NotAuthenticatedError`` where it
    is not this wallet's signature of this text."""
    if len(signature) > SIGNATURE_CHARACTERS_MAX or not signature.isascii():
        raise _malformed(f"it has more than {SIGNATURE_CHARACTERS_MAX} characters or is not ASCII")
    signed = _signed_by_ethereum if chain == "evm" else _signed_by_solana
    if not signed(address, text, signature):
        raise NotAuthenticatedError(
            "The signature is not this wallet's signature of this message.",
            hint="Sign the text exactly as the server made it, with the wallet of its address.",
        )


def _signed_by_ethereum(address: str, text: str, signature: str) -> bool:
    from coincurve import PublicKey

    found = ETHEREUM_SIGNATURE.fullmatch(signature)
    if found is None:
        raise _malformed(
            "it is not 0x and 130 hexadecimal digits (r, s, v)",
            hint="Compact signatures (EIP-2098) and those of contracts (EIP-1271, EIP-6492) are not accepted.",
        )
    r, s, v = (int(found[part], 16) for part in ("r", "s", "v"))
    if v not in RECOVERY_OF:
        raise _malformed("its last byte is not 27, 28, 0 or 1")
    if not 0 < r < CURVE_ORDER or not 0 < s < CURVE_ORDER:
        raise _malformed("r or s is out of the range of the curve")
    if s > CURVE_ORDER // 2:
        raise _malformed("s is in the upper half of its range (EIP-2)", hint="Wallets sign with the lower s.")
    compact = bytes.fromhex(found["r"] + found["s"]) + bytes([RECOVERY_OF[v]])
    try:
        key = PublicKey.from_signature_and_message(compact, hash_of_personal_message(text), hasher=None)
    except Exception:  # noqa: BLE001 - the library raises bare exceptions where no key has such a signature
        return False
    return keccak_256(key.format(compressed=False)[1:])[-20:] == bytes.fromhex(address.removeprefix("0x"))


def _signed_by_solana(address: str, text: str, signature: str) -> bool:
    import base58
    from nacl.exceptions import BadSignatureError
    from nacl.signing import VerifyKey

    raw = _ed25519_signature(signature)
    try:
        # libsodium refuses keys of small order, and signatures whose s is not below the order of the group.
        VerifyKey(base58.b58decode(address)).verify(text.encode(), raw)
    except (BadSignatureError, ValueError):
        return False
    return True


def _ed25519_signature(signature: str) -> bytes:
    """64 bytes from base58, or from base64, which always ends in ``==``. Only the one way to write them counts."""
    import base58

    try:
        if signature.endswith("="):
            raw, again = base64.b64decode(signature, validate=True), base64.b64encode
        else:
            raw, again = base58.b58decode(signature), base58.b58encode
    except (ValueError, binascii.Error):
        raw, again = b"", base58.b58encode
    if len(raw) != ED25519_SIGNATURE_BYTES or again(raw).decode() != signature:
        raise _malformed("it is not 64 bytes in base58 or base64")
    return raw


def _malformed(problem: str, hint: str | None = None) -> ValidationError:
    return ValidationError(f"The signature is refused: {problem}.", field="signature", hint=hint)
