"""Signatures: the standard's published example, and its own library as a receiver."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks.webhooks import Webhook as Receiver
from standardwebhooks.webhooks import WebhookVerificationError

from dialerd.clock import SystemClock
from dialerd.webhooks import signing

# The example of the specification and of every library of the standard.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, TIMESTAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_published_example() -> None:
    assert signing.signature(SECRET, ID, TIMESTAMP, BODY) == SIGNATURE
    headers = signing.headers([SECRET], ID, datetime.fromtimestamp(TIMESTAMP, UTC), BODY)
    assert headers == {"webhook-id": ID, "webhook-timestamp": str(TIMESTAMP), "webhook-signature": SIGNATURE}


def test_a_receiver_of_the_standard_accepts_old_and_new_secret() -> None:
    now = SystemClock().wall()
    old, new = (signing.encode_secret(SystemClock().token().encode()) for _ in range(2))
    body = '{"type":"completed","data":{"name":"Zoë"}}'.encode()
    headers = signing.headers([new, old], "evt_7", now, body)
    for secret in (old, new):
        assert Receiver(secret).verify(body.decode(), headers) == json.loads(body)
    with pytest.raises(WebhookVerificationError):
        Receiver(signing.encode_secret(b"another secret, of nobody")).verify(body.decode(), headers)


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "evt_8"},
        {"webhook-timestamp": "1"},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "v1a,AAAA"},
    ],
)
def test_a_receiver_refuses_what_was_changed(change: dict[str, str]) -> None:
    headers = signing.headers([SECRET], "evt_7", SystemClock().wall(), b"{}")
    with pytest.raises(WebhookVerificationError):
        Receiver(SECRET).verify("{}", {**headers, **change})


def test_a_receiver_refuses_what_is_old() -> None:
    headers = signing.headers([SECRET], "evt_7", SystemClock().wall() - timedelta(minutes=6), b"{}")
    with pytest.raises(WebhookVerificationError):
        Receiver(SECRET).verify("{}", headers)


def test_secrets_are_as_long_as_the_standard_asks() -> None:
    for _ in range(20):
        key = SystemClock().token(signing.SECRET_BYTES).encode()
        assert 24 <= len(key) <= 64
        assert signing.decode_secret(signing.encode_secret(key)) == key


def test_what_is_no_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="whsec_"):
        signing.decode_secret("whsec_not base64!")
