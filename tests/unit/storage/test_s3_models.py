"""The SDK's descriptions, read faster, say the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiobotocore.session import AioSession

from edgeproxy.storage.s3_models import read_models_fast


@pytest.mark.parametrize("name", ["partitions", "s3/2006-03-01/service-2", "s3/2006-03-01/endpoint-rule-set-1"])
def test_what_is_read_is_what_the_sdk_reads(name: str) -> None:
    fast, plain = AioSession(), AioSession()
    read_models_fast(fast)
    assert fast.get_data(name) == json.loads(json.dumps(plain.get_data(name)), object_hook=without_words)


def without_words(content: dict[str, object]) -> dict[str, object]:
    if isinstance(content.get("documentation"), str):
        content["documentation"] = ""
    return content


def test_the_users_own_data_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = {"a": 1, "members": {"documentation": {"shape": "Text"}}}
    (tmp_path / "mine.json").write_text(json.dumps(mine))
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    session = AioSession()
    read_models_fast(session)
    # A member may have that name; only what people read is left out.
    assert session.get_data("mine") == mine


def test_what_people_read_is_not_kept() -> None:
    fast, plain = AioSession(), AioSession()
    read_models_fast(fast)
    name = "s3/2006-03-01/service-2"
    assert 2 * len(json.dumps(fast.get_data(name))) < len(json.dumps(plain.get_data(name)))


@pytest.mark.parametrize("service", ["s3", "sts", "sso", "sso-oidc", "signin"])
async def test_whoever_is_called_is_found_where_the_sdk_finds_it(service: str) -> None:
    """The SDK's rules decide it, service by service, and not the list that is shortened: should that change, this says so."""
    lean, plain = AioSession(), AioSession()
    read_models_fast(lean)
    for region in ("auto", "eu-central-1", "cn-north-1", "us-gov-west-1"):
        assert await found(lean, service, region) == await found(plain, service, region)


async def found(session: AioSession, service: str, region: str) -> tuple[str, str, str]:
    async with session.create_client(
        service, region_name=region, aws_access_key_id="key", aws_secret_access_key="secret"
    ) as client:
        return client.meta.endpoint_url, client.meta.partition, client._request_signer._signing_name


def test_the_list_of_other_services_is_not_kept() -> None:
    lean, plain = AioSession(), AioSession()
    read_models_fast(lean)
    assert len(plain.get_data("endpoints")["partitions"][0]["services"]) > 100
    for partition in lean.get_data("endpoints")["partitions"]:
        assert set(partition["services"]) <= {"s3", "sts", "sso", "portal.sso", "oidc", "signin"}
        assert {"s3", "sts"} <= set(partition["services"])
