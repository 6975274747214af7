"""The table of all settings: what each means, how its text is read, and what it is where nothing was set."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgeproxy import quantities
from edgeproxy.addresses import (
    FileStore,
    Listener,
    S3StoreLocation,
    base_url,
    host_of,
    is_loopback,
    listener,
    store_location,
)
from edgeproxy.quantities import GIB, KIB, MIB

DEFAULT_BIND: Final = "127.0.0.1:5000"


def _public_url(values: Mapping[str, Any]) -> str:
    if not listener(values["bind"]).loopback:
        raise ValueError(
            "is required where EDGEPROXY_BIND is not a loopback address: what clients type, such as https://registry.example.com"
        )
    return base_url(f"http://{values['bind']}")


def _store_bind(values: Mapping[str, Any]) -> str | None:
    if not isinstance(values["store"], FileStore):
        return None
    bind = listener(values["bind"])
    if bind.path or bind.port == 65535:
        raise ValueError(
            "is required, as no port comes after EDGEPROXY_BIND: host:port where the file: store is served"
        )
    return str(Listener(bind.host, bind.port + 1))


def _store_public_endpoint(values: Mapping[str, Any]) -> str:
    store = values["store"]
    if isinstance(store, S3StoreLocation):
        return (
            store.endpoint
            or f"https://s3.{store.region}.amazonaws.com{'.cn' if store.region.startswith('cn-') else ''}"
        )
    public, bind = host_of(values["public_url"]), listener(values["store_bind"])
    if is_loopback(public) and bind.loopback:
        other = "127.0.0.1" if public == "localhost" else "localhost"
        return base_url(f"http://{other}:{bind.port}")
    if values["deliver"] == "proxy":
        return values["public_url"]  # type: ignore[no-any-return]
    raise ValueError(
        "is required for a file: store that not only this machine uses: the URL under which clients reach EDGEPROXY_STORE_BIND, "
        "with another host name than EDGEPROXY_PUBLIC_URL"
    )


def _signing_keys(values: Mapping[str, Any]) -> Path:
    if not values["signing_keys_pem"]:
        raise ValueError(
            "is required: a PEM file, or a directory of ES256 keys (KID.pem), which 'edgeproxy keys new' makes; or the keys "
            "themselves in EDGEPROXY_SIGNING_KEYS_PEM"
        )
    return Path()


def _log_format(_: Mapping[str, Any]) -> str:
    return "console" if sys.stderr.isatty() else "json"


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of the table. `derive` gives the value where nothing was set, from the values of the settings in `needs`."""

    name: str
    meaning: str
    default: str
    parse: Callable[[str], Any]
    derive: Callable[[Mapping[str, Any]], Any]
    needs: tuple[str, ...] = ()


def _plain(name: str, meaning: str, default: str, parse: Callable[[str], Any]) -> Setting:
    return Setting(name, meaning, default, parse, lambda _: parse(default))


def _optional(name: str, meaning: str, default: str, parse: Callable[[str], Any], without: object = None) -> Setting:
    return Setting(name, meaning, default, parse, lambda _: without)


def _required(name: str, meaning: str, parse: Callable[[str], Any]) -> Setting:
    def missing(_: Mapping[str, Any]) -> Any:
        raise ValueError(f"is required: {meaning}")

    return Setting(name, meaning, "required", parse, missing)


def _bind(text: str) -> str:
    return str(listener(text))


SETTINGS: Final = (
    _plain("bind", "where to listen: host:port, or unix:/path", DEFAULT_BIND, _bind),
    Setting(
        "public_url",
        "what clients type; realm and audience come from it",
        "http:// and the bind address on loopback, else required",
        base_url,
        _public_url,
        ("bind",),
    ),
    _required(
        "store",
        "where the objects lie: file:///dir, s3://bucket/prefix?endpoint=https://host&region=auto, or "
        "r2://ACCOUNT_ID/bucket?jurisdiction=eu",
        store_location,
    ),
    _plain("deliver", "how blobs reach clients: redirect or proxy", "redirect", quantities.one_of("redirect", "proxy")),
    Setting(
        "store_bind",
        "where a file: store is served",
        "the port after EDGEPROXY_BIND",
        _bind,
        _store_bind,
        ("bind", "store"),
    ),
    Setting(
        "store_public_endpoint",
        "URL of the store as clients reach it, put into presigned URLs",
        "the store's endpoint; for file: on loopback the other of localhost and 127.0.0.1",
        base_url,
        _store_public_endpoint,
        ("store", "store_bind", "public_url", "deliver"),
    ),
    _required("policy", "the policy document: a path, or store: for the one in the bucket", str),
    _optional(
        "signing_keys_pem",
        "the ES256 keys themselves in PEM form, one after the other, the first signs: for secrets that arrive in the environment",
        "none",
        quantities.key_text,
        "",
    ),
    Setting(
        "signing_keys",
        "a PEM file, or a directory of ES256 keys (KID.pem), which 'edgeproxy keys new' makes",
        "required without EDGEPROXY_SIGNING_KEYS_PEM",
        quantities.key_path,
        _signing_keys,
        ("signing_keys_pem",),
    ),
    _plain("redirect_seconds", "life of a presigned URL, 10 to 3600", "300", quantities.whole(10, 3600)),
    _plain("token_seconds", "life of our bearer, 60 to 3600", "900", quantities.whole(60, 3600)),
    _optional(
        "trusted_proxies",
        "CIDRs whose X-Forwarded-For is believed, and unix for who connects by a unix socket; comma-separated",
        "none",
        quantities.proxies,
        (),
    ),
    _plain("max_manifest_bytes", "largest manifest, up to 64 MiB", "4MiB", quantities.size(KIB, 64 * MIB)),
    _optional("max_blob_bytes", "largest blob", "none", quantities.size(1)),
    _plain("upload_memory_bytes", "memory for all uploads in flight", "128MiB", quantities.size(16 * MIB, 1024 * GIB)),
    _plain("server", "hypercorn or granian (extra granian)", "hypercorn", quantities.server),
    _plain("workers", "processes, which behave as replicas do, 1 to 256", "1", quantities.whole(1, 256)),
    _plain(
        "drain_seconds",
        "after SIGTERM, how long to go on serving while /readyz says no, 0 to 300",
        "0",
        quantities.whole(0, 300),
    ),
    _plain("audit", "where audit lines go: stdout, file:PATH; comma-separated", "stdout", quantities.audit),
    _plain(
        "log_level", "debug, info, warning or error", "info", quantities.one_of("debug", "info", "warning", "error")
    ),
    Setting(
        "log_format",
        "json or console",
        "console on a terminal, else json",
        quantities.one_of("json", "console"),
        _log_format,
    ),
    _optional("operations_bind", "/healthz /readyz /metrics on a port of their own: host:port", "none", _bind),
)
