"""Printing an operation as the path and query of its request: the other direction of `requests.parse`."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from edgeproxy.oci import operations as ops


def target(operation: ops.Operation) -> str:
    """Print the path and query, both ASCII, that `requests.parse` reads back to the operation."""
    query: dict[str, object] = {}
    match operation:
        case ops.Ping():
            path = ""
        case ops.WhoAmI():
            path = "_edgeproxy/whoami"
        case ops.CanI():
            path = "_edgeproxy/can-i"
            query = {"repository": operation.repository, "action": operation.action}
        case ops.ListCatalog():
            path = "_catalog"
            query = {"n": operation.n, "last": operation.last}
        case ops.ListTags():
            path = f"{operation.repository}/tags/list"
            query = {"n": operation.n, "last": operation.last}
        case ops.ListReferrers():
            path = f"{operation.repository}/referrers/{operation.digest}"
            query = {"artifactType": operation.artifact_type, "last": operation.last}
        case ops.GetBlob() | ops.DeleteBlob():
            path = f"{operation.repository}/blobs/{operation.digest}"
        case ops.GetManifest() | ops.DeleteManifest():
            path = f"{operation.repository}/manifests/{operation.reference}"
        case ops.PutManifest():
            path = f"{operation.repository}/manifests/{operation.reference}"
            query = {"tag": operation.tags}
        case _:
            return _upload_target(operation)
    return f"/v2/{path}{_query(query)}"


def _upload_target(operation: ops.UploadOperation) -> str:
    session = ""
    query: dict[str, object] = {}
    match operation:
        case ops.StartUpload():
            query = {"digest-algorithm": operation.algorithm}
        case ops.UploadWhole():
            query = {"digest": operation.digest}
        case ops.MountBlob():
            query = {"mount": operation.digest, "from": operation.source}
        case ops.FinishUpload():
            session, query = operation.session, {"digest": operation.digest}
        case _:
            session = operation.session
    return f"/v2/{operation.repository}/blobs/uploads/{session}{_query(query)}"


def _query(parameters: Mapping[str, object]) -> str:
    pairs = [
        f"{name}={quote(str(item), safe='')}"
        for name, value in parameters.items()
        for item in (value if isinstance(value, tuple) else (value,))
        if item is not None and item != ""
    ]
    return f"?{'&'.join(pairs)}" if pairs else ""
