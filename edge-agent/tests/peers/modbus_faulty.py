"""A Modbus TCP server that misbehaves, on a raw socket, for the tests of the agent's client.

usage: modbus_faulty.py FAULT

Register n holds 1000 + n. Every third request, over all connections, meets FAULT; `always-…` means every one. Prints `ready PORT`; ends when its input is closed.
"""

import itertools
import socket
import struct
import sys
import threading
import time


def frame(transaction, unit, pdu):
    return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu


def answer(function, address, count, base=1000):
    words = [base + address + i for i in range(count)]
    return struct.pack(f">BB{count}H", function, 2 * count, *words)


def misbehave(fault, connection, transaction, unit, function, address, count):
    right = frame(transaction, unit, answer(function, address, count))
    # What must never be believed holds 5000 and more.
    wrong = answer(function, address, count, 5000)
    if fault == "wrong-id":
        connection.sendall(frame(transaction + 7 & 0xFFFF, unit, wrong))
    elif fault == "wrong-unit":
        connection.sendall(frame(transaction, unit + 1 & 0xFF, wrong))
    elif fault == "wrong-function":
        connection.sendall(frame(transaction, unit, answer(function ^ 7, address, count, 5000)))
    elif fault == "half-frame":
        connection.sendall(right[: len(right) // 2])
    elif fault == "half-frame-then-close":
        connection.sendall(right[: len(right) // 2])
        return False
    elif fault == "late":
        # Right id of this request, but after the client has given up; the next request is read first.
        late = frame(transaction, unit, wrong)
        threading.Timer(0.5, lambda: quietly(connection.sendall, late)).start()
    elif fault == "drop":
        return False
    elif fault == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False
    elif fault == "too-few":
        connection.sendall(frame(transaction, unit, answer(function, address, max(count - 1, 0), 5000)))
    elif fault == "too-many":
        connection.sendall(frame(transaction, unit, answer(function, address, count + 1, 5000)))
    elif fault == "wrong-byte-count":
        connection.sendall(frame(transaction, unit, struct.pack(">BB", function, 2 * count + 2) + b"\x13\x88"))
    elif fault == "odd-byte-count":
        connection.sendall(frame(transaction, unit, struct.pack(">BBB", function, 1, 7)))
    elif fault == "empty-pdu":
        connection.sendall(struct.pack(">HHHB", transaction, 0, 1, unit))
    elif fault == "zero-length":
        connection.sendall(struct.pack(">HHHB", transaction, 0, 0, unit))
    elif fault == "other-protocol":
        connection.sendall(struct.pack(">HHHB", transaction, 9, len(wrong) + 1, unit) + wrong)
    elif fault == "garbage":
        connection.sendall(bytes(range(256)) * 8)
    elif fault == "write-answer":
        connection.sendall(frame(transaction, unit, struct.pack(">BHH", 6, address, 5000)))
    elif fault == "twice":
        connection.sendall(right + frame(transaction, unit, wrong))
    elif fault == "byte-by-byte":
        for byte in right:
            connection.sendall(bytes([byte]))
            time.sleep(0.002)
    else:
        raise SystemExit(f"no such fault: {fault}")
    return True


def quietly(call, *arguments):
    try:
        call(*arguments)
    except OSError:
        pass


def exactly(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise OSError("closed")
        data += more
    return data


def serve(connection, fault, always, requests):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        try:
            while True:
                transaction, _, length, unit = struct.unpack(">HHHB", exactly(connection, 7))
                function, address, count = struct.unpack(">BHH", exactly(connection, length - 1))
                if function not in (1, 2, 3, 4):
                    print(f"function {function}", flush=True)
                if always or next(requests) % 3 == 2:
                    if not misbehave(fault, connection, transaction, unit, function, address, count):
                        return
                else:
                    connection.sendall(frame(transaction, unit, answer(function, address, count)))
        except OSError:
            return


def main():
    always = sys.argv[1].startswith("always-")
    fault = sys.argv[1].removeprefix("always-")
    listener = socket.create_server(("127.0.0.1", 0))
    requests = itertools.count()
    print(f"ready {listener.getsockname()[1]}", flush=True)

    def accept():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, fault, always, requests), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()


main()
