"""What clients expect of a broker, by paho.

Prints the names of the scenarios that passed as one JSON array; the first that fails ends the process with
a message. See tests/node/scenarios.js, which does the same by npm's mqtt.

usage: scenarios.py --url URL --version 4|5 --name NAME [--ca FILE] --topic TOPIC --batch FILE
"""

import argparse
import json
import queue
import threading
from pathlib import Path
from urllib.parse import urlparse

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PATIENCE_S = 20

parser = argparse.ArgumentParser()
for option in ["url", "name", "topic", "batch"]:
    parser.add_argument(f"--{option}", required=True)
parser.add_argument("--version", type=int, choices=[4, 5], required=True)
parser.add_argument("--ca")
args = parser.parse_args()
url = urlparse(args.url)


class Peer:
    """A connection; what it receives waits to be asked for."""

    def __init__(self, name, kept=False, will=None):
        five = args.version == 5
        self.messages = queue.Queue()
        self.connacks = queue.Queue()
        self.subacks = queue.Queue()
        self.ended = threading.Event()
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=f"{args.name}-{name}",
            clean_session=None if five else not kept,
            protocol=mqtt.MQTTv5 if five else mqtt.MQTTv311,
            transport="websockets" if url.scheme in ("ws", "wss") else "tcp",
            reconnect_on_failure=False,
        )
        if url.scheme in ("mqtts", "wss"):
            self.client.tls_set(ca_certs=args.ca)
        if url.scheme in ("ws", "wss"):
            self.client.ws_set_options(path=url.path or "/mqtt")
        if will is not None:
            topic, payload = will
            self.client.will_set(topic, payload, qos=1)
        self.client.on_message = lambda _c, _u, message: self.messages.put(message)
        self.client.on_connect = lambda _c, _u, flags, reason, _p: self.connacks.put((flags, reason))
        self.client.on_subscribe = lambda _c, _u, _m, reasons, _p: self.subacks.put(reasons)
        self.client.on_disconnect = lambda *_: self.ended.set()
        if five:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 600 if kept else 0
            self.client.connect(url.hostname, url.port, clean_start=not kept, properties=properties)
        else:
            self.client.connect(url.hostname, url.port)
        self.client.loop_start()
        flags, reason = self.connacks.get(timeout=PATIENCE_S)
        assert not reason.is_failure, reason
        self.present = bool(flags.session_present)

    def subscribe(self, filter_, qos):
        self.client.subscribe(filter_, qos)
        granted = [reason.value for reason in self.subacks.get(timeout=PATIENCE_S)]
        assert granted == [qos], granted

    def publish(self, topic, payload, **options):
        info = self.client.publish(topic, payload, **options)
        info.wait_for_publish(PATIENCE_S)
        assert info.is_published(), f"waited for the last acknowledgement of {topic}"

    def message(self):
        return self.messages.get(timeout=PATIENCE_S)

    def leave(self):
        self.client.disconnect()
        assert self.ended.wait(PATIENCE_S), "waited for the end"
        self.client.loop_stop()

    def vanish(self):
        """The connection's end without DISCONNECT."""
        self.client.loop_stop()
        self.client.socket().close()


def topic(rest):
    return f"clients/{args.name}/{rest}"


def every_quality_of_service_both_ways():
    subscriber, publisher = Peer("s"), Peer("p")
    subscriber.subscribe(topic("qos/+"), 2)
    for qos in [0, 1, 2]:
        publisher.publish(topic(f"qos/{qos}"), f"街灯 {qos}", qos=qos)
        got = subscriber.message()
        seen = (got.topic, got.payload.decode(), got.qos, got.retain)
        assert seen == (topic(f"qos/{qos}"), f"街灯 {qos}", qos, False), seen
    subscriber.leave()
    publisher.leave()


def retained_messages():
    publisher, early, late = Peer("p"), Peer("s"), Peer("l")
    publisher.publish(topic("retained"), "kept", qos=1, retain=True)
    early.subscribe(topic("retained"), 1)
    got = early.message()
    assert (got.payload, got.retain) == (b"kept", True), got.payload
    publisher.publish(topic("retained"), "", qos=1, retain=True)
    assert early.message().payload == b""
    late.subscribe(topic("retained"), 1)
    publisher.publish(topic("retained"), "live", qos=1)
    assert late.message().payload == b"live"
    for peer in (publisher, early, late):
        peer.leave()


def a_will():
    watcher = Peer("w")
    watcher.subscribe(topic("will/+"), 1)
    Peer("c", will=(topic("will/leaves"), "leaves")).leave()
    Peer("c", will=(topic("will/lost"), "lost")).vanish()
    assert watcher.message().payload == b"lost"
    watcher.leave()


def a_session_resumed_with_what_came_meanwhile():
    first = Peer("k", kept=True)
    assert not first.present
    first.subscribe(topic("kept"), 2)
    first.leave()
    publisher = Peer("p")
    for qos in [1, 2]:
        publisher.publish(topic("kept"), str(qos), qos=qos)
    second = Peer("k", kept=True)
    assert second.present
    for qos in [1, 2]:
        got = second.message()
        assert (got.payload.decode(), got.qos) == (str(qos), qos), (got.payload, got.qos)
    second.leave()
    publisher.leave()
    Peer("k").leave()


def a_batch_of_readings():
    station = Peer("station")
    station.publish(args.topic, Path(args.batch).read_bytes(), qos=1)
    station.leave()


passed = []
for scenario in [
    every_quality_of_service_both_ways,
    retained_messages,
    a_will,
    a_session_resumed_with_what_came_meanwhile,
    a_batch_of_readings,
]:
    scenario()
    passed.append(scenario.__name__.replace("_", " "))
print(json.dumps(passed))
