"""Drives a life with Fuse's own client, as it is published. Arguments: address, token, image, docker or sim, and a file that
gets what was sent and answered."""

import base64
import sys
import threading

import httpx
import recorder
from fuse import Client
from fuse.errors import ApiError
from fuse.types import (
    CreateRequest,
    ExecRequest,
    ExposeSpec,
    ForkOptions,
    HealthcheckSpec,
    RegisterHostRequest,
    SnapshotRequest,
    Spec,
)

address, token, image, runtime, recorded = sys.argv[1:6]
client = Client(address, token)


def refused(status, code, call, *arguments, **more):
    try:
        got = call(*arguments, **more)
    except ApiError as error:
        assert (error.status, error.code) == (status, code), error
        assert error.message and error.request_id.startswith("req_"), error
        return error.message
    raise AssertionError(f"{status} {code} was expected, not {got}")


def spec(**more):
    return Spec(image=image or None, **more)


# Nothing is there, and every answer to that can be read.
assert client.environments.list() == []
assert client.snapshots.list() == []
refused(404, "not_found", client.environments.get, "fuse-nothing")
refused(404, "not_found", client.environments.destroy, "fuse-nothing")
refused(404, "not_found", client.snapshots.get, "nothing")

# An environment with all that there is.
made = client.environments.create(
    CreateRequest(
        task_id="life",
        spec=spec(cpus=1, ram_mb=64, max_runtime_seconds=600, idle_timeout_seconds=60),
        secrets={"KEY": "s3cr3t"},
        files={"/workspace/hello": base64.b64encode(b"hello\n").decode()},
        startup_script="echo started > /workspace/started",
        expose=[ExposeSpec(port=8080, as_="web")],
        healthcheck=HealthcheckSpec(exec=["true"], interval_seconds=1, timeout_seconds=1),
        gateway_url="http://gateway",
        gateway_token="gateway-token",
    )
)
assert (made.id, made.state, made.task_id) == ("fuse-life", "running", "life"), made
assert made.spec.ram_mb == 64 and made.endpoints[0].as_ == "web", made
assert made.created_at and made.updated_at and made.host_id and made.url, made
refused(409, "conflict", client.environments.create, CreateRequest(task_id="life", spec=spec()))
assert [found.id for found in client.environments.list(task_id="life", state="running")] == ["fuse-life"]

# What happens to it is told as it happens, to whoever listens.
states = []
ready = threading.Event()


def follow():
    for event in client.environments.events("fuse-life"):
        assert event.err is None, event
        states.append(event.state)
        ready.set()


follower = threading.Thread(target=follow, daemon=True)
follower.start()
assert ready.wait(10) and states == ["running"], states

# What does not start is told, and is gone.
if runtime == "docker":
    broken = CreateRequest(task_id="broken", spec=spec(), startup_script="exit 7")
    assert "exit code 7" in refused(500, "internal", client.environments.create, broken)
    refused(404, "not_found", client.environments.get, "fuse-broken")

# Commands: their codes, outputs and limits.
if runtime == "sim":
    refused(501, "unimplemented", client.environments.exec, "fuse-life", ExecRequest(cmd=["true"]))
else:
    ran = client.environments.exec("fuse-life", ExecRequest(shell="echo out; echo err >&2; exit 3"))
    assert (ran.exit_code, ran.stdout, ran.stderr) == (3, "out\n", "err\n"), ran
    ran = client.environments.exec("fuse-life", ExecRequest(cmd=["sleep", "30"], timeout_ms=500))
    assert ran.exit_code == 124, ran
    ran = client.environments.exec(
        "fuse-life", ExecRequest(shell="cat /workspace/hello /workspace/started /fuse/secrets.json")
    )
    assert (ran.exit_code, ran.stdout) == (0, 'hello\nstarted\n{"KEY":"s3cr3t"}'), ran
    before = client.environments.exec("fuse-life", ExecRequest(cmd=["cat", "/fuse/auth-token"])).stdout
    client.environments.rotate_token("fuse-life")
    after = client.environments.exec("fuse-life", ExecRequest(cmd=["cat", "/fuse/auth-token"])).stdout
    assert len(before) > 20 and len(after) > 20 and before != after, (before, after)

# Keys: what one may, and that it ends at once.
key = client.api_keys.create("tests")
assert key.id.startswith("ak_") and key.key.startswith("fuse_sk_") and key.label == "tests", key
with Client(address, key.key) as other:
    assert [found.id for found in other.environments.list()] == ["fuse-life"]
    refused(403, "unauthorized", other.environments.exec, "fuse-life", ExecRequest(cmd=["true"]))
    refused(403, "unauthorized", other.api_keys.list)
    other.environments.create(CreateRequest(task_id="of-key", spec=spec()))
    other.environments.destroy("fuse-of-key")
    client.api_keys.revoke(key.id)
    client.api_keys.revoke(key.id)
    refused(401, "unauthorized", other.environments.list)
listed = client.api_keys.list()
assert [found.id for found in listed] == [key.id] and listed[0].revoked_at, listed
refused(404, "not_found", client.api_keys.revoke, "ak_0000000000000000")
with Client(address, "wrong") as unknown:
    refused(401, "unauthorized", unknown.environments.list)

