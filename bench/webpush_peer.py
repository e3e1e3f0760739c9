"""pywebpush, with nothing else around it: the same messages as bench/webpush_encrypt.py, a `WebPusher` for each."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from pywebpush import WebPusher

TEXT = b'{"title":"Hello World","body":"' + b"x" * 167 + b'"}'


def work(subscriptions: list[list[str]], messages: int) -> int:
    """Octets of that many messages."""
    octets = 0
    for number in range(messages):
        p256dh, auth = subscriptions[number % len(subscriptions)]
        subscription = {"endpoint": "https://push.example/x", "keys": {"p256dh": p256dh, "auth": auth}}
        octets += len(WebPusher(subscription).encode(TEXT, content_encoding="aes128gcm")["body"])
    return octets


def main() -> None:
    """Prints what a message costs."""
    subscriptions, messages = json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])
    work(subscriptions, 512)
    begun = time.process_time()
    work(subscriptions, messages)
    print(json.dumps({"cpu_us": (time.process_time() - begun) / messages * 1e6}))


if __name__ == "__main__":
    main()
