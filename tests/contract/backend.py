"""What the contract suites run on: an empty store that runs, with its presigners."""

from __future__ import annotations

from dataclasses import dataclass

from edgeproxy.storage import Presigner, Store


@dataclass(frozen=True, slots=True)
class Backend:
    """One implementation of the storage protocols, ready to use.

    `past_presigner` signs as if it were an hour ago: what it signs for less is expired. Where a store has none, the suite
    waits for a short life to pass. `one_mechanism`: a presigned URL with an `Authorization` header beside it is refused.
    """

    name: str
    store: Store
    presigner: Presigner
    past_presigner: Presigner | None = None
    one_mechanism: bool = True