# Hosts: the one there is, and what cannot be one.
(host,) = client.hosts.list()
assert client.hosts.get(host.id).id == host.id == made.host_id
assert host.state == "active" and host.capacity.cpus > 0 and host.allocated.vm_count == 1, host
client.hosts.cordon(host.id)
assert client.hosts.get(host.id).state == "cordoned"
refused(503, "unavailable", client.environments.create, CreateRequest(task_id="no", spec=spec()))
client.hosts.uncordon(host.id)
refused(409, "conflict", client.hosts.deregister, host.id)
refused(404, "not_found", client.hosts.get, "nothing")
refused(400, "invalid_argument", client.hosts.register, RegisterHostRequest(id="h", url="http://h"))
refused(404, "not_found", client.environments.create, CreateRequest(task_id="no", spec=spec(host_id="h")))
refused(400, "invalid_argument", client.environments.create, CreateRequest(task_id="", spec=spec()))

# Snapshots, and forks: on the simulation. What nothing here can do is said to be so.
if runtime == "sim":
    first = client.snapshots.create("fuse-life", SnapshotRequest(comment="first", metadata={"name": "one"}))
    assert (first.state, first.vm_id, first.comment, first.kind) == ("ready", "fuse-life", "first", "disk"), first
    second = client.snapshots.create("fuse-life", SnapshotRequest(layer_key="layer"))
    assert second.parent_snapshot_id == first.id, second
    assert [found.id for found in client.snapshots.list(vm_id="fuse-life")] == [second.id, first.id]
    assert client.snapshots.get(first.id).digest == first.digest
    refused(409, "conflict", client.snapshots.delete, first.id)
    client.snapshots.restore(first.id)
    forked = client.environments.fork("fuse-life", ForkOptions(reuse_snapshot_id=first.id))
    assert forked.id.startswith("fuse-fork-") and forked.state == "running", forked
    client.environments.destroy(forked.id)
    client.snapshots.delete(second.id)
    client.snapshots.delete(first.id)
    refused(404, "not_found", client.snapshots.get, first.id)
    live = SnapshotRequest(live=True)
    refused(501, "unimplemented", client.snapshots.create, "fuse-life", live)
else:
    refused(501, "unimplemented", client.environments.fork, "fuse-life")
    refused(501, "unimplemented", client.snapshots.create, "fuse-life", SnapshotRequest(comment="no"))
refused(503, "unavailable", client.environments.migrate, "fuse-life")
assert client.environments.computer_display("fuse-life").up is False

# It drains, takes nothing new, and goes.
drained = client.environments.drain("fuse-life")
assert (drained.state, drained.task_id) == ("draining", "life"), drained
assert client.environments.drain("fuse-life").state == "draining"
refused(409, "conflict", client.environments.exec, "fuse-life", ExecRequest(cmd=["true"]))
refused(409, "conflict", client.environments.rotate_token, "fuse-life")
client.environments.destroy("fuse-life")
follower.join(10)
assert states == ["running", "draining", "destroying", "destroyed"], states
refused(404, "not_found", client.environments.get, "fuse-life")

# Lists are walked to their end, however long they are.
if runtime == "sim":
    tasks = [f"page-{count:03}x" for count in range(510)]

    def make(some):
        with recorder.pause(), Client(address, token) as own:
            for task in some:
                own.environments.create(CreateRequest(task_id=task))

    workers = [threading.Thread(target=make, args=(tasks[part::10],)) for part in range(10)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [found.task_id for found in client.environments.list()] == tasks
    page = client.environments.list_page(limit=7)
    assert len(page.environments) == 7 and page.next_cursor, page

# What the client has no words for: a browser's session, and requests that nothing is there for.
with httpx.Client(base_url=address) as browser:

    def answered(status, code, method, path, **more):
        answer = browser.request(method, path, **more)
        assert answer.status_code == status, answer.text
        assert code is None or answer.json()["error"]["code"] == code, answer.text

    bearer = {"Authorization": f"Bearer {token}"}
    answered(200, None, "GET", "/v1/version")
    answered(404, "route_not_found", "GET", "/v1/nothing")
    answered(405, None, "PUT", "/v1/environments", headers=bearer)
    answered(401, "unauthorized", "GET", "/v1/environments")
    answered(401, "unauthorized", "POST", "/login", json={"token": "wrong"})
    answered(400, "invalid_argument", "POST", "/login", content="{")
    answered(413, "payload_too_large", "POST", "/login", content="x" * 5000)
    answered(204, None, "POST", "/login", json={"token": token})
    answered(200, None, "GET", "/v1/hosts")
    answered(204, None, "POST", "/logout")
    answered(401, "unauthorized", "GET", "/v1/hosts")
    answered(400, "invalid_argument", "GET", "/v1/environments?cursor=nonsense", headers=bearer)
    answered(400, "invalid_argument", "POST", "/v1/environments/fuse-x?action=dance", headers=bearer)
    answered(200, None, "GET", "/v1/snapshots/resolve?layer_key=none&arch=amd64", headers=bearer)
    answered(200, None, "GET", "/v1/dead-letters", headers=bearer)

recorder.write(recorded, host.id, [(token, "<token>"), (key.key, "<key>"), (image, "<image>")])
print("the life is over")
