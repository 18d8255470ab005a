"""Clients of the scoring server, each of which sends a request when it has the last one's answer.

    python benchmarks/speed_clients.py PORT CLIENTS BODIES

BODIES is a JSON file of request bodies, which are shared among the clients. A line on standard
input starts a round with all of them, and a line on standard output ends it.
"""

import asyncio
import json
import sys
from pathlib import Path

HEAD = (
    "POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    "Content-Length: {length}\r\n\r\n"
)


async def main(port: int, clients: int, bodies: list[str]) -> None:
    """Send a round for each line of standard input."""
    requests = [
        (HEAD.format(port=port, length=len(body)) + body).encode("ascii") for body in bodies
    ]
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        await asyncio.gather(*(client(port, requests[c::clients]) for c in range(clients)))
        print("done", flush=True)


async def client(port: int, requests: list[bytes]) -> None:
    """Send requests one after another on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in requests:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status, *fields = head.split("\r\n")
        length = next(one for one in fields if one.startswith("content-length:"))
        answer = await reader.readexactly(int(length.partition(":")[2]))
        if " 200 " not in status:
            raise SystemExit(f"{status}: {answer[:200]!r}")
    writer.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text())))
