import java.time.Duration;
import java.util.Arrays;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Produced;

/** The word count of Kafka Streams' tutorial, exactly once: WordCount BOOTSTRAP-SERVER STATE-DIR. Says RUNNING when it runs. */
public class WordCount {
    public static void main(String[] args) {
        Properties conf = new Properties();
        conf.put(StreamsConfig.APPLICATION_ID_CONFIG, "java-word-count");
        conf.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        conf.put(StreamsConfig.STATE_DIR_CONFIG, args[1]);
        conf.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        conf.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        conf.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        conf.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        conf.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        conf.put(StreamsConfig.consumerPrefix("session.timeout.ms"), 6000);
        conf.put(StreamsConfig.consumerPrefix("heartbeat.interval.ms"), 1000);
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream("java-lines")
                .flatMapValues(line -> Arrays.asList(line.split(" ")))
                .groupBy((key, word) -> word)
                .count()
                .toStream()
                .to("java-counts", Produced.with(Serdes.String(), Serdes.Long()));
        KafkaStreams streams = new KafkaStreams(builder.build(), conf);
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.RUNNING) {
                System.out.println("RUNNING");
                System.out.flush();
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
        streams.start();
    }
}
