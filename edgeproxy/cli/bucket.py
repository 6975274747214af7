"""`edgeproxy check`, `inspect` and `fsck`: what is to be known of the bucket without serving it."""

# ruff: noqa: PLC0415 - imports are made when a command runs, so that --help is quick

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from edgeproxy.cli.output import UNUSED, Config, Json, print_columns, print_json, progress
from edgeproxy.command import REFUSED, WRONG, fail, settings

if TYPE_CHECKING:
    from edgeproxy.registry.inspection import RepositoryReport, TagReport
    from edgeproxy.settings import Settings
    from edgeproxy.storage import Store

_Result = TypeVar("_Result")

Data = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Look into the data folder of 'edgeproxy dev' instead.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(check)
    app.command()(inspect)
    app.command()(fsck)


def check(config: Config = None, as_json: Json = False) -> None:
    """Try what serve needs, on the real store.

    One line for each problem, naming what to do; exit 1 if there is any.
    """
    import asyncio
    import logging

    from edgeproxy.checking import checks

    loaded = settings(config)
    # What a log would say is told as a problem.
    logging.getLogger().addHandler(logging.NullHandler())

    async def run() -> list[dict[str, str]]:
        results = []
        async for result in checks(loaded):
            results.append({"check": result.name, "problem": result.problem})
            if not as_json:
                typer.echo(f"{'PROBLEM' if result.problem else 'ok':8} {result.name}")
                if result.problem:
                    typer.echo(f"{result.name}: {result.problem}", err=True)
        return results

    results = asyncio.run(run())
    problems = [result for result in results if result["problem"]]
    if as_json:
        print_json({"checks": results})
    raise typer.Exit(REFUSED if problems else 0)


def inspect(
    name: Annotated[str, typer.Argument(metavar="REPOSITORY[:TAG]")],
    config: Config = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Print what the bucket holds for a name."""
    from edgeproxy.oci.errors import RegistryError
    from edgeproxy.oci.names import Repository, Tag
    from edgeproxy.registry import inspection

    repository, colon, tag = name.partition(":")
    try:
        wanted = Repository.parse(repository), Tag.parse(tag) if colon else None
    except RegistryError as error:
        fail(error, WRONG)

    async def look(store: Store) -> RepositoryReport | TagReport:
        of, tagged = wanted
        return await (inspection.inspect_tag(store, of, tagged) if tagged else inspection.inspect_repository(store, of))

    try:
        report = _with_store(_bucket_settings(config, data), look)
    except RegistryError as error:
        fail(error, REFUSED)
    if as_json:
        print_json(_plain(report))
    elif isinstance(report, inspection.TagReport):
        _print_tag(report)
    else:
        _print_repository(report)


def fsck(
    config: Config = None,
    data: Data = None,
    bytes_: Annotated[bool, typer.Option("--bytes", help="Read every blob and compare its digest.")] = False,
    as_json: Json = False,
) -> None:
    """Hold the bucket against its rules.

    Exit 1 for damage; garbage only costs storage. Changes nothing.
    """
    import time
    from dataclasses import asdict

    from edgeproxy.registry import fsck as checking

    found: dict[str, list[dict[str, str]]] = {"damage": [], "garbage": []}

    async def look(store: Store) -> None:
        with progress() as report:
            async for item in checking.fsck(store, now=time.time(), rehash=bytes_, progress=report):
                found[item.of].append(asdict(item.finding))

    _with_store(_bucket_settings(config, data), look)
    if as_json:
        print_json(found)
    else:
        for of, items in found.items():
            for item in items:
                typer.echo(f"{of:8} {item['kind']:26} {item['key']}: {item['message']}")
        typer.echo(f"{len(found['damage'])} damaged, {len(found['garbage'])} garbage")
    raise typer.Exit(REFUSED if found["damage"] else 0)


def _bucket_settings(config: Path | None, data: Path | None) -> Settings:
    from edgeproxy import dev

    if data is None:
        return settings(config, defaults=UNUSED)
    if not (data / "store").is_dir():
        fail(f"{data} is no data folder of 'edgeproxy dev': it has no store", WRONG)
    return settings(config, defaults={**UNUSED, "store": dev.defaults(data, 5000)["store"]})


def _with_store(loaded: Settings, work: Callable[[Store], Awaitable[_Result]]) -> _Result:
    """Do something with the store of the settings, or say why it cannot be used."""
    import asyncio

    from edgeproxy.storage import StoreError

    async def run() -> _Result:
        async with _opened(loaded) as store:
            return await work(store)

    try:
        return asyncio.run(run())
    except StoreError as error:
        fail(f"EDGEPROXY_STORE: {error}", REFUSED)


@asynccontextmanager
async def _opened(loaded: Settings) -> AsyncIterator[Store]:
    from edgeproxy.app import open_backend
    from edgeproxy.storage import StoreUnavailable
    from edgeproxy.storage.startup import layout_problem

    async with open_backend(loaded) as backend:
        await backend.store.check()
        if problem := await layout_problem(backend.store):
            raise StoreUnavailable(problem)
        yield backend.store


def _print_repository(report: RepositoryReport) -> None:
    typer.echo(f"{report.repository}: {len(report.manifests)} manifests, {len(report.tags)} tags, "
               f"{report.blobs} blobs of {report.blob_bytes} bytes")  # fmt: skip
    if report.manifests:
        rows = [
            (entry.digest, entry.media_type, entry.size, _moment(entry.modified), " ".join(map(str, entry.tags)))
            for entry in report.manifests
        ]
        print_columns([("MANIFEST", "MEDIA TYPE", "BYTES", "MODIFIED", "TAGS"), *rows])


def _print_tag(report: TagReport) -> None:
    tagged = report.tagged
    by = f" by {tagged.by}" if tagged.by else ""
    typer.echo(f"{report.repository}:{report.tag} points at {tagged.digest} since {_moment(tagged.created)}{by}")
    rows = [("manifest", tagged.digest, tagged.media_type, tagged.size, "")]
    for part in report.parts:
        known = part.descriptor
        rows.append((part.role, known.digest, known.media_type, known.size, "" if part.held else "not here"))
    print_columns([("PART", "DIGEST", "MEDIA TYPE", "BYTES", ""), *rows])


def _plain(report: RepositoryReport | TagReport) -> dict[str, Any]:
    """Print a report as plain values; moments are seconds since the epoch."""
    from edgeproxy.registry.inspection import TagReport

    if isinstance(report, TagReport):
        tagged = report.tagged
        return {
            "repository": report.repository.name,
            "tag": report.tag.name,
            "digest": str(tagged.digest),
            "media_type": tagged.media_type,
            "size": tagged.size,
            "created": tagged.created,
            "by": tagged.by,
            "parts": [
                {
                    "role": part.role,
                    "digest": str(part.descriptor.digest),
                    "media_type": part.descriptor.media_type,
                    "size": part.descriptor.size,
                    "held": part.held,
                }
                for part in report.parts
            ],
        }
    return {
        "repository": report.repository.name,
        "manifests": [
            {
                "digest": str(entry.digest),
                "media_type": entry.media_type,
                "size": entry.size,
                "modified": entry.modified,
                "tags": [tag.name for tag in entry.tags],
            }
            for entry in report.manifests
        ],
        "tags": [
            {"tag": tag.name, "digest": str(tagged.digest), "created": tagged.created, "by": tagged.by}
            for tag, tagged in report.tags
        ],
        "blobs": report.blobs,
        "blob_bytes": report.blob_bytes,
    }


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}Z"
