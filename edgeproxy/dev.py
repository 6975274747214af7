"""What `edgeproxy dev` adds to `serve`: other defaults, and a data folder with a starter policy, a signing key and an issuer of its own.

Everything is written on the first run and read from there ever after; what the operator changed is never touched.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final
from urllib.parse import quote

from edgeproxy import dev_issuer
from edgeproxy.access.policy import Policy, PolicyError
from edgeproxy.access.signing import SigningKeyError, SigningKeys, new_key
from edgeproxy.addresses import listener
from edgeproxy.dev_issuer import DevIssuer, NoDevIssuer
from edgeproxy.reload import compile_policy
from edgeproxy.serving import Site
from edgeproxy.settings import STORED_POLICY, Settings

DEFAULT_PORT: Final = 5000
POLICY_FILE: Final = "policy.yaml"
KEYS_FOLDER: Final = "signing-keys"
ISSUER_KEYS_FOLDER: Final = "issuer-keys"

STARTER_POLICY: Final = """\
# Who may do what in this registry. A change takes effect within seconds, with no restart.
#
# edgeproxy policy lint FILE                         finds what is unsafe or dead
# edgeproxy policy explain FILE REPOSITORY ACTION    says who may, and why
# edgeproxy policy test FILE                         runs the expectations at the end
version: 1

# Everyone who reaches the registry, with no credential at all. More than `pull` is only possible because
# 'edgeproxy dev' listens on this machine alone: anywhere else such a document is refused.
public:
  - {repositories: ["**"], except: ["private/**"], actions: [pull, push, delete, catalog]}

# There are no users and no passwords: a caller is what a token of an issuer listed here says.
issuers:
  dev:                              # runs inside 'edgeproxy dev', and 'edgeproxy dev-token' prints its tokens
    url: http://127.0.0.1:5002
    audiences: ["localhost:5000"]   # a token must be meant for this registry
    # Docker and most other clients show a credential only if the registry asks everyone for one first. Without this line it
    # does; clients without a credential go on all the same. Take it away to sign in with them:
    # sed -i.bak '/challenge: false$/d' FILE
    challenge: false

# Rules say what a caller may do. Every claim under `match` must fit; a caller gets what all rules that match allow. For
# GitHub Actions, GitLab and Kubernetes there are `github:`, `gitlab:` and `kubernetes:` in place of `match:`.
rules:
  - name: acme-app-pushes           # edgeproxy dev-token --claim repository=acme/app
    issuer: dev
    match: {repository: acme/app}
    allow:
      - {repositories: ["private/app", "private/app/**"], actions: [pull, push]}
    token_seconds: 3600             # as long as the longest push takes, whenever the token ends
  - name: on-call                   # edgeproxy dev-token --claim groups=oncall
    issuer: dev
    match: {groups: [oncall, admins]}   # any of these; where the claim is a list, any of its elements
    allow:
      - {repositories: ["private/**"], actions: [pull, push, delete, catalog]}
    token_seconds: 3600

# Beats every rule, and `public`.
deny:
  - name: nobody-deletes-releases
    repositories: ["private/releases/**"]
    actions: [delete]

# May be created, never moved or deleted.
tags:
  - {repositories: ["private/**"], tags: ["v*"], immutable: true}

tests:
  - {repository: hello, action: push, expect: allow}
  - {repository: private/app, action: pull, expect: deny}
  - {issuer: dev, claims: {repository: acme/app}, repository: private/app, action: push, expect: allow}
  - {issuer: dev, claims: {repository: acme/other}, repository: private/app, action: push, expect: deny}
  - {issuer: dev, claims: {groups: [oncall]}, repository: private/releases/app, action: delete, expect: deny}
"""


class DevError(Exception):
    """The data folder cannot be used; the text says what to do."""


def defaults(data: Path, port: int) -> dict[str, str]:
    """Give the defaults of every setting in which `dev` differs from `serve`."""
    folder = data.absolute()
    # Audit lines go where they do not disturb the terminal; a comma would begin another place.
    audit = "stdout" if "," in str(folder) else f"file:{folder / 'audit.jsonl'}"
    return {
        "bind": f"localhost:{port}",
        "store": f"file://{quote(str(folder / 'store'))}",
        "policy": str(folder / POLICY_FILE),
        "signing_keys": str(folder / KEYS_FOLDER),
        "audit": audit,
    }


def prepare(data: Path, registry: str = "localhost:5000", issuer_port: int = 5002) -> None:
    """Make what the data folder lacks: the folder, the starter policy, a key to sign with, and one for the issuer.

    `registry` is what clients type, `issuer_port` where the issuer is to listen; the policy holds both from then on.

    Raises:
        DevError: it cannot be written.

    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_new(data / ".gitignore", "*\n")
        policy = STARTER_POLICY.replace("localhost:5000", registry).replace(
            "127.0.0.1:5002", f"127.0.0.1:{issuer_port}"
        )
        _write_new(data / POLICY_FILE, policy)
        for folder in (KEYS_FOLDER, ISSUER_KEYS_FOLDER):
            if not [*(data / folder).glob("*.pem")]:
                new_key(data / folder, time.time())
    except OSError as error:
        raise DevError(
            f"{error.filename or data}: {error.strerror}: choose a folder that you may write with --data DIR"
        ) from None
    except SigningKeyError as error:
        raise DevError(str(error)) from None


