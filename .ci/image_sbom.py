"""Adds to the SBOM of oathbulk's packages those of the system in its image, and prints it, as CycloneDX:

python .ci/image_sbom.py LAYOUT SBOM

LAYOUT is the image as an OCI layout, a directory; SBOM is what `make sbom` has written of the packages in it."""

import json
import re
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STATUS = "var/lib/dpkg/status"


def read_json(layout: Path, descriptor: dict[str, Any]) -> dict[str, Any]:
    """Read what a descriptor of the layout names."""
    found: dict[str, Any] = json.loads(find_blob(layout, descriptor).read_bytes())
    return found


def find_blob(layout: Path, descriptor: dict[str, Any]) -> Path:
    return layout / "blobs" / descriptor["digest"].replace(":", "/")


def list_manifests(layout: Path, index: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """List the manifests of an index, one an architecture, and of the indexes in it."""
    for descriptor in index["manifests"]:
        inner = read_json(layout, descriptor)
        if "manifests" in inner:
            yield from list_manifests(layout, inner)
        else:
            yield inner


def read_status(layout: Path, manifest: dict[str, Any]) -> str:
    """Read dpkg's list of packages, as the last layer that has one leaves it."""
    for layer in reversed(manifest["layers"]):
        with tarfile.open(find_blob(layout, layer)) as files:
            for file in files:
                if file.name.removeprefix("./") == STATUS and (content := files.extractfile(file)):
                    return content.read().decode()
    raise SystemExit(f"{layout}: no layer has {STATUS}")


def list_components(layout: Path, manifest: dict[str, Any]) -> Iterator[dict[str, str]]:
    """List the packages of Debian's, and the Python that the official image builds itself."""
    config = read_json(layout, manifest["config"])
    for setting in config["config"].get("Env", []):
        name, _, version = setting.partition("=")
        if name == "PYTHON_VERSION":
            yield describe("application", "python", version, f"pkg:generic/python@{version}")
    for entry in read_status(layout, manifest).split("\n\n"):
        fields = dict(re.findall(r"^([A-Z][\w-]*): (.*)$", entry, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            name, version, architecture = (fields[field] for field in ("Package", "Version", "Architecture"))
            quoted = version.replace("+", "%2B").replace(":", "%3A")
            yield describe("library", name, version, f"pkg:deb/debian/{name}@{quoted}?arch={architecture}")


def describe(kind: str, name: str, version: str, purl: str) -> dict[str, str]:
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}


def main(layout: Path, sbom: Path) -> None:
    """Print the SBOM of the image."""
    told: dict[str, Any] = json.loads(sbom.read_text(encoding="utf-8"))
    index: dict[str, Any] = json.loads((layout / "index.json").read_text(encoding="utf-8"))
    found = {
        component["bom-ref"]: component
        for manifest in list_manifests(layout, index)
        for component in list_components(layout, manifest)
    }
    told["components"] += [found[reference] for reference in sorted(found)]
    told["dependencies"] += [{"ref": reference} for reference in sorted(found)]
    sys.stdout.write(json.dumps(told, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
