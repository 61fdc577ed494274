"""Has a command forked (``forked.py``), and stands in its place: ``forked_client.py SOCKET ARGUMENT...``."""

import json
import os
import socket
import struct
import sys

connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
connection.connect(sys.argv[1])
wanted = json.dumps({"arguments": sys.argv[2:], "environment": dict(os.environ), "folder": os.getcwd()})  # noqa: PTH109
text = wanted.encode()
socket.send_fds(connection, [struct.pack("!I", len(text))], [0, 1, 2])
connection.sendall(text)
code = connection.recv(1)
sys.exit(code[0] if code else 1)
