"""The job on dramatiq.

    dramatiq peers.on_dramatiq --processes 1 --threads 8
    python -m peers.on_dramatiq shipment.csv

Gives up promises 1, 3 and 4. OTPs travel in the messages (1). A call that timed out is made again with the same OTP,
and a message whose worker died begins its row again (3). Redis holds the only list of what is left to do (4).
"""

import os
import sys

import dramatiq
import httpx
from dramatiq.brokers.redis import RedisBroker
from peers.job import ACTIVE, Refused, Row, TryAgain, keep, read_shipment, thread_client
from peers.job import activate as activate_device

broker = RedisBroker(url=os.environ["REDIS_URL"])
dramatiq.set_broker(broker)


@dramatiq.actor
def activate(row: Row) -> None:
    try:
        activate_device(thread_client(), row)
    except (Refused, TryAgain, httpx.TransportError) as error:
        keep(row["serial"], "FAILED", str(error))
    else:
        keep(row["serial"], ACTIVE)


if __name__ == "__main__":
    from peers.on_dramatiq import activate as actor

    for row in read_shipment(sys.argv[1]):
        actor.send(row)
