"""confluent-kafka-python, which is librdkafka, against a broker: python confluent.py BOOTSTRAP_SERVER.

Produces with every codec, reads in groups of either protocol that rebalance, resets offsets, commits and aborts transactions.
"""
import sys
import time

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, OFFSET_BEGINNING, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

server = sys.argv[1]
codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
topic = "confluent"
admin = AdminClient({"bootstrap.servers": server})


def create(name, partitions):
    for future in admin.create_topics([NewTopic(name, partitions, 1)]).values():
        future.result(20)


def consumer(group, **more):
    conf = {"bootstrap.servers": server, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    conf.update(more)
    return Consumer(conf)


def read(consumers, want, what):
    got, per_consumer = [], [0] * len(consumers)
    end = time.monotonic() + 40
    while len(got) < want:
        for i, c in enumerate(consumers):
            m = c.poll(0.1)
            if m is None:
                continue
            if m.error():
                raise SystemExit(f"{what}: {m.error()}")
            got.append((m.key(), m.value()))
            per_consumer[i] += 1
        if time.monotonic() > end:
            raise SystemExit(f"{what}: {len(got)} of {want} records after 40 s")
    return got, per_consumer


create(topic, 4)
want = []
for codec in codecs:
    p = Producer({"bootstrap.servers": server, "compression.type": codec, "enable.idempotence": True})
    for i in range(100):
        value = f"{codec} {i} ".encode() * 20
        want.append((f"k{i}".encode(), value))
        p.produce(topic, key=f"k{i}", value=value, headers={"codec": codec})
    p.produce(topic, key=f"gone-{codec}", value=None)
    want.append((f"gone-{codec}".encode(), None))
    if p.flush(20):
        raise SystemExit(f"{codec}: records are not acknowledged")

for protocol in ["classic", "consumer"]:
    more = {"group.protocol": protocol}
    group = "confluent-" + protocol
    first = consumer(group, **more)
    first.subscribe([topic])
    got, _ = read([first], len(want), f"{protocol}: first read")
    if sorted(got, key=str) != sorted(want, key=str):
        raise SystemExit(f"{protocol}: other records came back than went in")
    first.commit(asynchronous=False)

    # A second member takes a part.
    second = consumer(group, **more)
    second.subscribe([topic])
    end = time.monotonic() + 40
    while not (len(first.assignment()) == 2 and len(second.assignment()) == 2):
        if first.poll(0.1) or second.poll(0.1):
            raise SystemExit(f"{protocol}: a committed record came again")
        if time.monotonic() > end:
            raise SystemExit(f"{protocol}: no rebalance: {first.assignment()} {second.assignment()}")
    first.close()
    second.close()

    # Back to the beginning.
    back = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, p, 0) for p in range(4)])
    for future in admin.alter_consumer_group_offsets([back]).values():
        future.result(20)
    again = consumer(group, **more)
    again.subscribe([topic])
    got, _ = read([again], len(want), f"{protocol}: read after the reset")
    again.close()
    if sorted(got, key=str) != sorted(want, key=str):
        raise SystemExit(f"{protocol}: other records came back after the reset")

# Transactions.
create("confluent-txn", 1)
p = Producer({"bootstrap.servers": server, "transactional.id": "confluent"})
p.init_transactions(20)
for i in range(6):
    p.begin_transaction()
    p.produce("confluent-txn", key="k", value=f"{i}")
    p.flush(20)
    if i % 2:
        p.abort_transaction(20)
    else:
        p.commit_transaction(20)
c = consumer("confluent-txn-readers")
c.assign([TopicPartition("confluent-txn", 0, OFFSET_BEGINNING)])
got, _ = read([c], 3, "transactions")
c.close()
if [v for _, v in got] != [b"0", b"2", b"4"]:
    raise SystemExit(f"transactions: read {got}")
print("ok")
