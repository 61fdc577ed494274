"""Has a command forked (``forked.py``), and stands in its place: ``forked_client.py SOCKET ARGUMENT...``."""

import json
import os
import socket
import struct
import sys


def main() -> int:
    """The exit code of the command."""
    folder = os.getcwd()  # noqa: PTH109 - the fewer imports the better
    wanted = {"arguments": sys.argv[2:], "environment": dict(os.environ), "folder": folder}
    text = json.dumps(wanted).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(sys.argv[1])
        socket.send_fds(connection, [struct.pack("!I", len(text))], [0, 1, 2])
        connection.sendall(text)
        code = connection.recv(1)
    return code[0] if code else 1


if __name__ == "__main__":
    sys.exit(main())
