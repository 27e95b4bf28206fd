"""A mixture of data described in Croissant 1.0 (https://docs.mlcommons.org/croissant)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from cameleer.core.artifact import MANIFEST
from cameleer.core.files import read_json, sha256_file
from cameleer.release.licences import Check


def croissant(mix: Path, title: str, check: Check, url: str | None = None) -> dict[str, Any]:
    """The mixture in Croissant 1.0, as JSON-LD; url: where it will be found."""
    manifest = read_json(mix / MANIFEST)
    outcome, file = manifest["outcome"], mix / "conversations.jsonl"
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", title).strip("-") or "mixture"
    facts: dict[str, Any] = {
        "@context": _context(),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": f"{outcome['conversations']} conversations of "
        f"{', '.join(outcome['sources'])}, mixed for instruction tuning.",
        "license": check.licence,
        "version": "1.0.0",
        "datePublished": str(manifest["finished"])[:10],
        "isBasedOn": [f"{source}: {one}" for source, one in manifest["inputs"].items()],
    }
    if url:
        facts["url"] = url
    facts["distribution"] = [
        {
            "@type": "cr:FileObject",
            "@id": file.name,
            "name": file.name,
            "contentUrl": file.name,
            "encodingFormat": "application/jsonlines",
            "sha256": sha256_file(file),
            "contentSize": f"{file.stat().st_size} B",
        }
    ]
    facts["recordSet"] = [_records(file.name)]
    return facts


def _records(file: str) -> dict[str, Any]:
    """The fields of a conversation: keys of a line of the file."""

    def column(name: str, key: str, about: str, path: str = "") -> dict[str, Any]:
        source: dict[str, Any] = {"fileObject": {"@id": file}, "extract": {"column": key}}
        if path:
            source["transform"] = {"jsonPath": path}
        more = {"repeated": True} if path else {}
        head = {"@type": "cr:Field", "@id": f"conversations/{name}", "name": name}
        return {**head, "description": about, "dataType": "sc:Text", "source": source, **more}

    return {
        "@type": "cr:RecordSet",
        "@id": "conversations",
        "name": "conversations",
        "key": {"@id": "conversations/id"},
        "field": [
            column("id", "id", "Unique name of the conversation."),
            column("source", "source", "The data set it comes from."),
            column("role", "messages", "Who speaks, by message.", "$[*].role"),
            column("content", "messages", "What is said, by message.", "$[*].content"),
        ],
    }


def _context() -> dict[str, Any]:
    """The JSON-LD context that the Croissant 1.0 specification gives."""
    croissant_terms = (
        "citeAs column equivalentProperty extract field fileProperty fileObject fileSet format "
        "includes isLiveDataset jsonPath key parentField path recordSet references regex repeated "
        "replace samplingRate separator source subField transform"
    )
    terms: dict[str, Any] = {name: f"cr:{name}" for name in croissant_terms.split()}
    return {
        "@language": "en",
        "@vocab": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "dct": "http://purl.org/dc/terms/",
        "sc": "https://schema.org/",
        "conformsTo": "dct:conformsTo",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "examples": {"@id": "cr:examples", "@type": "@json"},
        "md5": "cr:md5",
        **terms,
    }
