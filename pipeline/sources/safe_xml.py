"""XML that can only be data: no document type, hence no entities, outside files or bombs."""

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from pipeline.sources.base import Bad

LARGEST = 16 * 1024**2
"""Bytes of the largest annotation file taken."""


def read_xml(file: Path) -> Element:
    """Return the root element of an XML file.

    Raises:
        Bad: `missing_file`, `too_large`, `unsafe_xml`, `broken_xml`.
    """
    if not file.is_file():
        raise Bad("missing_file", f"{file.name} is not there")
    if file.stat().st_size > LARGEST:
        raise Bad("too_large", f"{file.name} has more than {LARGEST:,} bytes")
    return parse_xml(file.read_bytes(), file.name)


def parse_xml(data: bytes, name: str) -> Element:
    """Return the root element of XML text; see `read_xml`."""

    def refuse(*_: Any) -> None:
        raise Bad("unsafe_xml", f"{name} declares a document type, which annotations never need")

    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        if isinstance(error, Bad):
            raise
        raise Bad("broken_xml", f"{name} is not XML: {error}") from error
    return builder.close()
