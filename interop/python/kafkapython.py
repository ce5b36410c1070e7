"""kafka-python, in pure Python, against a broker: python kafkapython.py BOOTSTRAP_SERVER.

Produces with every codec, reads in a group, resets offsets, commits and aborts transactions.
"""
import sys

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.structs import OffsetAndMetadata

server = sys.argv[1]
topic = "kafka-python"


def consumer(**more):
    conf = dict(bootstrap_servers=server, auto_offset_reset="earliest", enable_auto_commit=False, consumer_timeout_ms=20000)
    conf.update(more)
    return KafkaConsumer(**conf)


def read(c, want):
    got = []
    for m in c:
        got.append((m.key, m.value))
        if len(got) == want:
            return got
    raise SystemExit(f"{len(got)} of {want} records after 20 s")


admin = KafkaAdminClient(bootstrap_servers=server)
admin.create_topics([NewTopic(topic, 3, 1), NewTopic(topic + "-txn", 1, 1)])
want = []
for codec in [None, "gzip", "snappy", "lz4", "zstd"]:
    p = KafkaProducer(bootstrap_servers=server, compression_type=codec, acks="all")
    for i in range(100):
        value = (f"{codec} {i} " * 20).encode()
        want.append((f"k{i}".encode(), value))
        p.send(topic, key=f"k{i}".encode(), value=value)
    p.send(topic, key=f"gone-{codec}".encode(), value=None)
    want.append((f"gone-{codec}".encode(), None))
    p.flush(20)
    p.close()

c = consumer(group_id="kafka-python")
c.subscribe([topic])
if sorted(read(c, len(want)), key=str) != sorted(want, key=str):
    raise SystemExit("other records came back than went in")
c.commit()
if sum(c.committed(TopicPartition(topic, p)) for p in range(3)) != len(want):
    raise SystemExit("the group has not committed all records")
c.commit({TopicPartition(topic, p): OffsetAndMetadata(0, "", -1) for p in range(3)})
c.close()
c = consumer(group_id="kafka-python")
c.subscribe([topic])
if len(read(c, len(want))) != len(want):
    raise SystemExit("the reset had no effect")
c.close()

p = KafkaProducer(bootstrap_servers=server, transactional_id="kafka-python")
p.init_transactions()
for i in range(6):
    p.begin_transaction()
    p.send(topic + "-txn", key=b"k", value=str(i).encode())
    if i % 2:
        p.flush(20)
        p.abort_transaction()
    else:
        p.commit_transaction()
p.close()
c = consumer(isolation_level="read_committed")
c.assign([TopicPartition(topic + "-txn", 0)])
got = [v for _, v in read(c, 3)]
c.close()
if got != [b"0", b"2", b"4"]:
    raise SystemExit(f"transactions: read {got}")
admin.close()
print("ok")
