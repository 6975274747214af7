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
from edgeproxy.web.operations import Readiness
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
