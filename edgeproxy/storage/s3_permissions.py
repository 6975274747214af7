"""What a credential may do in a bucket, found out without writing an object.

Nothing that is asked for exists: who may read is told so, who may not is told that instead. Deleting what is not there and ending
an upload that never was change nothing (a bucket with versions keeps a delete marker).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from edgeproxy.storage import CredentialDenied, NotFound, StoreError
from edgeproxy.storage.s3_calls import Calls


async def lacking_permissions(calls: Calls, absent: str) -> tuple[str, ...]:
    """Say, a line each, what the credential may not do; `absent` is a key (with its prefix) that no object ever has.

    Raises:
        StoreUnavailable: the store cannot be used at all.

    """
    # First and alone: where credential, region or bucket is wrong, the answer to a GET has a body that says which.
    reading = await _denied(calls, "GetObject", absent)
    listing, deleting, aborting = await asyncio.gather(
        # HeadBucket asks for the same permission, but its answer has no body that says what is wrong.
        _denied(calls, "ListObjectsV2", MaxKeys=1),
        _tolerant(calls, "DeleteObject", absent),
        _tolerant(calls, "AbortMultipartUpload", absent, UploadId="0" * 32),
    )
    # S3 calls an absent object forbidden where the caller may not list; then nothing is known of reading.
    denials = (listing, "" if listing else reading, deleting, aborting)
    return tuple(denial for denial in denials if denial)


async def _denied(calls: Calls, operation: str, key: str = "", **parameters: Any) -> str:
    """Give the refusal of a call by the credential's permissions, or ""."""
    try:
        await calls.call(operation, key, **parameters)
    except CredentialDenied as denial:
        return str(denial)
    except NotFound:
        pass
    return ""


async def _tolerant(calls: Calls, operation: str, key: str, **parameters: Any) -> str:
    """Do the same where stores differ in what they answer about what does not exist: only a refusal counts."""
    with suppress(StoreError):
        return await _denied(calls, operation, key, **parameters)
    return ""
