"""A pymodbus server for the tests of the agent's Modbus client.

usage: modbus_server.py tcp [PORT] | rtu-over-tcp [PORT] | rtu PORT

Prints one JSON line about what it holds, then `ready PORT`; later `function N` for each function code that it
sees for the first time. Ends when its input is closed.

unit 1       every type in every word order, coils and discrete inputs
unit 2       registers with holes: see HOLES
unit 3       exceptions: holding 1 illegal function, 4 device failure, 6 device busy
unit 4       register n holds 1000 + n; every seventh request is answered after one of SLOW, in turn
units 11-18  register n holds 100 * unit + n
"""

import asyncio
import json
import struct
import sys

from pymodbus import FramerType
from pymodbus.client.mixin import ModbusClientMixin
from pymodbus.constants import ExcCodes
from pymodbus.exceptions import NoSuchIdException
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

SLOW = [0.45, 0.55, 0.75]  # seconds; the tests' timeout is 0.3
HOLES = [(0, 5), (6, 4), (20, 10)]  # address, count of what exists

NUMBERS = {
    "u16": [0, 1, 0x1234, 65535],
    "i16": [-1, -32768, 4660],
    "u32": [0, 305419896, 4294967295],
    "i32": [-1, -2147483648, 19088743],
    "u64": [72623859790382856, 9007199254740992],
    "i64": [-1, -9007199254740992, 1234567890123],
    "f32": [0.0, -1.5, 123.25, 3.0e-5],
    "f64": [0.1, -2.5e100, 123456.789],
}
PYMODBUS = {
    "u16": "UINT16", "i16": "INT16", "u32": "UINT32", "i32": "INT32",
    "u64": "UINT64", "i64": "INT64", "f32": "FLOAT32", "f64": "FLOAT64",
}


def swapped(registers):
    return [(r & 0xFF) << 8 | r >> 8 for r in registers]


def in_order(order, big, little):
    """abcd and cdab are pymodbus's own word orders, the other two the same with swapped bytes."""
    return {"abcd": big, "badc": swapped(big), "cdab": little, "dcba": swapped(little)}[order]


def encoded(kind, value, order):
    if kind.startswith("bcd"):
        digits = f"{value:0{int(kind[3:]) // 4}d}"
        big = [int(digits[i:i + 4], 16) for i in range(0, len(digits), 4)]
        return in_order(order, big, big[::-1])
    convert = ModbusClientMixin.convert_to_registers
    data_type = getattr(ModbusClientMixin.DATATYPE, PYMODBUS[kind])
    return in_order(order, convert(value, data_type, word_order="big"), convert(value, data_type, word_order="little"))


def everything():
    """The registers of unit 1, and what each of them should be read as."""
    registers, points = [], []

    def add(kind, order, words, value, bit=None):
        for table in ("holding", "input"):
            point = {"register": table, "address": len(registers), "type": kind, "order": order, "value": value}
            if bit is not None:
                point["bit"] = bit
            points.append(point)
        registers.extend(words)

    for order in ("abcd", "badc", "cdab", "dcba"):
        for kind, values in NUMBERS.items():
            for value in values:
                if kind == "f32":
                    value = struct.unpack(">f", struct.pack(">f", value))[0]
                add(kind, order, encoded(kind, value, order), value)
        add("bcd16", order, encoded("bcd16", 9071, order), 9071)
        add("bcd32", order, encoded("bcd32", 12345678, order), 12345678)
        add("f32", order, in_order(order, [0x7FC0, 0], [0, 0x7FC0]), None)
        add("f64", order, in_order(order, [0x7FF0, 0, 0, 0], [0, 0, 0, 0x7FF0]), None)
        add("bcd16", order, in_order(order, [0x12A4], [0x12A4]), None)
    for bit in range(16):
        add("bit", "abcd", [0xA55A], 0xA55A >> bit & 1, bit)
    add("bool", "abcd", [0], 0)
    add("bool", "abcd", [2], 1)
    coils = [n % 3 == 0 for n in range(64)]
    for table, flip in (("coil", False), ("discrete", True)):
        for n, on in enumerate(coils):
            points.append({"register": table, "address": n, "type": "bool", "order": "abcd", "value": int(on != flip)})
    return registers, coils, points


def device(unit, blocks, action=None):
    words = [SimData(address=a, values=list(v), datatype=DataType.REGISTERS) for a, v in blocks]
    return SimDevice(id=unit, simdata=words, action=action)


def devices():
    registers, coils, points = everything()
    bits = lambda flip: [SimData(address=0, values=[on != flip for on in coils], datatype=DataType.BITS)]
    words = lambda: [SimData(address=0, values=list(registers), datatype=DataType.REGISTERS)]
    all_types = SimDevice(id=1, simdata=(bits(False), bits(True), words(), words()))

    refusals = {1: ExcCodes.ILLEGAL_FUNCTION, 4: ExcCodes.DEVICE_FAILURE, 6: ExcCodes.DEVICE_BUSY}

    async def refuse(function, start, address, count, current, values):
        return refusals.get(address)

    asked, busy = 0, asyncio.Lock()  # pymodbus answers at the same time what a device answers one by one

    async def slow(function, start, address, count, current, values):
        nonlocal asked
        async with busy:
            asked += 1
            if asked % 7 == 0:
                await asyncio.sleep(SLOW[asked // 7 % len(SLOW)])

    async def absent(function, start, address, count, current, values):
        raise NoSuchIdException  # pymodbus 3.16 answers for a missing SimDevice with device failure otherwise

    found = [
        all_types,
        device(0, [(0, [0] * 200)], absent),
        device(2, [(a, range(a, a + n)) for a, n in HOLES]),
        device(3, [(0, range(10))], refuse),
        device(4, [(0, range(1000, 1200))], slow),
    ]
    found += [device(unit, [(0, range(100 * unit, 100 * unit + 50))]) for unit in range(11, 19)]
    return found, {"points": points}


async def main():
    form, port = sys.argv[1], (sys.argv[2:] or [None])[0]
    found, held = devices()
    seen = set()

    def trace(sending, pdu):
        if not sending and pdu.function_code not in seen:
            seen.add(pdu.function_code)
            print(f"function {pdu.function_code}", flush=True)
        return pdu

    # A unit that isn't there says nothing, as on a serial line.
    common = {"ignore_missing_devices": True, "trace_pdu": trace}
    if form == "rtu":
        server = ModbusSerialServer(found, framer=FramerType.RTU, port=port, baudrate=115200, **common)
    else:
        framer = FramerType.SOCKET if form == "tcp" else FramerType.RTU
        server = ModbusTcpServer(found, framer=framer, address=("127.0.0.1", int(port or 0)), **common)
    await server.serve_forever(background=True)
    if form != "rtu":
        port = server.transport.sockets[0].getsockname()[1]
    print(json.dumps(held), flush=True)
    print(f"ready {port}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.shutdown()


asyncio.run(main())
