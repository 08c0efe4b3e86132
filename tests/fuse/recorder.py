"""Records what httpx sends and receives, whoever sends it: the published client stays as it is.

`write` puts every exchange into a file as it was, and into a second one with what differs from run to run replaced.
"""

import contextlib
import json
import re
import threading

import httpx

exchanges = []
paused = threading.local()
send = httpx.HTTPTransport.handle_request

# Of an answer's headers only these are the contract's.
HEADERS = ("content-type", "server", "set-cookie", "x-accel-buffering", "cache-control")
# What is never twice the same, or differs from machine to machine.
VOLATILE = [
    (r"\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)", "<time>"),
    (r"fuse_sk_[A-Za-z0-9_-]{8,43}", "<key>"),
    (r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])", "<token>"),
    (r"fuse_session=[A-Za-z0-9_-]{20,}", "fuse_session=<session>"),
    (r"(cursor=)[A-Za-z0-9_%-]{10,}", r"\1<cursor>"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:<port>"),
    (r"sim-\d+", "sim-<number>"),
    (r"fuse-orchestrator/[^ \"]+", "fuse-orchestrator/<version>"),
    (r"docker://[0-9a-f]+", "docker://<container>"),
]
# Numbers of the machine, and what is there or not as it happens.
MACHINE = {"cpus", "ram_mb", "storage_gb", "vm_count"}
BY_CHANCE = {"health", "last_used_at"}
LONG = 4


@contextlib.contextmanager
def pause():
    paused.now = True
    try:
        yield
    finally:
        paused.now = False


class Tee(httpx.SyncByteStream):
    def __init__(self, stream, exchange):
        self.stream, self.exchange = stream, exchange

    def __iter__(self):
        for chunk in self.stream:
            self.exchange["stream"] += chunk.decode()
            yield chunk

    def close(self):
        self.stream.close()


def record(transport, request):
    if getattr(paused, "now", False):
        return send(transport, request)
    sent = {"method": request.method, "path": request.url.raw_path.decode()}
    body = request.read()
    if body:
        sent["body"] = parsed(body.decode())
    sent["authorization"] = (request.headers.get("authorization") or "").split(" ")[0]
    response = send(transport, request)
    headers = {name: response.headers[name] for name in HEADERS if name in response.headers}
    answer = {"status": response.status_code, "headers": headers}
    exchanges.append({"request": sent, "answer": answer})
    if headers.get("content-type", "").startswith("text/event-stream"):
        answer["stream"] = ""
        response.stream = Tee(response.stream, answer)
    else:
        answer["body"] = parsed(response.read().decode())
    return response


httpx.HTTPTransport.handle_request = record


def parsed(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


def settled(value, replaced, at=None):
    """The same with everything replaced that differs from run to run; what is equal stays equal."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in BY_CHANCE}
        in_capacity = at == "capacity"
        if "version" in kept:
            kept["version"] = "<version>"
        return {
            key: "<number>" if in_capacity and key in MACHINE and item else settled(item, replaced, key)
            for key, item in kept.items()
        }
    if isinstance(value, list):
        shown = value if len(value) <= LONG else [value[0], f"<{len(value) - 2} more>", value[-1]]
        return [settled(item, replaced, at) for item in shown]
    if not isinstance(value, str):
        return value
    if at == "arch":
        return "<arch>"
    if at == "next_cursor":
        return "<cursor>"
    for known, word in replaced["words"]:
        value = value.replace(known, word)
    # It may be any word: only where a host is meant.
    value = re.sub(rf"(^|hosts?[/ ]|host_id=){re.escape(replaced['host'])}(?=$|[ ?])", r"\1<host>", value)
    for pattern, word in VOLATILE:
        value = re.sub(pattern, word, value)

    def number(found):
        known = replaced["ids"]
        return f"<id {known.setdefault(found.group(0), len(known) + 1)}>"

    return re.sub(r"[0-9a-f]{16,}", number, value)


def write(path, host, words):
    """`words` are those that stand for what only this run has: pairs of text and word."""
    replaced = {"words": [pair for pair in words if pair[0]], "host": host, "ids": {}}
    with open(path, "w") as file:
        json.dump(exchanges, file)
    with open(path + ".golden", "w") as file:
        json.dump([settled(exchange, replaced) for exchange in exchanges], file, indent=1, sort_keys=True)
        file.write("\n")
