"""What one decision costs: `python benchmarks/decide.py [RULES]`. Prints medians with their spread, asserts nothing.

Four shapes of a document with 500 rules: each rule its own repositories; all rules on the same repositories, told apart
by a claim, by a glob on a claim, or by a regex on a claim.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence

from edgeproxy.access.credentials import Authenticated
from edgeproxy.access.decisions import Decision, Grant, Identity
from edgeproxy.access.policy import Policy, load_policy
from edgeproxy.oci.names import Repository
from edgeproxy.oci.operations import Access, Action
from edgeproxy.web.gate import Gate

BATCHES, CALLS = 60, 300
NOW = 1_800_000_000.0

HEAD = """
version: 1
issuers:
  github: {url: "https://token.actions.githubusercontent.com", audiences: [registry.example.com]}
  cluster: {url: "https://kubernetes.default.svc", audiences: [registry.example.com]}
deny:
  - {name: nobody-deletes-releases, repositories: ["acme/releases/**"], actions: [delete]}
public:
  - {repositories: ["public/**"], actions: [pull]}
rules:
"""
OWN = """
  - name: rule-{n}
    issuer: github
    match: {{repository_id: "{n}", ref: refs/heads/main}}
    allow: [{{repositories: [acme/app-{n}, "acme/app-{n}/**"], actions: [pull, push]}}]
"""
SHARED = """
  - name: rule-{n}
    issuer: github
    match: {{repository_id: "{n}", ref: refs/heads/main}}
    allow: [{{repositories: ["acme/**"], actions: [pull, push]}}]
"""
GLOBS = """
  - name: rule-{n}
    issuer: cluster
    match: {{sub: {{glob: "system:serviceaccount:team-{n}-*:*"}}}}
    allow: [{{repositories: ["acme/**"], actions: [pull]}}]
"""
REGEXES = """
  - name: rule-{n}
    issuer: cluster
    match: {{sub: {{regex: "system:serviceaccount:team-{n}-[a-z]+:[a-z]+"}}}}
    allow: [{{repositories: ["acme/**"], actions: [pull]}}]
"""


def document(rule: str, rules: int) -> Policy:
    text = HEAD + "".join(rule.format(n=n) for n in range(rules))
    return load_policy(text.encode(), source="benchmark", loopback=False, now=NOW)


def measure(decide: Callable[[], Decision]) -> tuple[list[float], Decision]:
    samples = []
    for _ in range(BATCHES):
        begin = time.perf_counter_ns()
        for _ in range(CALLS):
            decision = decide()
        samples.append((time.perf_counter_ns() - begin) / CALLS / 1000)
    return samples, decision


def report(name: str, policy: Policy, caller: Identity | None, access: Access) -> None:
    samples, decision = measure(lambda: policy.decide(caller, access, NOW))
    deciles, median = statistics.quantiles(samples, n=10), statistics.median(samples)
    outcome = "grant " if isinstance(decision, Grant) else "denial"
    spread = f"p10 {deciles[0]:7.1f}   p90 {deciles[-1]:7.1f}"
    print(f"{name:<34} {outcome} median {median:7.1f} us   {spread}")


class Nobody:
    """An authenticator that is never asked."""

    def remembered(self, headers: Sequence[bytes], policy: Policy, now: float) -> Authenticated | None:
        raise NotImplementedError

    async def authenticate(self, headers: Sequence[bytes], policy: Policy, now: float) -> Authenticated:
        raise NotImplementedError


def remembered(policy: Policy, caller: Identity, access: Access) -> None:
    """Ask the gate of HTTP, which remembers what the policy said."""
    gate = Gate(lambda: policy, Nobody(), lambda: NOW, "https://registry.example")
    who = Authenticated(caller, None, b"hash of a token", presented=True)
    samples, _ = measure(lambda: gate.decide(who, access))
    deciles, median = statistics.quantiles(samples, n=10), statistics.median(samples)
    print(
        f"{'remembered by the gate':<34}        median {median:7.2f} us   p10 {deciles[0]:7.2f}   p90 {deciles[-1]:7.2f}"
    )


def main() -> None:
    rules = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    middle = str(rules // 2)

    def job(repository_id: str) -> Identity:
        claims = {"repository_id": repository_id, "ref": "refs/heads/main", "repository_owner_id": "7"}
        return Identity("github", "repo:acme/app", claims, NOW + 300)

    pod = Identity("cluster", "x", {"sub": f"system:serviceaccount:team-{middle}-a:puller"}, NOW + 300)
    other = Identity("cluster", "x", {"sub": "system:serviceaccount:nobody:puller"}, NOW + 300)
    push = Access(Repository.parse(f"acme/app-{middle}"), Action.PUSH)
    pull = Access(push.repository, Action.PULL)
    public = Access(Repository.parse("public/app"), Action.PULL)

    own, shared, globs, regexes = (document(rule, rules) for rule in (OWN, SHARED, GLOBS, REGEXES))
    print(f"{rules} rules, {BATCHES} batches of {CALLS} calls, Python {sys.version.split()[0]}")
    report("own repositories", own, job(middle), push)
    report("own repositories, other job", own, job("x"), push)
    report("same repositories", shared, job(middle), push)
    report("same repositories, other job", shared, job("x"), push)
    report("same repositories, globs on sub", globs, pod, pull)
    report("same repositories, no glob fits", globs, other, pull)
    report("same repositories, regexes on sub", regexes, pod, pull)
    report("anonymous, public", own, None, public)
    report("anonymous, refused", own, None, push)
    remembered(own, job(middle), push)


if __name__ == "__main__":
    main()
