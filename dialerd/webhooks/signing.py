"""Signatures as Standard Webhooks has them (github.com/standard-webhooks/standard-webhooks, spec 1.0, symmetric)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

PREFIX = "whsec_"
SECRET_BYTES = 32
"""The standard asks for 24 to 64."""


def encode_secret(key: bytes) -> str:
    """A key as it is shown to people."""
    return PREFIX + base64.b64encode(key).decode()


def decode_secret(secret: str) -> bytes:
    """The key of a secret as it is shown. Raises ValueError."""
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("is no secret: whsec_ and base64") from None


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """One signature: ``v1,`` and the base64 of HMAC-SHA256 over ``id.timestamp.body``."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(decode_secret(secret), signed, hashlib.sha256)).decode()


def headers(secrets: Sequence[str], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The headers of a message; one signature for each secret, so that a receiver may change over in its own time."""
    timestamp = int(at.timestamp())
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signature(each, message_id, timestamp, body) for each in secrets),
    }
