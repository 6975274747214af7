"""The SDK's descriptions, read faster, say the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiobotocore.session import AioSession

from edgeproxy.storage.s3_models import read_models_fast


@pytest.mark.parametrize(
    "name", ["endpoints", "partitions", "s3/2006-03-01/service-2", "s3/2006-03-01/endpoint-rule-set-1"]
)
def test_what_is_read_is_what_the_sdk_reads(name: str) -> None:
    fast, plain = AioSession(), AioSession()
    read_models_fast(fast)
    assert fast.get_data(name) == plain.get_data(name)


def test_the_users_own_data_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.json").write_text(json.dumps({"a": 1}))
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    session = AioSession()
    read_models_fast(session)
    assert session.get_data("mine") == {"a": 1}
