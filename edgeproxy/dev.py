"""What `edgeproxy dev` adds to `serve`: other defaults, and a data folder with a starter policy and a signing key.

Everything is written on the first run and read from there ever after; what the operator changed is never touched.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final
from urllib.parse import quote

from edgeproxy.access.policy import Policy, PolicyError, load_policy
from edgeproxy.access.signing import SigningKeyError, new_key
from edgeproxy.config import Settings

POLICY_FILE: Final = "policy.yaml"
KEYS_FOLDER: Final = "signing-keys"

STARTER_POLICY: Final = """\
# Who may do what in this registry. A change takes effect within seconds, with no restart.
# 'edgeproxy policy lint FILE' finds what is unsafe, 'edgeproxy policy explain FILE REPOSITORY ACTION' says why.
version: 1

# Everyone who reaches the registry, with no credential at all. More than `pull` is only possible because
# `edgeproxy dev` listens on this machine alone: anywhere else such a document is refused.
public:
  - {repositories: ["**"], actions: [pull, push, delete, catalog]}

# A real registry has no passwords: it believes tokens of the issuers listed here, and rules say what their
# claims allow. To see it, take the `#` off and make `public` smaller.
#
#issuers:
#  github:
#    url: https://token.actions.githubusercontent.com
#    audiences: [registry.example.com]
#
#rules:
#  - name: main-branch-pushes-app
#    issuer: github
#    match: {repository_id: "81234567", ref: refs/heads/main}   # every claim must match
#    allow:
#      - {repositories: [acme/app, "acme/app/**"], actions: [pull, push]}
#    token_seconds: 3600                                        # as long as the longest push takes
#
#deny:                                                          # beats every rule, and `public`
#  - name: nobody-deletes-releases
#    repositories: ["acme/releases/**"]
#    actions: [delete]
#
#tags:
#  - {repositories: ["acme/**"], tags: ["v*"], immutable: true} # may be created, never moved or deleted
"""


class DevError(Exception):
    """The data folder cannot be used; the text says what to do."""


def defaults(data: Path, port: int) -> dict[str, str]:
    """Give the defaults of every setting in which `dev` differs from `serve`."""
    folder = data.absolute()
    return {
        "bind": f"localhost:{port}",
        "store": f"file://{quote(str(folder / 'store'))}",
        "policy": str(folder / POLICY_FILE),
        "signing_keys": str(folder / KEYS_FOLDER),
        "audit": f"file:{folder / 'audit.jsonl'}",
    }


def prepare(data: Path) -> None:
    """Make what the data folder lacks: the folder, the starter policy, a signing key.

    Raises:
        DevError: it cannot be written.

    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_new(data / ".gitignore", "*\n")
        _write_new(data / POLICY_FILE, STARTER_POLICY)
        if not [*(data / KEYS_FOLDER).glob("*.pem")]:
            new_key(data / KEYS_FOLDER, time.time())
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


def _allowed(settings: Settings) -> list[str]:
    """Say in a few lines what the policy allows."""
    if settings.policy == "store:":
        return ["is in the bucket"]
    path = Path(settings.policy)
    try:
        policy = load_policy(
            path.read_bytes(),
            source=settings.policy,
            loopback=settings.loopback,
            now=time.time(),
            files=lambda name: (path.parent / name).read_bytes(),
        )
    except OSError as error:
        raise DevError(f"{path}: {error.strerror}") from None
    except PolicyError as error:
        raise DevError(str(error)) from None
    return _told(policy) or ["allows nothing to anyone"]


def _told(policy: Policy) -> list[str]:
    told = []
    entries = [("everyone", entry) for entry in policy.public]
    entries += [(f"rule {rule.name}", entry) for rule in policy.rules if rule.enforced for entry in rule.allow]
    for who, entry in entries:
        actions = ", ".join(sorted(action.value for action in entry.actions))
        told.append(f"{who}: {actions} in {', '.join(glob.text for glob in entry.repositories)}")
    return told


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x") as file:
            file.write(text)
    except FileExistsError:
        pass
