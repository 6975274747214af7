"""Manifests: what is let in, what is refused because two parsers could read it differently, and what a manifest names."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeproxy.oci.errors import ManifestInvalid
from edgeproxy.oci.manifests import DOCKER_IMAGE, DOCKER_LIST, IMAGE, INDEX, Descriptor, Kind, Manifest, parse_manifest
from edgeproxy.oci.names import Digest

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY = "application/vnd.oci.empty.v1+json"
OPAQUE = "application/vnd.example.thing.v1+json"

Json = dict[str, Any]


def descriptor(content: bytes = b"x", media_type: str = LAYER, **more: Any) -> Json:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content), **more}


def value(content: bytes = b"x", media_type: str = LAYER) -> Descriptor:
    return Descriptor(media_type, Digest.of(content), len(content))


def image(**changes: Any) -> Json:
    document = {
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": descriptor(b"{}", CONFIG),
        "layers": [descriptor(b"l1")],
        **changes,
    }
    return {name: item for name, item in document.items() if item is not ...}


def index(**changes: Any) -> Json:
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(b"m1", IMAGE)], **changes}
    return {name: item for name, item in document.items() if item is not ...}


def read(document: Any, content_type: str | None = IMAGE) -> Manifest:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse_manifest(content, content_type)


def attempt(content: bytes, content_type: str | None) -> Manifest | ManifestInvalid:
    try:
        return parse_manifest(content, content_type)
    except ManifestInvalid as error:
        return error


def refused(document: Any, content_type: str | None = IMAGE) -> str:
    with pytest.raises(ManifestInvalid) as caught:
        read(document, content_type)
    assert caught.value.message.isprintable()
    return caught.value.message


def test_an_image_names_its_config_and_layers() -> None:
    manifest = read(image(layers=[descriptor(b"l1"), descriptor(b"l2")]))
    assert manifest.kind is Kind.IMAGE
    assert manifest.media_type == IMAGE
    assert manifest.config == value(b"{}", CONFIG)
    assert manifest.layers == (value(b"l1"), value(b"l2"))
    assert manifest.required_blobs == (value(b"{}", CONFIG), value(b"l1"), value(b"l2"))
    assert manifest.vouched == manifest.required_blobs
    assert manifest.required_children == ()
    assert (manifest.subject, manifest.artifact_type, manifest.annotations) == (None, None, {})


def test_an_index_names_its_children_and_vouches_for_none_of_them_as_blobs() -> None:
    manifest = read(index(manifests=[descriptor(b"m1", IMAGE), descriptor(b"l1"), descriptor(b"m1", IMAGE)]), INDEX)
    assert manifest.kind is Kind.INDEX
    assert manifest.required_children == (value(b"m1", IMAGE), value(b"l1"))
    assert manifest.required_blobs == manifest.vouched == ()


@pytest.mark.parametrize(("media_type", "kind"), [(DOCKER_IMAGE, Kind.IMAGE), (DOCKER_LIST, Kind.INDEX)])
def test_docker_schema_2_is_read_like_its_oci_twin(media_type: str, kind: Kind) -> None:
    document = image(mediaType=media_type) if kind is Kind.IMAGE else index(mediaType=media_type)
    assert read(document, media_type).kind is kind


@pytest.mark.parametrize(
    ("document", "content_type", "stored"),
    [
        (image(), IMAGE, IMAGE),
        (image(), f"{IMAGE}; charset=utf-8", IMAGE),
        (image(), IMAGE.upper(), IMAGE.upper()),
        (image(mediaType=...), IMAGE, IMAGE),
        (image(mediaType=None), IMAGE, IMAGE),
        (image(), None, IMAGE),
        (image(), "", IMAGE),
        (index(), None, INDEX),
        ({"hello": 1}, OPAQUE, OPAQUE),
        ({"mediaType": "application/vnd.other+json"}, OPAQUE, OPAQUE),
        (b"not json \xff\x00", "text/plain; a=b", "text/plain"),
    ],
)
def test_the_media_type_is_the_content_type_without_parameters_or_that_inside(
    document: Any, content_type: str | None, stored: str
) -> None:
    assert read(document, content_type).media_type == stored


@pytest.mark.parametrize(
    ("document", "content_type", "message"),
    [
        (image(mediaType=...), None, "no Content-Type"),
        (image(mediaType=OPAQUE), None, "no Content-Type"),
        (b"junk", None, "not JSON"),
        (image(mediaType=DOCKER_IMAGE), IMAGE, "must be equal"),
        (image(mediaType=INDEX), IMAGE, "must be equal"),
        (image(mediaType=5), IMAGE, "mediaType of the manifest is not a string"),
        (image(), OPAQUE, "must be equal"),
        (image(), "application/x-www-form-urlencoded", "must be equal"),
        ({}, "application/vnd.docker.distribution.manifest.v1+json", "schema 1"),
        ({}, "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
        ({}, "json", "not a media type"),
        ({}, "a/b/c", "not a media type"),
        ({}, "a/é", "not a media type"),
        ({}, "a/b\r\nX: y", "not a media type"),
        ({}, "a/" + "b" * 128, "not a media type"),
        (b"", IMAGE, "empty"),
        (b"", OPAQUE, "empty"),
        (b"", None, "empty"),
    ],
)
def test_a_media_type_that_is_missing_wrong_or_no_longer_spoken_is_refused(
    document: Any, content_type: str | None, message: str
) -> None:
    assert message in refused(document, content_type)


def test_an_unknown_media_type_names_nothing() -> None:
    manifest = read({**image(mediaType=...), "subject": descriptor()}, OPAQUE)
    assert manifest == Manifest(OPAQUE, Kind.OPAQUE)
    assert manifest.required_blobs == manifest.required_children == manifest.vouched == ()


GOOD = json.dumps(image()).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xef\xbb\xbf" + GOOD, "byte order mark"),
        (GOOD.decode().encode("utf-16"), "not JSON"),
        (GOOD[:-1] + b',"a":"\xff"}', "not JSON"),
        (GOOD[:-1] + b',"a":"\\ud800"}', "surrogate"),
        (GOOD[:-1] + b',"a":NaN}', "not JSON"),
        (GOOD[:-1] + b',"a":-Infinity}', "not JSON"),
        (GOOD[:-1] + b',"a":1e999}', "not JSON"),
        (GOOD[:-1] + b',"a":01}', "not JSON"),
        (GOOD[:-1] + b',"a":1,}', "not JSON"),
        (GOOD + b"{}", "not JSON"),
        (b"[" + GOOD + b"]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'"' + IMAGE.encode() + b'"', "not a JSON object"),
        (GOOD[:-1] + b',"layers":[]}', "'layers' twice"),
        (GOOD[:-1] + b',"l\\u0061yers":[]}', "'layers' twice"),
        (GOOD[:-1] + b',"a":{"b":[{"c":1,"c":1}]}}', "'c' twice"),
        (GOOD[:-1] + b',"":1,"":2}', "'' twice"),
        (GOOD[:-1] + b',"Layers":[]}', "read as 'layers'"),
        (GOOD[:-1] + b',"SchemaVersion":1}', "read as 'schemaVersion'"),
        (GOOD[:-1] + b',"layer\xc5\xbf":[]}', "read as 'layers'"),
        (GOOD.replace(b'"size"', b'"Size":9,"size"', 1), "config of the manifest has 'Size'"),
        (GOOD[:-1] + b',"a":' + b"[" * 64 + b"]" * 64 + b"}", "deeper than 64"),
        (GOOD[:-1] + b',"a":' + b'{"a":' * 64 + b"1" + b"}" * 64 + b"}", "deeper than 64"),
        (b"[" * 2_000_000, "not JSON"),
        (b'{"a":"' + b'\\"' * 1_000_000, "not JSON"),
    ],
)
def test_json_that_two_parsers_could_read_differently_is_refused(content: bytes, message: str) -> None:
    assert message in refused(content)


@pytest.mark.parametrize(
    "content",
    [
        GOOD[:-1] + b',"a":"\\ud83d\\ude00"}',
        GOOD[:-1] + b',"a":1e99}',
        GOOD[:-1] + b',"a":' + b"9" * 300 + b"}",
        GOOD[:-1] + b',"a":{"layers":[]},"b":{"layers":[]}}',
        GOOD[:-1] + b',"a":' + b"[" * 63 + b"]" * 63 + b"}",
        GOOD[:-1] + b',"a":"' + b"[{" * 100 + b'\\"[\\\\"}',
        GOOD[:-1] + b',"unknown":{"Layers":1}}',
        b" \n" + GOOD + b"\t",
    ],
)
def test_json_one_step_away_is_read(content: bytes) -> None:
    assert read(content).layers == (value(b"l1"),)


@pytest.mark.parametrize(
    ("document", "content_type", "message"),
    [
        (image(schemaVersion=1), IMAGE, "schemaVersion"),
        (image(schemaVersion=...), IMAGE, "schemaVersion"),
        (image(schemaVersion="2"), IMAGE, "schemaVersion"),
        (image(schemaVersion=2.0), IMAGE, "schemaVersion"),
        (image(schemaVersion=True), IMAGE, "schemaVersion"),
        (index(schemaVersion=None), INDEX, "schemaVersion"),
        (image(manifests=[]), IMAGE, "'manifests'"),
        (image(manifests=None), IMAGE, "'manifests'"),
        (image(fsLayers=[]), IMAGE, "'fsLayers'"),
        (index(layers=[]), INDEX, "'layers'"),
        (index(config=descriptor()), INDEX, "'config'"),
        (image(config=...), IMAGE, "config of"),
        (image(config=None), IMAGE, "config of"),
        (image(config=[]), IMAGE, "config of"),
        (image(layers=...), IMAGE, "layers of"),
        (image(layers={}), IMAGE, "layers of"),
        (image(layers=""), IMAGE, "layers of"),
        (image(layers=[descriptor(), 5]), IMAGE, "layers[1] of"),
        (index(manifests=...), INDEX, "manifests of"),
        (index(manifests=[None]), INDEX, "manifests[0] of"),
        (image(subject="x"), IMAGE, "subject of"),
        (image(subject=descriptor(size=-1)), IMAGE, "subject.size"),
        (image(artifactType=1), IMAGE, "artifactType of"),
        (image(annotations=[]), IMAGE, "annotations of"),
        (image(annotations={"a": 1}), IMAGE, "annotations of"),
        (image(annotations={"a": None}), IMAGE, "annotations of"),
    ],
)
def test_a_manifest_of_the_wrong_form_is_refused_by_the_name_of_its_field(
    document: Json, content_type: str, message: str
) -> None:
    assert message in refused(document, content_type)


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        (image(layers=[]), IMAGE),
        (image(layers=None), IMAGE),
        (image(mediaType=DOCKER_IMAGE, layers=[]), DOCKER_IMAGE),
        (index(manifests=[]), INDEX),
        (index(manifests=None), INDEX),
        (image(subject=None, artifactType=None, annotations=None), IMAGE),
        (image(annotations={"a": "", "": "b"}), IMAGE),
        (image(history=[{"x": 1}], org={"example": [1.5, None, True]}), IMAGE),
        # The conformance suite always states an artifactType here; clients from before 1.1 do not.
        (image(config=descriptor(b"{}", EMPTY)), IMAGE),
    ],
)
def test_a_manifest_one_step_away_is_read(document: Json, content_type: str) -> None:
    assert read(document, content_type).media_type == content_type


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mediaType": ...}, "layers[1].mediaType"),
        ({"mediaType": ""}, "layers[1].mediaType"),
        ({"mediaType": 5}, "layers[1].mediaType"),
        ({"mediaType": "nonsense"}, "layers[1].mediaType"),
        ({"mediaType": "a/b\n"}, "layers[1].mediaType"),
        ({"mediaType": "a/b;" + "c" * 252}, "layers[1].mediaType"),
        ({"digest": ...}, "layers[1].digest"),
        ({"digest": None}, "layers[1].digest"),
        ({"digest": "sha256:abc"}, "layers[1].digest"),
        ({"digest": str(Digest.of(b"x")).upper()}, "layers[1].digest"),
        ({"digest": "md5:" + "0" * 32}, "layers[1].digest"),
        ({"digest": "sha256:../../../" + "0" * 55}, "layers[1].digest"),
        ({"size": ...}, "layers[1].size"),
        ({"size": -1}, "layers[1].size"),
        ({"size": True}, "layers[1].size"),
        ({"size": 1.0}, "layers[1].size"),
        ({"size": "1"}, "layers[1].size"),
        ({"size": 2**63}, "layers[1].size"),
        ({"size": 10**30}, "layers[1].size"),
        ({"data": 5}, "layers[1].data"),
        ({"data": "!!!!"}, "layers[1].data"),
        ({"data": "é"}, "layers[1].data"),
        ({"data": "eA"}, "layers[1].data"),
        ({"data": base64.b64encode(b"y").decode()}, "layers[1].data"),
        ({"data": base64.b64encode(b"xx").decode()}, "layers[1].data"),
        ({"data": ""}, "layers[1].data"),
        ({"data": base64.b64encode(b"x").decode(), "size": 2}, "layers[1].data"),
    ],
)
def test_a_descriptor_of_the_wrong_form_is_refused_by_the_name_of_its_field(change: Json, message: str) -> None:
    wrong = {name: item for name, item in {**descriptor(), **change}.items() if item is not ...}
    assert message in refused(image(layers=[descriptor(b"l1"), wrong]))


@pytest.mark.parametrize(
    "layer",
    [
        descriptor(data=base64.b64encode(b"x").decode()),
        descriptor(data=None),
        descriptor(b"", data=""),
        descriptor(media_type="text/plain; charset=utf-8"),
        descriptor(urls=["https://example.com"], annotations={"a": "b"}, platform={"os": "linux"}),
        descriptor(size=2**63 - 1),
        {**descriptor(), "digest": str(Digest.of(b"x", "sha512"))},
    ],
)
def test_a_descriptor_one_step_away_is_read(layer: Json) -> None:
    read_layer = read(image(layers=[layer])).layers[0]
    assert (str(read_layer.digest), read_layer.size, read_layer.media_type) == (
        layer["digest"],
        layer["size"],
        layer["mediaType"],
    )


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ],
)
def test_a_layer_that_may_lie_elsewhere_is_not_required(media_type: str) -> None:
    manifest = read(image(layers=[descriptor(b"far", media_type), descriptor(b"l1")]))
    assert len(manifest.layers) == 2
    assert manifest.required_blobs == (value(b"{}", CONFIG), value(b"l1"))
    assert manifest.vouched == manifest.required_blobs
    # The same bytes as an ordinary layer are required after all.
    both = read(image(layers=[descriptor(b"far", media_type), descriptor(b"far")]))
    assert value(b"far") in both.required_blobs


def test_one_digest_has_one_size_wherever_it_is_named() -> None:
    twice = read(image(layers=[descriptor(b"l1"), descriptor(b"l1"), descriptor(b"l1", "text/plain")]))
    assert [part.digest for part in twice.required_blobs] == [Digest.of(b"{}"), Digest.of(b"l1")]
    assert "two sizes, 2 and 3" in refused(image(layers=[descriptor(b"l1"), descriptor(b"l1", size=3)]))
    assert "two sizes" in refused(image(subject=descriptor(b"l1", IMAGE, size=7)))
    assert "two sizes" in refused(index(manifests=[descriptor(b"m", IMAGE), descriptor(b"m", IMAGE, size=0)]), INDEX)


@pytest.mark.parametrize(
    ("document", "media_type", "artifact_type"),
    [
        (image(artifactType="a/b"), IMAGE, "a/b"),
        (image(), IMAGE, CONFIG),
        (image(artifactType=""), IMAGE, CONFIG),
        (image(config=descriptor(b"{}", EMPTY)), IMAGE, EMPTY),
        (index(artifactType="a/b"), INDEX, "a/b"),
        (index(), INDEX, None),
    ],
)
def test_the_descriptor_of_a_referrer_has_the_artifact_type_that_the_specification_wants(
    document: Json, media_type: str, artifact_type: str | None
) -> None:
    manifest = read({**document, "subject": descriptor(b"gone", IMAGE)}, media_type)
    assert manifest.subject == value(b"gone", IMAGE)
    assert value(b"gone", IMAGE) not in manifest.required_blobs + manifest.required_children
    wanted = {"mediaType": media_type, "digest": str(Digest.of(b"me")), "size": 5, "artifactType": artifact_type}
    printed = json.loads(manifest.referrer_descriptor(Digest.of(b"me"), 5))
    assert printed == {name: item for name, item in wanted.items() if item is not None}


@given(st.dictionaries(st.text(), st.text(), min_size=1, max_size=5))
def test_annotations_of_a_referrer_are_copied_verbatim(annotations: dict[str, str]) -> None:
    manifest = read(image(annotations=annotations, subject=descriptor()))
    assert json.loads(manifest.referrer_descriptor(Digest.of(b"me"), 5))["annotations"] == annotations


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.just(descriptor()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["layers", "a", "B"]) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)
FIELDS = [
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "subject",
    "annotations",
    "artifactType",
    "extra",
]


@given(
    st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=3),
    st.sampled_from([IMAGE, INDEX, DOCKER_IMAGE, None]),
)
def test_any_change_to_a_manifest_is_read_or_refused(changes: Json, content_type: str | None) -> None:
    document = {**(index() if content_type == INDEX else image()), **changes}
    outcome = attempt(json.dumps(document).encode(), content_type)
    if isinstance(outcome, ManifestInvalid):
        assert outcome.message.isprintable()
    else:
        assert outcome.kind is (Kind.INDEX if outcome.media_type == INDEX else Kind.IMAGE)
        assert re.search(rb'"digest":"sha256:', outcome.referrer_descriptor(Digest.of(b"me"), 5)) is not None


@given(st.binary(max_size=200), st.none() | st.sampled_from([IMAGE, INDEX, OPAQUE]) | st.text(max_size=20))
def test_arbitrary_bytes_are_opaque_or_refused(content: bytes, content_type: str | None) -> None:
    outcome = attempt(content, content_type)
    if isinstance(outcome, ManifestInvalid):
        assert outcome.message.isascii()
        assert outcome.message.isprintable()
    else:
        assert outcome.kind is Kind.OPAQUE
