"""What operators are told of a running registry."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from starlette.applications import Starlette

from edgeproxy.access.policy import Policy, load_policy
from edgeproxy.access.signing import SigningKeys, new_key
from edgeproxy.counters import Counters
from edgeproxy.health import probes_of
from edgeproxy.readings import of_policy, of_serving, together
from edgeproxy.reload import CurrentPolicy, FileDocument
from edgeproxy.web.operations import Health, Probes, Readiness
from tests.http.harness import NOW, Reply, call, on_directory


def load(text: bytes) -> Policy:
    return load_policy(text, source="policy.yaml", loopback=False, now=NOW)


async def test_a_broken_policy_alarms_on_readyz_and_metrics_and_ends_when_it_is_mended(tmp_path: Path) -> None:
    document = tmp_path / "policy.yaml"
    document.write_text("version: 1\n")
    (tmp_path / "keys").mkdir()
    new_key(tmp_path / "keys", NOW)
    async with on_directory(tmp_path / "store") as house:
        policy = CurrentPolicy(FileDocument(document), load, house.clock)
        await policy.start()
        keys = SigningKeys.load(tmp_path / "keys", house.clock)
        readiness = Readiness()
        numbers = together(
            partial(of_policy, policy, house.clock), of_serving(Counters(), house.registry, house.audit, readiness)
        )
        app = Starlette(routes=probes_of(house.store, policy, keys, readiness, numbers).all_routes)

        async def ask(path: str) -> Reply:
            return (await call(app, "GET", path, [], None)).expect(200)

        assert (await ask("/readyz")).json["status"] == "ok"
        assert b"edgeproxy_policy_broken 0.0" in (await ask("/metrics")).body

        document.write_text("version: 1\nrulez: []\n")
        await policy.refresh()
        told = (await ask("/readyz")).json
        assert told["status"] == "degraded"
        assert "rulez" in told["checks"]["policy"]["reason"]
        assert b"edgeproxy_policy_broken 1.0" in (await ask("/metrics")).body

        document.write_text("version: 1\n# mended\n")
        house.clock.advance(7)
        await policy.refresh()
        assert (await ask("/readyz")).json["status"] == "ok"
        metrics = (await ask("/metrics")).body
        assert b"edgeproxy_policy_broken 0.0" in metrics
        assert b"edgeproxy_policy_age_seconds 0.0" in metrics
        assert b"edgeproxy_audit_dropped 0.0" in metrics


async def test_a_process_that_stops_says_so_and_that_it_is_alive(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("version: 1\n")
    (tmp_path / "keys").mkdir()
    new_key(tmp_path / "keys", NOW)
    async with on_directory(tmp_path / "store") as house:
        policy = CurrentPolicy(FileDocument(tmp_path / "policy.yaml"), load, house.clock)
        await policy.start()
        keys = SigningKeys.load(tmp_path / "keys", house.clock)
        stopping = False
        probes = probes_of(house.store, policy, keys, Readiness(), dict, lambda: stopping)
        app = Starlette(routes=probes.all_routes)
        assert (await call(app, "GET", "/readyz", [], None)).expect(200).json["checks"]["process"]["ok"]
        stopping = True
        told = (await call(app, "GET", "/readyz", [], None)).expect(503)
        assert told.json["status"] == "unavailable"
        assert told.json["checks"]["process"] == {
            "ok": False,
            "reason": "stopping: send no more requests here; what is sent still is served",
        }
        (await call(app, "GET", "/healthz", [], None)).expect(200)


async def test_a_check_can_be_left_out_and_one_that_is_not_there_cannot() -> None:
    async def good() -> Health:
        return Health(ok=True)

    async def bad() -> Health:
        return Health(ok=False, reason="down")

    app = Starlette(routes=Probes({"policy": good, "store": bad}, lambda: b"", Readiness()).all_routes)
    assert (await call(app, "GET", "/readyz", [], None)).expect(503).json["status"] == "unavailable"
    assert (await call(app, "GET", "/readyz?exclude=store", [], None)).expect(200).json == {
        "status": "ok",
        "checks": {"policy": {"ok": True, "reason": ""}},
    }
    (await call(app, "GET", "/readyz?exclude=policy", [], None)).expect(503)
    told = (await call(app, "GET", "/readyz?exclude=stores", [], None)).expect(400)
    assert told.json["checks"] == ["policy", "store"]
