// Registers, evolves, is refused, asks and deletes with Confluent's Java client, and reads and writes records with Java's Avro. Arguments:
// the registry's address, and what Leat's serde wrote, as hexadecimal. Prints what Java wrote.

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import org.apache.flink.avro.registry.confluent.shaded.io.confluent.kafka.schemaregistry.ParsedSchema;
import org.apache.flink.avro.registry.confluent.shaded.io.confluent.kafka.schemaregistry.avro.AvroSchema;
import org.apache.flink.avro.registry.confluent.shaded.io.confluent.kafka.schemaregistry.client.CachedSchemaRegistryClient;
import org.apache.flink.avro.registry.confluent.shaded.io.confluent.kafka.schemaregistry.client.SchemaMetadata;
import org.apache.flink.avro.registry.confluent.shaded.io.confluent.kafka.schemaregistry.client.rest.entities.SchemaReference;
import org.apache.flink.avro.registry.confluent.shaded.io.confluent.kafka.schemaregistry.client.rest.exceptions.RestClientException;
import org.apache.flink.avro.shaded.org.apache.avro.Schema;
import org.apache.flink.avro.shaded.org.apache.avro.generic.GenericData;
import org.apache.flink.avro.shaded.org.apache.avro.generic.GenericDatumReader;
import org.apache.flink.avro.shaded.org.apache.avro.generic.GenericDatumWriter;
import org.apache.flink.avro.shaded.org.apache.avro.generic.GenericRecord;
import org.apache.flink.avro.shaded.org.apache.avro.io.BinaryEncoder;
import org.apache.flink.avro.shaded.org.apache.avro.io.DecoderFactory;
import org.apache.flink.avro.shaded.org.apache.avro.io.EncoderFactory;

class Check {
  static final String SUBJECT = "java-avro-value";

  static String order(String more) {
    return "{\"type\":\"record\",\"name\":\"Order\",\"namespace\":\"shop\",\"fields\":[{\"name\":\"id\",\"type\":\"string\"},"
        + "{\"name\":\"total\",\"type\":\"long\"}" + more + "]}";
  }

  static void check(boolean ok, Object what) {
    if (!ok) {
      throw new AssertionError(what);
    }
  }

  interface Call { void run() throws Exception; }

  static void refused(int status, int code, Call call) throws Exception {
    try {
      call.run();
    } catch (RestClientException e) {
      check(e.getStatus() == status && e.getErrorCode() == code, e.getStatus() + " " + e.getErrorCode() + " " + e.getMessage());
      return;
    }
    throw new AssertionError("not refused with " + code);
  }

  static GenericRecord read(CachedSchemaRegistryClient client, byte[] data, Schema reader) throws Exception {
    ByteBuffer b = ByteBuffer.wrap(data);
    check(b.get() == 0, "magic byte");
    Schema writer = ((AvroSchema) client.getSchemaBySubjectAndId(SUBJECT, b.getInt())).rawSchema();
    return new GenericDatumReader<GenericRecord>(writer, reader == null ? writer : reader)
        .read(null, DecoderFactory.get().binaryDecoder(data, 5, data.length - 5, null));
  }

  static byte[] write(int id, Schema schema, Map<String, Object> fields) throws Exception {
    GenericRecord record = new GenericData.Record(schema);
    fields.forEach(record::put);
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    out.write(ByteBuffer.allocate(5).put((byte) 0).putInt(id).array());
    BinaryEncoder encoder = EncoderFactory.get().directBinaryEncoder(out, null);
    new GenericDatumWriter<GenericRecord>(schema).write(record, encoder);
    return out.toByteArray();
  }

  public static void main(String[] args) throws Exception {
    CachedSchemaRegistryClient client = new CachedSchemaRegistryClient(List.of(args[0]), 100, Map.of());
    AvroSchema v1 = new AvroSchema(order(""));
    AvroSchema v2 = new AvroSchema(order(",{\"name\":\"currency\",\"type\":\"string\",\"default\":\"EUR\"}"));
    AvroSchema v3 = new AvroSchema(order(",{\"name\":\"coupon\",\"type\":[\"null\",\"string\"]}"));
    int first = client.register(SUBJECT, v1);
    int second = client.register(SUBJECT, v2);
    check(first != second && client.register(SUBJECT, v1) == first, first + " " + second);
    refused(409, 409, () -> client.register(SUBJECT, v3));
    check(!client.testCompatibility(SUBJECT, v3) && client.testCompatibility(SUBJECT, v2), "compatibility");
    check(!client.testCompatibilityVerbose(SUBJECT, v3).isEmpty(), "why");
    SchemaMetadata latest = client.getLatestSchemaMetadata(SUBJECT);
    check(latest.getVersion() == 2 && latest.getId() == second && latest.getSchema().equals(v2.canonicalString()), latest);
    check(client.getVersion(SUBJECT, v1) == 1 && client.getId(SUBJECT, v2) == second, "lookup");
    check(client.getAllVersions(SUBJECT).equals(List.of(1, 2)) && client.getAllSubjects().contains(SUBJECT), "lists");
    check(client.getAllSubjectsById(second).contains(SUBJECT), "subjects of an id");
    refused(404, 40401, () -> client.getLatestSchemaMetadata("none"));
    refused(404, 40402, () -> client.getSchemaMetadata(SUBJECT, 7));
    refused(404, 40403, () -> client.getSchemaById(4711));
    refused(404, 40408, () -> client.getCompatibility(SUBJECT));
    check(client.updateCompatibility(SUBJECT, "FULL").equals("FULL") && client.getCompatibility(SUBJECT).equals("FULL"), "level");
    check(client.getMode().equals("READWRITE") && client.setMode("READONLY", SUBJECT).equals("READONLY"), "mode");
    refused(422, 42205, () -> client.register(SUBJECT, v3));
    check(client.setMode("READWRITE", SUBJECT).equals("READWRITE"), "mode");

    client.register("java-money", new AvroSchema("{\"type\":\"record\",\"name\":\"Money\",\"namespace\":\"shop\",\"fields\":[{\"name\":\"cents\",\"type\":\"long\"}]}"));
    List<SchemaReference> refs = List.of(new SchemaReference("shop.Money", "java-money", 1));
    ParsedSchema priced = client.parseSchema("AVRO", "{\"type\":\"record\",\"name\":\"Priced\",\"namespace\":\"shop\",\"fields\":[{\"name\":\"p\",\"type\":\"Money\"}]}", refs).get();
    int id = client.register("java-priced", priced);
    client.reset();
    check(client.getSchemaById(id).references().equals(refs), "references");
    refused(422, 42206, () -> client.deleteSchemaVersion("java-money", "1"));

    check(read(client, HexFormat.of().parseHex(args[1]), null).get("id").toString().equals("l1"), "what Leat wrote");
    byte[] old = write(first, v1.rawSchema(), Map.of("id", "j1", "total", 5L));
    byte[] next = write(second, v2.rawSchema(), Map.of("id", "j2", "total", 6L, "currency", "USD"));
    check(read(client, old, v2.rawSchema()).get("currency").toString().equals("EUR"), "old with new");
    check(read(client, next, v1.rawSchema()).get("total").equals(6L), "new with old");

    check(client.deleteSubject("java-priced").equals(List.of(1)), "soft delete");
    check(client.deleteSubject("java-priced", true).equals(List.of(1)), "permanent delete");
    System.out.println(HexFormat.of().formatHex(next));
  }
}
