"""Reading a request line into an operation. The only place that takes a path apart; `targets.target` prints it again.

Works on the raw bytes: the grammar of names has no percent sign, so an encoded name is no name. Only the colon of a digest may arrive
as `%3A`, as some clients write it.

A name may contain components such as `blobs`, `manifests` or `uploads`, so a path is read from its end, and the last component but one
alone decides: `.../manifests/<reference>`, `.../blobs/<digest>`, `.../referrers/<digest>`, `.../tags/list`, `.../blobs/uploads[/]` and
`.../blobs/uploads/<session>` differ in it (`uploads` is no digest), and everything before is the name. No path has two readings.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from edgeproxy.oci import operations as ops
from edgeproxy.oci.errors import (
    BadRequest,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestInvalid,
    NameInvalid,
    NotFound,
    RegistryError,
    TooManyTags,
    Unsupported,
)
from edgeproxy.oci.names import HEX_LENGTH, Digest, Reference, Repository, Tag, parse_reference, shown
from edgeproxy.oci.operations import Action, Operation
from edgeproxy.oci.parameters import Parameters

MAX_TAGS: Final = 100
"""Tags that one push of a manifest may set; the specification asks for at least 10."""

_PREFIX: Final = "/v2/"
_SESSION: Final = re.compile(r"[A-Za-z0-9_-]{1,1024}", re.ASCII)
_SECRET: Final = re.compile(r"(?<=/uploads/)[A-Za-z0-9_-]{20,}", re.ASCII)
"""What may be the token of a session, which no message repeats."""
_SHAPE: Final = re.compile(r"[a-z0-9_][a-z0-9._-]*(?:/[a-z0-9_][a-z0-9._-]*)*", re.ASCII)
_REMEMBERED: Final = frozenset({"GET", "HEAD"})
_NO_PARAMETERS: Final = Parameters()


def parse(method: str, raw_path: bytes, query: bytes) -> Operation:
    """Read a request line under /v2/, the path as it was sent.

    Raises:
        RegistryError: it is no operation; the code and the message say which part of it is wrong. `Unsupported` has `Allow` in its headers.

    """
    if query or method not in _REMEMBERED:
        return _read(method, raw_path, query)
    return _read_again(method, raw_path, query)


def _read(method: str, raw_path: bytes, query: bytes) -> Operation:
    parameters = Parameters.parse(query) if query else _NO_PARAMETERS
    # Every byte becomes one character, so that the grammar of the part in which it lies refuses it.
    path = raw_path.decode("latin-1")
    above, _, last = path.rpartition("/")
    above, _, kind = above.rpartition("/")
    read = _ENDPOINTS.get(kind) if above.startswith(_PREFIX) else None
    if read is None:
        return _without_repository(method, path, parameters)
    return read(method, above[len(_PREFIX) :], last, parameters)


_read_again = lru_cache(maxsize=8192)(_read)
"""What is pulled once is pulled again. Refusals are not remembered."""


def _blob(method: str, name: str, last: str, parameters: Parameters) -> Operation:
    if last == "uploads":
        return _upload(method, name, parameters)
    repository, digest = _repository(name), _digest(last)
    match method:
        case "GET" | "HEAD":
            return ops.GetBlob(repository, digest, head=method == "HEAD")
        case "DELETE":
            return ops.DeleteBlob(repository, digest)
        case _:
            raise _not_allowed(method, "GET", "HEAD", "DELETE")


def _manifest(method: str, name: str, last: str, parameters: Parameters) -> Operation:
    repository, reference = _repository(name), parse_reference(_with_colon(last))
    match method:
        case "GET" | "HEAD":
            return ops.GetManifest(repository, reference, head=method == "HEAD")
        case "PUT":
            return ops.PutManifest(repository, reference, _tags(reference, parameters))
        case "DELETE":
            return ops.DeleteManifest(repository, reference)
        case _:
            raise _not_allowed(method, "GET", "HEAD", "PUT", "DELETE")


def _tags(reference: Reference, parameters: Parameters) -> tuple[Tag, ...]:
    tags = dict.fromkeys(parameters.every("tag"))
    if tags and isinstance(reference, Tag):
        raise ManifestInvalid(
            f"the manifest is pushed as tag '{reference}'; the parameter 'tag' goes with a digest only"
        )
    if len(tags) > MAX_TAGS:
        raise TooManyTags(
            f"the request sets {len(tags)} tags, and at most {MAX_TAGS} go with one push; push again for the rest"
        )
    return tuple(map(Tag.parse, tags))


def _tag_list(method: str, name: str, last: str, parameters: Parameters) -> Operation:
    if last != "list":
        raise _no_endpoint(f"{_PREFIX}{name}/tags/{last}")
    repository = _repository(name)
    _allow(method, "GET")
    return ops.ListTags(repository, parameters.page_size(), parameters.marker())


def _referrers(method: str, name: str, last: str, parameters: Parameters) -> Operation:
    repository, digest = _repository(name), _digest(last)
    _allow(method, "GET")
    return ops.ListReferrers(repository, digest, parameters.artifact_type(), parameters.referrer_marker())


def _session(method: str, name: str, last: str, parameters: Parameters) -> Operation:
    name, blobs, rest = name.rpartition("/blobs")
    if not blobs or rest:
        raise _no_endpoint(f"{_PREFIX}{name}{blobs}{rest}/uploads/{last}")
    if not last:
        return _upload(method, name, parameters)
    repository = _repository(name)
    if _SESSION.fullmatch(last) is None:
        session = _SECRET.sub("...", f"/uploads/{last}").removeprefix("/uploads/")
        raise BlobUploadUnknown(f"{shown(session)} is no upload session; begin the upload again")
    match method:
        case "GET":
            return ops.UploadStatus(repository, last)
        case "PATCH":
            return ops.AppendUpload(repository, last)
        case "PUT":
            return ops.FinishUpload(repository, last, _stated_digest(parameters))
        case "DELETE":
            return ops.CancelUpload(repository, last)
        case _:
            raise _not_allowed(method, "GET", "PATCH", "PUT", "DELETE")


def _stated_digest(parameters: Parameters) -> Digest:
    digest = parameters.one("digest")
    if digest is None:
        raise DigestInvalid(
            "the parameter 'digest' is missing; an upload is finished with ?digest=<digest of the blob>"
        )
    return Digest.parse(digest)


def _upload(method: str, name: str, parameters: Parameters) -> Operation:
    repository = _repository(name)
    _allow(method, "POST")
    mount = parameters.one("mount")
    if mount is not None:
        return ops.MountBlob(repository, Digest.parse(mount), _source(parameters))
    digest = parameters.one("digest")
    if digest is not None:
        return ops.UploadWhole(repository, Digest.parse(digest))
    algorithm = parameters.one("digest-algorithm")
    if algorithm is not None and algorithm not in HEX_LENGTH:
        raise DigestInvalid(f"digest-algorithm {shown(algorithm)} is not one of {', '.join(HEX_LENGTH)}")
    return ops.StartUpload(repository, algorithm)


def _source(parameters: Parameters) -> Repository | None:
    name = parameters.one("from")
    try:
        return None if name is None else Repository.parse(name)
    except NameInvalid:
        return None  # A mount that is not possible becomes an upload.


_ENDPOINTS: Final[dict[str, Callable[[str, str, str, Parameters], Operation]]] = {
    "blobs": _blob,
    "manifests": _manifest,
    "tags": _tag_list,
    "referrers": _referrers,
    "uploads": _session,
}


def _without_repository(method: str, path: str, parameters: Parameters) -> Operation:
    match path:
        case "/v2/" | "/v2":
            _allow(method, "GET", "HEAD")
            return ops.Ping()
        case "/v2/_catalog":
            _allow(method, "GET")
            return ops.ListCatalog(parameters.page_size(), parameters.marker())
        case "/v2/_edgeproxy/whoami":
            _allow(method, "GET")
            return ops.WhoAmI()
        case "/v2/_edgeproxy/can-i":
            _allow(method, "GET")
            return _can_i(parameters)
        case _:
            raise _no_endpoint(path)


def _can_i(parameters: Parameters) -> Operation:
    name, action = parameters.one("repository"), parameters.one("action")
    if name is None or action is None:
        missing = "repository" if name is None else "action"
        raise BadRequest(f"the parameter '{missing}' is missing; ask ?repository=<name>&action=<action>")
    if action not in list(Action):
        raise BadRequest(f"the parameter 'action' is {shown(action)}; it is one of {', '.join(Action)}")
    return ops.CanI(Repository.parse(name), Action(action))


def _no_endpoint(path: str) -> RegistryError:
    rest = path.removeprefix(_PREFIX)
    path = _SECRET.sub("...", path)
    if rest != path and _SHAPE.fullmatch(rest) is None:
        return NameInvalid(f"the path {shown(path)} has components that no repository name and no endpoint has")
    return NotFound(f"{shown(path)} is no endpoint of this registry")


def _allow(method: str, *methods: str) -> None:
    if method not in methods:
        raise _not_allowed(method, *methods)


def _not_allowed(method: str, *methods: str) -> Unsupported:
    allow = ", ".join(methods)
    return Unsupported(f"method {shown(method)} is not supported here; use {allow}", headers={"Allow": allow})


@lru_cache(maxsize=4096)
def _repository(name: str) -> Repository:
    return Repository.parse(name)


def _digest(text: str) -> Digest:
    return Digest.parse(_with_colon(text))


def _with_colon(text: str) -> str:
    """Undo the one encoding that clients apply to a digest in a path."""
    return text.replace("%3A", ":").replace("%3a", ":") if "%" in text else text