def greeting(settings: Settings, data: Path) -> str:
    """Say where everything is, what the policy allows, and what to type.

    Raises:
        DevError: the policy document is not usable.

    """
    registry = settings.token_service
    lines = [
        f"registry     {settings.public_url}",
        f"blobs from   {settings.store_public_endpoint}",
        f"data         {data.absolute()}",
        f"policy       {settings.policy}",
        *(f"             {line}" for line in _allowed(settings)),
        "",
        "Try:",
        "  docker pull alpine",
        f"  docker tag alpine {registry}/hello",
        f"  docker push {registry}/hello",
        f"  docker run --rm {registry}/hello echo it works",
        "",
    ]
    return "\n".join(lines)


def issuer_port(settings: Settings) -> int:
    """Say where the issuer is to listen: at the port after the store's, until the policy says otherwise."""
    return listener(settings.bind).port + 2


def issuer_of(settings: Settings) -> DevIssuer:
    """Find the issuer of `dev` in the policy document.

    Raises:
        DevError: the document is not usable, or lists no such issuer.

    """
    policy = _policy(settings)
    if policy is None:
        raise DevError("the policy is in the bucket: 'edgeproxy dev' runs an issuer for a policy in a file only")
    try:
        return dev_issuer.listed(policy)
    except NoDevIssuer as error:
        raise DevError(f"{settings.policy}: {error}") from None


def issuer_site(settings: Settings, data: Path) -> Site | None:
    """Give what `dev` serves besides the registry: its issuer, at the port that the policy or else the starter policy names.

    It runs also while the policy does not list it, so that adding it there needs no restart; then, if the port is taken, not.

    Raises:
        DevError: the port that the policy names is taken, or its keys are not usable.

    """
    try:
        issuer, is_listed = issuer_of(settings), True
    except DevError:
        issuer, is_listed = DevIssuer(f"http://127.0.0.1:{issuer_port(settings)}", settings.token_service), False
    ours = (*settings.bind_addresses, *settings.store_bind_addresses, *settings.operations_bind_addresses)
    if f"127.0.0.1:{issuer.port}" not in ours and issuer.is_free():
        return dev_issuer.site(issuer, issuer_keys(data))
    if is_listed:
        raise DevError(
            f"{settings.policy}: issuer `{dev_issuer.NAME}` is at {issuer.url}, but that port is taken: "
            "stop what listens there, or write another port"
        )
    return None


def issuer_keys(data: Path) -> SigningKeys:
    """Load the keys of the issuer.

    Raises:
        DevError: there are none, or they are not usable.

    """
    try:
        return SigningKeys.load(data / ISSUER_KEYS_FOLDER)
    except SigningKeyError as error:
        raise DevError(str(error)) from None


def _allowed(settings: Settings) -> list[str]:
    """Say in a few lines what the policy allows."""
    policy = _policy(settings)
    if policy is None:
        return ["is in the bucket"]
    return _told(policy) or ["allows nothing to anyone"]


def _policy(settings: Settings) -> Policy | None:
    """Load the policy document, or None if it is in the bucket.

    Raises:
        DevError: it is not usable.

    """
    if settings.policy == STORED_POLICY:
        return None
    path = Path(settings.policy)
    try:
        return compile_policy(settings, path.read_bytes())
    except OSError as error:
        raise DevError(f"{path}: {error.strerror}") from None
    except PolicyError as error:
        raise DevError(str(error)) from None


def _told(policy: Policy) -> list[str]:
    told = []
    entries = [("everyone", entry) for entry in policy.public]
    entries += [(f"rule {rule.name}", entry) for rule in policy.rules if rule.enforced for entry in rule.allow]
    for who, entry in entries:
        actions = ", ".join(sorted(action.value for action in entry.actions))
        but = f" except {', '.join(glob.text for glob in entry.excepted)}" if entry.excepted else ""
        told.append(f"{who}: {actions} in {', '.join(glob.text for glob in entry.repositories)}{but}")
    return told


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x") as file:
            file.write(text)
    except FileExistsError:
        pass
