"""How clients are given a token: in the file that docker, podman, crane and oras share, or by hand at `/token`."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import aiohttp


def write_login(home: Path, host: str, token: str) -> None:
    """Sign in as `docker login -u oidc` does: the token as the password of any user name."""
    (home / ".docker").mkdir(exist_ok=True)
    credential = base64.b64encode(f"oidc:{token}".encode()).decode()
    (home / ".docker" / "config.json").write_text(json.dumps({"auths": {host: {"auth": credential}}}))


async def exchanged(url: str, token: str, repository: str = "") -> tuple[int, dict[str, Any]]:
    """Ask for a bearer; give the status and the answer."""
    scope = {"scope": f"repository:{repository}:pull,push"} if repository else {}
    headers = {"Authorization": aiohttp.encode_basic_auth("oidc", token)}
    async with aiohttp.ClientSession(headers=headers) as session, session.get(f"{url}/token", params=scope) as answer:
        return answer.status, await answer.json()


async def can(url: str, token: str, action: str, repository: str) -> bool:
    """Exchange a token, and ask whether the bearer may do something."""
    status, answer = await exchanged(url, token, repository)
    assert status == 200, answer
    headers = {"Authorization": f"Bearer {answer['token']}"}
    question = f"{url}/v2/_edgeproxy/can-i?repository={repository}&action={action}"
    async with aiohttp.ClientSession(headers=headers) as session, session.get(question) as asked:
        assert asked.status == 200, await asked.text()
        allowed: bool = (await asked.json())["allowed"]
        return allowed


async def refusal(url: str, token: str) -> str:
    """Show a token that must be refused; give the sentence that says why."""
    status, answer = await exchanged(url, token)
    assert status == 401, answer
    message: str = answer["errors"][0]["message"]
    return message
