"""A Sparkplug B edge node by pysparkplug, for the tests of the agent's MQTT source.

usage: sparkplug_edge.py PORT

Connects to the broker on 127.0.0.1:PORT as edge node G/RTU7 with a device PUMP1, says all there is to say, prints
`ready 0` and waits. Killed, it leaves its will: the broker publishes its death.
"""

import sys
import threading

from pysparkplug import Client, DataType, Device, EdgeNode, Message, Metric, NData, QoS, Topic, MessageType

AT = 1_767_323_045_000  # milliseconds
TYPES = [
    ("Int8", DataType.INT8, -128),
    ("Int16", DataType.INT16, -32768),
    ("Int32", DataType.INT32, -2147483648),
    ("Int64", DataType.INT64, -9007199254740992),
    ("UInt8", DataType.UINT8, 255),
    ("UInt16", DataType.UINT16, 65535),
    ("UInt32", DataType.UINT32, 4294967295),
    ("UInt64", DataType.UINT64, 9007199254740992),
    ("Float", DataType.FLOAT, 1.5),
    ("Double", DataType.DOUBLE, -0.1),
    ("Boolean", DataType.BOOLEAN, True),
]


class Born(Client):
    """Knows when all births are said. The edge node calls itself connected before its first one: what is updated from
    then on goes into that birth, or is said before it."""

    def __init__(self):
        super().__init__()
        self.births = threading.Event()

    def connect(self, *place, callback, **more):
        def give_birth(client):
            callback(client)
            self.births.set()

        super().connect(*place, callback=give_birth, **more)


def metric(name, datatype, value, ms, alias=None, **more):
    return Metric(timestamp=AT + ms, name=name, datatype=datatype, value=value, alias=alias, **more)


def main():
    node = [metric(name, datatype, value, 0, alias) for alias, (name, datatype, value) in enumerate(TYPES)]
    node.append(metric("Unwanted", DataType.STRING, "x", 0, 99))
    client = Born()
    edge = EdgeNode("G", "RTU7", node, client)
    edge.register(Device("PUMP1", [metric("Flow", DataType.INT16, -1, 0, 0)]))
    edge.connect("127.0.0.1", port=int(sys.argv[1]), blocking=False)
    client.births.wait()

    def by_alias(alias, datatype, value, ms):
        data = NData(timestamp=AT + ms, seq=edge._seq, metrics=(metric(None, datatype, value, ms, alias),))
        topic = Topic(message_type=MessageType.NDATA, group_id="G", edge_node_id="RTU7")
        message = Message(topic=topic, payload=data, qos=QoS.AT_MOST_ONCE, retain=False)
        client.publish(message, include_dtypes=False)

    edge.update([metric("Double", DataType.DOUBLE, 2.5, 1000)])
    by_alias(0, DataType.INT8, -7, 2000)
    edge.update_device("PUMP1", [metric("Flow", DataType.INT16, 40, 1000)])
    edge.update([metric("Double", DataType.DOUBLE, None, 3000, is_null=True)])
    edge.update([metric("Double", DataType.DOUBLE, 3.5, -60_000, is_historical=True)])
    edge.update([metric("Double", DataType.DOUBLE, 4.5, 4000, is_transient=True)])
    edge.update([metric("Double", DataType.DOUBLE, float("nan"), 5000)])
    edge.deregister("PUMP1")
    print("ready 0", flush=True)
    threading.Event().wait()


main()
