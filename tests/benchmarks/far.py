"""A far-away object store for benchmarks: files of a folder by range over HTTP, every answer late.

    python -m tests.benchmarks.far FOLDER SECONDS

It speaks as much of S3 as reading needs (GET with ranges, HEAD, ListObjectsV2) and little else, so that
the machine's time goes to the reader that is measured. Real servers stand in the tests. It prints its port.
"""

import asyncio
import sys
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "/vats/"
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


async def answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, folder: Path, latency: float
) -> None:
    """Answer the requests of one connection."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, target, _ = head[0].split(" ")
            headers = {
                name.lower(): value for name, _, value in (h.partition(": ") for h in head[1:])
            }
            await asyncio.sleep(latency)
            writer.write(respond(method, target, headers, folder))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def respond(method: str, target: str, headers: dict[str, str], folder: Path) -> bytes:
    """Return the answer to one request."""
    url = urlsplit(target)
    query = parse_qs(url.query)
    if "list-type" in query:
        return packet(200, listing(folder, query.get("prefix", [""])[0]), "application/xml")
    file = folder / unquote(url.path).removeprefix(BUCKET)
    if not file.is_file():
        return packet(404, b"<Error><Code>NoSuchKey</Code></Error>", "application/xml")
    size = file.stat().st_size
    if method == "HEAD":
        return packet(200, b"", length=size)
    with file.open("rb") as stream:
        if "range" not in headers:
            return packet(200, stream.read())
        first, last = (int(end) for end in headers["range"].removeprefix("bytes=").split("-"))
        stream.seek(first)
        data = stream.read(last - first + 1)
        return packet(206, data, extra=f"Content-Range: bytes {first}-{last}/{size}\r\n")


def packet(
    status: int,
    data: bytes,
    kind: str = "application/octet-stream",
    *,
    extra: str = "",
    length: int | None = None,
) -> bytes:
    """Return an HTTP answer."""
    size = len(data) if length is None else length
    head = f"HTTP/1.1 {status} -\r\nContent-Length: {size}\r\nContent-Type: {kind}\r\n"
    return f'{head}{extra}ETag: "e"\r\nLast-Modified: {DATE}\r\n\r\n'.encode() + data


def listing(folder: Path, prefix: str) -> bytes:
    """Return the XML of all files whose path begins with a prefix."""
    entries = "".join(
        f"<Contents><Key>{escape(name)}</Key><Size>{file.stat().st_size}</Size><ETag>e</ETag>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        for file in sorted(folder.rglob("*"))
        if file.is_file() and (name := file.relative_to(folder).as_posix()).startswith(prefix)
    )
    return (
        f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()
    )


async def serve(folder: Path, latency: float) -> None:
    """Serve until ended."""
    server = await asyncio.start_server(
        lambda reader, writer: answer(reader, writer, folder, latency), "127.0.0.1", 0
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2])))
