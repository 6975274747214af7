"""The gate of every operation: who asks, and whether the current policy lets them. Refusals leave here as the right answer.

The decision itself is `Policy.decide`; this is the only place that asks it for HTTP, so there is no second set of rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from edgeproxy.access.credentials import ANONYMOUS, Authenticated
from edgeproxy.access.decisions import Decision, Denial, Grant, Reason
from edgeproxy.access.policy import Policy
from edgeproxy.access.refusals import TokenReason, TokenRefused
from edgeproxy.bounded import Bounded, bytes_of
from edgeproxy.oci.errors import Denied, NameUnknown, RegistryError, Unauthorized
from edgeproxy.oci.names import Repository, Tag
from edgeproxy.oci.operations import Access, Action
from edgeproxy.web.heads import Head

DECISION_BYTES: Final = 16 * 1024 * 1024
"""Memory for decisions, each of which takes about 700 bytes."""
DECISION_SECONDS: Final = 60.0


_Key = tuple[bytes, str, str, Action]
"""Token, version of the policy, repository, action."""


def _weigh(key: _Key, made: tuple[Decision, float]) -> int:
    decision = made[0]
    if isinstance(decision, Grant):
        said = bytes_of(decision.rules) + bytes_of(decision.claims)
    else:
        mismatch = decision.mismatch
        said = 0 if mismatch is None else bytes_of((mismatch.claim, mismatch.got, mismatch.wanted))
    return 400 + len(key[2]) + said


class Authenticator(Protocol):
    """Finds out who sends these values of `Authorization`, under a policy and at a time in seconds since the epoch."""

    def remembered(self, headers: Sequence[bytes], policy: Policy, now: float) -> Authenticated | None:
        """Say it without waiting, or not at all."""

    async def authenticate(self, headers: Sequence[bytes], policy: Policy, now: float) -> Authenticated:
        """Say it.

        Raises:
            TokenRefused: the credential is not believed.

        """


class PolicyDenied(Exception):
    """A refusal by policy: the answer for the caller and the decision for the operator."""

    def __init__(self, answer: RegistryError, access: Access, denial: Denial | None) -> None:
        super().__init__(answer.message)
        self.answer = answer
        self.access = access
        self.denial = denial


class Gate:
    """Asks the policy, remembers its decisions, and words its refusals."""

    def __init__(
        self, policy: Callable[[], Policy], credentials: Authenticator, clock: Callable[[], float], public_url: str
    ) -> None:
        self.policy = policy
        self._credentials = credentials
        self._clock = clock
        self._realm = f"{public_url}/token"
        self._service = public_url.partition("://")[2]
        self.hits = 0
        self.misses = 0
        self._decisions: Bounded[_Key, tuple[Decision, float]] = Bounded(DECISION_BYTES, _weigh)

    def __len__(self) -> int:
        return len(self._decisions)

    @property
    def weight(self) -> int:
        """Bytes of the decisions that are remembered, by estimate."""
        return self._decisions.weight

    def remembered(self, head: Head) -> Authenticated | None:
        """Say who asks if nobody has to be waited for; else None, and `identify` finds it out."""
        headers = head.fields.get(b"authorization")
        if headers is None:
            return ANONYMOUS
        return self._credentials.remembered(headers, self.policy(), self._clock())

    async def identify(self, head: Head) -> Authenticated:
        """Find out who asks, as far as the policy that is in force by then wants to know.

        Raises:
            TokenRefused: a credential was shown that is not believed; `unbelieved` words the answer.

        """
        headers = head.fields.get(b"authorization")
        if headers is None:
            return ANONYMOUS
        while True:
            policy = self.policy()
            who = await self._credentials.authenticate(headers, policy, self._clock())
            # A policy that came meanwhile may ask for a claim that was not kept; a deny must not miss it.
            if self.policy() is policy or who.is_known_to(self.policy()):
                return who

    def decide(self, who: Authenticated, access: Access) -> Decision:
        """Ask the current policy, or remember what it said: by token, policy, repository and action.

        Raises:
            TokenRefused: the policy changed since the caller was found out, and cannot decide about what was found.

        """
        policy = self.policy()
        now = self._clock()
        key = (who.token, policy.version, access.repository.name, access.action)
        remembered = self._decisions.get(key)
        if remembered is not None and now < remembered[1]:
            self.hits += 1
            return remembered[0]
        self.misses += 1
        if not who.is_known_to(policy):
            raise TokenRefused(TokenReason.OUTDATED, "the policy has changed while this token was looked at; try again")
        decision = policy.decide(who.caller, access, now)
        self._decisions.put(key, (decision, min(decision.until, now + DECISION_SECONDS)))
        return decision

    def permit(self, who: Authenticated, access: Access) -> Grant:
        """Let an operation through.

        Raises:
            PolicyDenied: the policy does not, or the bearer was not asked for this repository.

        """
        if who.scope is not None and access.repository.name not in who.scope:
            raise PolicyDenied(self._outside_scope(access), access, None)
        decision = self.decide(who, access)
        if isinstance(decision, Grant):
            return decision
        raise PolicyDenied(self._refusal(who, access, decision), access, decision)

    def admit(self, who: Authenticated) -> None:
        """Let a ping through. Anonymous callers are challenged as soon as there is anybody to sign in with.

        A client asks for credentials only if the ping answers 401, so this holds even where there are public repositories.

        Raises:
            Unauthorized: there is no credential, and the policy lists an issuer.

        """
        if not who.presented and self.policy().challenges:
            raise Unauthorized("sign in to use this registry", headers=self.challenge())

    def may(self, who: Authenticated, repository: Repository, action: Action) -> bool:
        """Say whether the policy would let an operation through, whatever the bearer was asked for."""
        return isinstance(self.decide(who, Access(repository, action)), Grant)

    def may_here(self, who: Authenticated, repository: Repository, action: Action) -> bool:
        """Say whether an operation would be let through."""
        return (who.scope is None or repository.name in who.scope) and self.may(who, repository, action)

    def immutable(self, repository: Repository, tag: Tag) -> bool:
        """Say whether the current policy forbids to move or delete a tag."""
        return self.policy().immutable(repository, tag)

    def challenge(self, access: Access | None = None, error: str = "", description: str = "") -> dict[str, str]:
        """Make the one `WWW-Authenticate` challenge that every 401 carries."""
        parts = [f'realm="{self._realm}"', f'service="{self._service}"']
        if access is not None:
            actions = "pull" if access.action is Action.PULL else f"pull,{access.action}"
            parts.append(f'scope="repository:{access.repository}:{actions}"')
        if error:
            parts.append(f'error="{error}"')
        if description:
            parts.append(f'error_description="{description}"')
        return {"WWW-Authenticate": "Bearer " + ",".join(parts)}

    def unbelieved(self, refused: TokenRefused, access: Access | None) -> RegistryError:
        """Word the answer to a credential that is not believed. `error=` has clients drop it and get another one."""
        headers = self.challenge(access, "invalid_token", refused.message)
        return Unauthorized(refused.message, headers=headers)

    def _outside_scope(self, access: Access) -> RegistryError:
        text = f"this token was not asked for repository {access.repository}; ask for one with that scope"
        return Unauthorized(text, headers=self.challenge(access, "insufficient_scope", text))

    def _refusal(self, who: Authenticated, access: Access, denial: Denial) -> RegistryError:
        if not who.presented and self.policy().lists_issuers:
            return Unauthorized(
                f"sign in to {access.action} {access.repository}: no anonymous caller may",
                headers=self.challenge(access),
            )
        if denial.reason is Reason.EXPIRED:
            text = "the sign-in behind this token has expired; sign in again"
            return Unauthorized(text, headers=self.challenge(access, "invalid_token", text))
        if denial.hidden:
            return NameUnknown(
                f"repository {access.repository} is not known to this registry", detail=access.repository.name
            )
        return Denied(_explain(access, denial), detail=f"{access.action} {access.repository}")


def _explain(access: Access, denial: Denial) -> str:
    """Say why and what to do, with names of rules and claims, never a value that the policy expects."""
    what = f"{access.action} {access.repository} is denied"
    if denial.reason is Reason.ANONYMOUS:
        return f"{what} to anonymous callers; sign in with an identity that the policy names"
    if denial.reason is Reason.DENY_RULE:
        return f"{what} by deny rule '{denial.rule}'; ask the owner of the policy"
    if denial.mismatch is not None:
        return (
            f"{what}: no rule allows it; rule '{denial.mismatch.rule}' comes nearest, but '{denial.mismatch.claim}' differs;"
            " ask the owner of the policy"
        )
    return f"{what}: no rule of the policy allows it; ask its owner"
