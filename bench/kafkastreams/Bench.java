import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.WindowedSerdes;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.WindowStore;

/**
 * Kafka Streams on the topologies of Leat's benchmarks: one process, one thread, one run, one line of JSON.
 * What is not set in {@link #config} is Kafka Streams' default. The arguments are key=value.
 */
public final class Bench {
  static final Duration WINDOW = Duration.ofSeconds(10);
  static final Serde<Long> KEY = Serdes.Long();
  static final Serde<byte[]> VALUE = Serdes.ByteArray();

  /** What a moment has cost up to it. */
  record Moment(long nanos, long own, long broker) {
    static Moment now(String brokerPid) {
      OperatingSystemMXBean os = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
      return new Moment(System.nanoTime(), os.getProcessCpuTime(), processCpu(brokerPid));
    }
  }

  /** Is told of every record by the one thread, and measures from the first, and from the end of the first fifth, to the last. */
  static final class Probe {
    final long n;
    final String brokerPid;
    final CountDownLatch done = new CountDownLatch(1);
    long at;
    Moment first, steady, last;

    Probe(long n, String brokerPid) {
      this.n = n;
      this.brokerPid = brokerPid;
    }

    boolean record() {
      at++;
      if (at == 1) first = Moment.now(brokerPid);
      if (at == n / 5) steady = Moment.now(brokerPid);
      if (at == n) {
        last = Moment.now(brokerPid);
        done.countDown();
      }
      return true;
    }

    String sample() {
      return String.format(Locale.ROOT, "{\"Rate\":%f,\"Extra\":%f,\"ClientNs\":%f,\"BrokerNs\":%f,\"Resident\":%f}",
          n * 1e9 / (last.nanos - first.nanos), (n - n / 5) * 1e9 / (last.nanos - steady.nanos),
          (double) (last.own - first.own) / n, (double) (last.broker - first.broker) / n, residentMb());
    }
  }

  static long processCpu(String pid) {
    try {
      String stat = Files.readString(Path.of("/proc/" + pid + "/stat"));
      String[] f = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
      return (Long.parseLong(f[11]) + Long.parseLong(f[12])) * 10_000_000L;
    } catch (Exception e) {
      return 0; // somebody else's broker
    }
  }

  static double residentMb() {
    try {
      for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
        if (line.startsWith("VmRSS:")) return Double.parseDouble(line.replaceAll("[^0-9]", "")) * 1024 / 1e6;
      }
    } catch (Exception e) {
      // no /proc
    }
    return 0;
  }

  /** How long it took from the start of this process until now, and how many changelog records were replayed meanwhile. */
  static String startSample(long replayed) {
    long millis = System.currentTimeMillis() - ManagementFactory.getRuntimeMXBean().getStartTime();
    return String.format(Locale.ROOT, "{\"Rate\":%f,\"P50\":%d,\"Extra\":%d}", replayed * 1e3 / millis, millis * 1000, replayed);
  }

  static byte[] halves(byte[] a, byte[] b) {
    byte[] out = new byte[a.length / 2 + b.length / 2];
    System.arraycopy(a, 0, out, 0, a.length / 2);
    System.arraycopy(b, 0, out, a.length / 2, b.length / 2);
    return out;
  }

  static Topology topology(Map<String, String> job, Probe probe) {
    StreamsBuilder b = new StreamsBuilder();
    String out = job.get("out");
    Materialized<Long, Long, KeyValueStore<Bytes, byte[]>> counts = Materialized.as("counts");
    Materialized<Long, byte[], KeyValueStore<Bytes, byte[]>> rows = Materialized.as("rows");
    Materialized<Long, Long, WindowStore<Bytes, byte[]>> windows = Materialized.as("counts");
    KTable<Long, byte[]> table = null;
    if (job.get("kind").equals("table-join")) {
      table = b.table(job.get("other"), Consumed.with(KEY, VALUE), rows.withKeySerde(KEY).withValueSerde(VALUE));
    }
    KStream<Long, byte[]> in = b.stream(job.get("topic"), Consumed.with(KEY, VALUE)).filter((k, v) -> probe.record());
    switch (job.get("kind")) {
      case "stateless" -> in.mapValues(v -> v).to(out, Produced.with(KEY, VALUE));
      case "count" -> in.groupByKey(Grouped.with(KEY, VALUE))
          .count(counts.withKeySerde(KEY).withValueSerde(Serdes.Long()))
          .toStream().to(out, Produced.with(KEY, Serdes.Long()));
      case "windowed" -> in.groupByKey(Grouped.with(KEY, VALUE)).windowedBy(TimeWindows.ofSizeWithNoGrace(WINDOW))
          .count(windows.withKeySerde(KEY).withValueSerde(Serdes.Long()).withRetention(Duration.ofHours(1)))
          .toStream().to(out, Produced.with(WindowedSerdes.timeWindowedSerdeFrom(Long.class, WINDOW.toMillis()), Serdes.Long()));
      case "table-join" -> in.join(table, Bench::halves, Joined.with(KEY, VALUE, VALUE)).to(out, Produced.with(KEY, VALUE));
      case "stream-join" -> {
        KStream<Long, byte[]> other = b.stream(job.get("other"), Consumed.with(KEY, VALUE)).filter((k, v) -> probe.record());
        in.join(other, Bench::halves, JoinWindows.ofTimeDifferenceWithNoGrace(WINDOW),
            StreamJoined.with(KEY, VALUE, VALUE).withName("pairs").withStoreName("pairs")).to(out, Produced.with(KEY, VALUE));
      }
      default -> throw new IllegalArgumentException("no topology " + job.get("kind"));
    }
    return b.build();
  }

  static Properties config(Map<String, String> job) {
    Properties p = new Properties();
    p.put(StreamsConfig.APPLICATION_ID_CONFIG, job.get("id"));
    p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, job.get("addr"));
    p.put(StreamsConfig.STATE_DIR_CONFIG, job.get("dir"));
    p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, job.get("every"));
    p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, "1");
    p.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, "1");
    p.put("auto.offset.reset", "earliest");
    if (job.get("static").equals("true")) p.put("group.instance.id", job.get("id"));
    return p;
  }

  public static void main(String[] args) throws Exception {
    Map<String, String> job = new HashMap<>();
    for (String a : args) {
      String[] kv = a.split("=", 2);
      job.put(kv[0], kv[1]);
    }
    boolean restart = job.get("role").equals("restart"), app = job.get("role").equals("app");
    Probe probe = new Probe(restart ? 1 : app ? Long.MAX_VALUE : Long.parseLong(job.get("n")), job.get("broker"));
    KafkaStreams streams = new KafkaStreams(topology(job, probe), config(job));
    AtomicLong replayed = new AtomicLong();
    streams.setGlobalStateRestoreListener(new StateRestoreListener() {
      @Override public void onRestoreStart(TopicPartition p, String store, long from, long to) {}
      @Override public void onBatchRestored(TopicPartition p, String store, long end, long n) { replayed.addAndGet(n); }
      @Override public void onRestoreEnd(TopicPartition p, String store, long total) {}
    });
    streams.setStateListener((now, before) -> {
      if (app && now == KafkaStreams.State.RUNNING) System.out.println("ready");
      if (now == KafkaStreams.State.ERROR) {
        System.err.println("Kafka Streams has failed");
        Runtime.getRuntime().halt(1);
      }
    });
    streams.start();
    probe.done.await();
    String sample = restart ? startSample(replayed.get()) : probe.sample();
    streams.close(Duration.ofSeconds(60));
    System.out.println(sample);
  }
}
