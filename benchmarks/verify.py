"""What it costs to find out who sends a token, beside PyJWT's own `decode`: `python -m benchmarks.verify`. Asserts nothing.

One run compares both on the same token, in turn, so that a noisy machine disturbs them alike; the ratio is what counts. The last column is
a token that was verified before, as nearly all are.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

import jwt

from edgeproxy.access.issuers import IssuerKeys
from edgeproxy.access.policy import load_policy
from edgeproxy.access.tokens import Verifier
from tests.issuer import Key, LocalIssuer

ROUNDS, CALLS = 15, 200
ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "EdDSA")

# About what GitHub puts into the token of a job.
CLAIMS = {
    "repository": "acme/app",
    "repository_id": "81234567",
    "repository_owner": "acme",
    "repository_owner_id": "7654321",
    "ref": "refs/heads/main",
    "sha": "a" * 40,
    "workflow_ref": "acme/app/.github/workflows/release.yml@refs/heads/main",
    "job_workflow_ref": "acme/app/.github/workflows/release.yml@refs/heads/main",
    "event_name": "push",
    "environment": "production",
    "run_id": "1234567890",
    "runner_environment": "github-hosted",
}


async def timed(call: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    for _ in range(CALLS):
        await call()
    return (time.perf_counter() - began) / CALLS * 1e6


async def compare(algorithm: str) -> None:
    key = Key.make("one", algorithm)
    issuer = LocalIssuer(keys=(key,))
    now = time.time()
    token = issuer.mint({**CLAIMS, "iat": int(now), "exp": int(now) + 300})
    text = f"version: 1\nissuers:\n  ci: {{url: {issuer.url!r}, audiences: [{AUDIENCE}]}}\n" + RULES
    policy = load_policy(text.encode(), source="policy.yaml", loopback=False, now=now)
    keys = IssuerKeys(issuer.fetch, lambda: now)
    public = jwt.PyJWK(key.published(), algorithm=algorithm)

    async def theirs() -> object:
        return jwt.decode(token, public, algorithms=[algorithm], audience=AUDIENCE, issuer=issuer.url)

    async def ours() -> object:
        # A verifier of its own each time: it remembers tokens.
        return await Verifier(keys).verify(token, policy, now)

    remembering = Verifier(keys)

    async def again() -> object:
        return await remembering.verify(token, policy, now)

    rounds = [(await timed(theirs), await timed(ours), await timed(again)) for _ in range(ROUNDS)]
    ratios = sorted(mine / other for other, mine, _ in rounds)
    other, mine, known = (statistics.median(column) for column in zip(*rounds, strict=True))
    spread = f"{ratios[1]:.2f} to {ratios[-2]:.2f}"
    ratio = f"ratio {statistics.median(ratios):.2f} ({spread})"
    print(f"{algorithm:<6} PyJWT {other:6.1f} us   ours {mine:6.1f} us   {ratio}   known {known:4.1f} us")


AUDIENCE = "registry.example"
RULES = """
rules:
  - name: main
    issuer: ci
    match: {repository_id: "81234567", ref: refs/heads/main, environment: production}
    allow: [{repositories: ["acme/**"], actions: [pull, push]}]
"""


async def main() -> None:
    print(f"{ROUNDS} rounds of {CALLS} calls each, Python {sys.version.split()[0]}, PyJWT {jwt.__version__}")
    for algorithm in ALGORITHMS:
        await compare(algorithm)


if __name__ == "__main__":
    asyncio.run(main())
