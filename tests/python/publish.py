"""Publishes one batch with a reading of each kind, as a pilot project's own Python would.

The messages are compiled from the project's .proto at run time. Prints one JSON object: the IMEIs
by kind, the station and what the broker answered. Exits non-zero when the PUBACK does not come.

usage: publish.py --port PORT --proto DIR --version 4|5 --station NAME --session N
"""

import argparse
import importlib
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt
from grpc_tools import protoc


def compiled(proto_dir: str):
    """Our messages, compiled into a folder that goes away."""
    out = tempfile.mkdtemp(prefix="loushan-proto-")
    code = protoc.main(
        ["protoc", f"-I{proto_dir}", f"--python_out={out}", "loushan/v1/telemetry.proto"]
    )
    if code != 0:
        sys.exit(f"protoc failed with {code}")
    sys.path.insert(0, str(Path(out)))
    return importlib.import_module("loushan.v1.telemetry_pb2")


def imei(body: int) -> int:
    """Adds Luhn's check digit to 14 digits."""
    total = 0
    for i, digit in enumerate(reversed(f"{body:014d}")):
        d = int(digit)
        if i % 2 == 0:
            d = d * 2 if d < 5 else d * 2 - 9
        total += d
    return body * 10 + (10 - total % 10) % 10


def batch(pb, station: str, session: int):
    """One reading of each of the five kinds."""
    now = int(time.time() * 1000)
    message = pb.UplinkBatch(schema_major=1, station=station, session=session, seq=0, base_time_ms=now)
    imeis = {}
    for i, kind in enumerate(["parking", "street_light", "smoke", "elevator", "water"]):
        number = imei(86_000_000_000_000 + session % 1_000_000 * 10 + i)
        imeis[kind] = f"{number:015d}"
        reading = message.readings.add(
            imei=number, seq=1, boot_epoch=1, measured_delta_ms=-1500 - i, heard_delta_ms=-10,
            trigger=pb.TRIGGER_PERIODIC, clock=pb.CLOCK_STATE_SYNCED, model_id=1,
        )
        reading.radio.nrsrp_dbm = -97
        reading.power.battery_pct = 88
        if kind == "parking":
            reading.parking.state = pb.Parking.STATE_OCCUPIED
            reading.parking.temp_dc = 219
        elif kind == "street_light":
            reading.street_light.dim_pct = 80
            reading.street_light.voltage_dv = 2291
            reading.street_light.power_dw = 605
        elif kind == "smoke":
            reading.smoke.state = pb.Smoke.STATE_NORMAL
            reading.smoke.temp_dc = 231
        elif kind == "elevator":
            reading.elevator.mode = pb.Elevator.MODE_NORMAL
            reading.elevator.floor = -1
            reading.elevator.door = pb.Elevator.DOOR_CLOSED
        else:
            reading.water.total_l = 123_456
            reading.water.history.first_end_delta_s = -3600
            reading.water.history.interval_s = 3600
            reading.water.history.delta_l.extend([3, 5])
    return message, imeis


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--proto", required=True)
    parser.add_argument("--version", type=int, choices=[4, 5], required=True)
    parser.add_argument("--station", required=True)
    parser.add_argument("--session", type=int, required=True)
    args = parser.parse_args()

    pb = compiled(args.proto)
    message, imeis = batch(pb, args.station, args.session)

    acknowledged = threading.Event()
    answer = {}
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2,
        client_id=args.station,
        protocol=mqtt.MQTTv5 if args.version == 5 else mqtt.MQTTv311,
    )

    def on_publish(_client, _userdata, _mid, reason_code, properties):
        answer["reason_code"] = int(getattr(reason_code, "value", 0))
        user = getattr(properties, "UserProperty", None) if properties else None
        answer["user_properties"] = [list(pair) for pair in user or []]
        acknowledged.set()

    client.on_publish = on_publish
    client.connect("127.0.0.1", args.port, keepalive=30)
    client.loop_start()
    client.publish(f"nb1/zunyi/{args.station}/u/t", message.SerializeToString(), qos=1)
    came = acknowledged.wait(30)
    client.disconnect()
    client.loop_stop()
    if not came:
        sys.exit("no PUBACK within 30 s")
    print(json.dumps({"station": args.station, "imeis": imeis, "answer": answer}))


if __name__ == "__main__":
    main()
