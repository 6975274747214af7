"""The layout of the bucket. Pure: names in, keys out.

```
blobs/<alg>/<hex>                                the bytes, once, for all repositories
repos/<name>/_blobs/<alg>/<hex>                  this repository holds that blob (metadata: size)
repos/<name>/_manifests/<alg>/<hex>              manifest bytes; Content-Type is the media type
repos/<name>/_tags/<tag>                         JSON: digest, media type, size, who and when; empty: a deleted tag
repos/<name>/_tagged/<alg>/<hex>/<tag>           the way back from a digest to its tags (a hint: the tag itself decides)
repos/<name>/_referrers/<alg>/<hex>/<alg>-<hex>  JSON: the descriptor of one referrer of that subject
repos/<name>/_deletions                          when a blob was last deleted here
repos/<name>/_history/...                        reserved
catalog/<name, encoded>                          this repository exists; written once
uploads/<uuid>/<sequence>                        JSON: state of an upload session after its n-th PATCH
uploads/<uuid>/data/<random>                     the bytes of one PATCH attempt
config/...                                       the policy, if kept in the bucket
layout                                           JSON: the version of this layout
```

Keys sort as the specification wants lists sorted, so a listing *is* the answer. A component that begins with `_` cannot be part of a
repository's name, so no repository's keys collide with another's. No key lies below another key: directories cannot hold both.
"""

from __future__ import annotations

from typing import Final

from edgeproxy.oci.names import Digest, Repository, Tag

LAYOUT: Final = "layout"
LAYOUT_VERSION: Final = 1
CATALOG: Final = "catalog/"
BLOBS: Final = "blobs/"
REPOSITORIES: Final = "repos/"
UPLOADS: Final = "uploads/"
POLICY: Final = "config/policy.yaml"

# `-`, `.` and `/` sort before letters and digits and in this order; `!`, `-` and `.` do too, and none of them nests.
ENCODE: Final = str.maketrans({"-": "!", ".": "-", "/": "."})
_DECODE: Final = str.maketrans({"!": "-", "-": ".", ".": "/"})


def blob(digest: Digest) -> str:
    """Where the bytes of a blob lie."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


def link(repository: Repository, digest: Digest) -> str:
    """Where it is written that the repository holds the blob."""
    return f"repos/{repository.name}/_blobs/{digest.algorithm}/{digest.hex}"


def manifest(repository: Repository, digest: Digest) -> str:
    """Where a manifest lies."""
    return f"repos/{repository.name}/_manifests/{digest.algorithm}/{digest.hex}"


def manifests(repository: Repository) -> str:
    """Prefix of all manifests of a repository."""
    return f"repos/{repository.name}/_manifests/"


def tag(repository: Repository, name: Tag) -> str:
    """Where a tag lies."""
    return f"repos/{repository.name}/_tags/{name.name}"


def tags(repository: Repository) -> str:
    """Prefix of all tags of a repository."""
    return f"repos/{repository.name}/_tags/"


def tagged(repository: Repository, digest: Digest, name: Tag) -> str:
    """Where it is noted that the tag points, or pointed, at the digest."""
    return f"{tagged_with(repository, digest)}{name.name}"


def tagged_with(repository: Repository, digest: Digest) -> str:
    """Prefix of all notes about tags of a digest."""
    return f"repos/{repository.name}/_tagged/{digest.algorithm}/{digest.hex}/"


def referrer(repository: Repository, subject: Digest, digest: Digest) -> str:
    """Where the descriptor of one referrer of a subject lies."""
    return f"{referrers(repository, subject)}{digest.algorithm}-{digest.hex}"


def referrers(repository: Repository, subject: Digest) -> str:
    """Prefix of all referrers of a subject."""
    return f"repos/{repository.name}/_referrers/{subject.algorithm}/{subject.hex}/"


def deletions(repository: Repository) -> str:
    """Where it is noted when a blob was last deleted in the repository."""
    return f"repos/{repository.name}/_deletions"


def catalog(repository: Repository) -> str:
    """Where it is noted that the repository exists: one flat key that sorts as the name does."""
    return CATALOG + repository.name.translate(ENCODE)


def cataloged(key: str) -> Repository:
    """Read a repository back from its catalog key.

    Raises:
        NameInvalid: the key is not one that `catalog` makes.

    """
    return Repository.parse(key.removeprefix(CATALOG).translate(_DECODE))


def session(upload: str) -> str:
    """Prefix of everything an upload session holds."""
    return f"uploads/{upload}/"


def state(upload: str, sequence: int) -> str:
    """Where the state of an upload after its n-th PATCH lies; zero-padded, so that the last key is the newest state."""
    return f"uploads/{upload}/{sequence:08d}"


def states(upload: str) -> str:
    """Prefix of all states of an upload, without its data."""
    return f"uploads/{upload}/0"


def segment(upload: str, name: str) -> str:
    """Where the bytes of one PATCH attempt lie."""
    return f"uploads/{upload}/data/{name}"
