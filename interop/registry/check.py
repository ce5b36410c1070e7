"""Confluent's Python client against a registry: registers, evolves, is refused, reads old with new and new with old.

Arguments: the registry's address, and a JSON object of what Leat's serdes wrote, as hexadecimal. Prints, as JSON, what
Confluent's serializers wrote.
"""
import json
import sys

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

client = SchemaRegistryClient({"url": sys.argv[1]})
leat = {name: bytes.fromhex(data) for name, data in json.loads(sys.argv[2]).items()}
written = {}


def at(topic):
    return SerializationContext(topic, MessageField.VALUE)


def refused(what, call):
    try:
        call()
    except SchemaRegistryError as e:
        assert e.http_status_code == 409, (what, e)
        return
    except Exception as e:  # a serializer wraps it
        assert "409" in str(e) or "incompatible" in str(e), (what, e)
        return
    raise AssertionError(what + " was accepted")


def same(what, got, want):
    assert got == want, f"{what}: {got!r}, want {want!r}"


def avro():
    def schema(*more):
        fields = [{"name": "id", "type": "string"}, {"name": "total", "type": "long"}, *more]
        return json.dumps({"type": "record", "name": "Order", "namespace": "shop", "fields": fields})

    v1 = schema()
    v2 = schema({"name": "currency", "type": "string", "default": "EUR"})
    v3 = schema({"name": "coupon", "type": ["null", "string"]})
    old = AvroSerializer(client, v1)({"id": "p1", "total": 5}, at("py-avro"))
    new = AvroSerializer(client, v2)({"id": "p2", "total": 6, "currency": "USD"}, at("py-avro"))
    refused("Avro v3", lambda: AvroSerializer(client, v3)({"id": "p3", "total": 7, "coupon": None}, at("py-avro")))
    same("old with new", AvroDeserializer(client, v2)(old, at("py-avro")), {"id": "p1", "total": 5, "currency": "EUR"})
    same("new with old", AvroDeserializer(client, v1)(new, at("py-avro")), {"id": "p2", "total": 6})
    same("Leat's", AvroDeserializer(client)(leat["avro"], at("leat-avro"))["id"], "l1")
    same("compatible", client.test_compatibility("py-avro-value", Schema(v3, "AVRO")), False)
    same("versions", client.get_versions("py-avro-value"), [1, 2])
    same("lookup", client.lookup_schema("py-avro-value", Schema(v1, "AVRO")).version, 1)
    written["avro"] = new.hex()


def json_schema():
    def schema(**more):
        return json.dumps({"title": "Order", "type": "object", "additionalProperties": False,
                           "properties": {"id": {"type": "string"}, "total": {"type": "integer"}, **more}})

    v1, v2, v3 = schema(), schema(currency={"type": "string"}), schema(total={"type": "string"})
    old = JSONSerializer(v1, client)({"id": "p1", "total": 5}, at("py-json"))
    new = JSONSerializer(v2, client)({"id": "p2", "total": 6, "currency": "USD"}, at("py-json"))
    refused("JSON v3", lambda: JSONSerializer(v3, client)({"id": "p3", "total": "7"}, at("py-json")))
    same("old with new", JSONDeserializer(v2, schema_registry_client=client)(old, at("py-json")), {"id": "p1", "total": 5})
    same("Leat's", JSONDeserializer(None, schema_registry_client=client)(leat["json"], at("leat-json"))["id"], "l1")
    written["json"] = new.hex()


def message(**fields):
    """A generated class, without protoc: fields are name=(number, type)."""
    file = descriptor_pb2.FileDescriptorProto(name="order.proto", package="shop", syntax="proto3")
    m = file.message_type.add(name="Order")
    for name, (number, kind) in fields.items():
        m.field.add(name=name, number=number, type=kind, label=1, json_name=name)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Order"))


def protobuf():
    text, number = descriptor_pb2.FieldDescriptorProto.TYPE_STRING, descriptor_pb2.FieldDescriptorProto.TYPE_INT64
    v1 = message(id=(1, text), total=(2, number))
    v2 = message(id=(1, text), total=(2, number), currency=(3, text))
    v3 = message(id=(1, text), total=(2, text))
    conf = {"use.deprecated.format": False}
    old = ProtobufSerializer(v1, client, conf)(v1(id="p1", total=5), at("py-proto"))
    new = ProtobufSerializer(v2, client, conf)(v2(id="p2", total=6, currency="USD"), at("py-proto"))
    refused("Protobuf v3", lambda: ProtobufSerializer(v3, client, conf)(v3(id="p3", total="7"), at("py-proto")))
    got = ProtobufDeserializer(v2, conf, client)(old, at("py-proto"))
    same("old with new", (got.id, got.total, got.currency), ("p1", 5, ""))
    got = ProtobufDeserializer(v1, conf, client)(new, at("py-proto"))
    same("new with old", (got.id, got.total), ("p2", 6))
    same("format", client.get_latest_version("py-proto-value", fmt="serialized").schema.schema_str[:2], "Cg")
    written["protobuf"] = new.hex()


def administration():
    client.set_compatibility("py-avro-value", "FULL")
    same("level", client.get_compatibility("py-avro-value"), "FULL")
    assert "py-avro-value" in client.get_subjects()
    same("soft delete", client.delete_subject("py-json-value"), [1, 2])
    same("permanent delete", client.delete_subject("py-json-value", permanent=True), [1, 2])


avro()
json_schema()
protobuf()
administration()
print(json.dumps(written))
